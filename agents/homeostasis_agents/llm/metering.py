"""What a run costs: tokens counted by the provider, prices from a file that the user can edit."""

from __future__ import annotations

import functools
import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from homeostasis_agents.llm.agent import ConversationSettings
from homeostasis_agents.llm.client import Client, Reply, Request, Usage
from homeostasis_gym.errors import HomeostasisError

__all__ = ["BudgetError", "Estimate", "Meter", "MeteredClient", "Price", "estimate", "read_prices"]


class BudgetError(HomeostasisError):
    """The money that the user allowed is spent; finished episodes are kept."""


@dataclass(frozen=True)
class Price:
    """Price of a model in dollars per million tokens.

    Args:
        input: Prompt tokens that are read.
        cached: Prompt tokens from the provider's cache.
        output: Tokens written.
    """

    input: float
    cached: float
    output: float

    def of(self, usage: Usage) -> float:
        """What an exchange cost, in dollars."""
        counts = (max(0, usage.uncached), max(0, usage.cached), max(0, usage.completion))
        prices = (self.input, self.cached, self.output)
        return sum(count * price for count, price in zip(counts, prices, strict=True)) / 1e6


def read_prices(path: Path | str | None = None) -> dict[str, Price]:
    """Read a price file: JSON, ``{"MODEL": {"input": .., "cached": .., "output": ..}}``.

    Args:
        path: The file; None for the one that comes with the package, whose prices are the providers' list
            prices on the day that it names.

    Raises:
        HomeostasisError: The file cannot be read or does not hold prices.
    """
    source = files("homeostasis_agents.llm").joinpath("prices.json") if path is None else Path(path)
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        prices = {}
        for name, price in content.items():
            if name.startswith("_"):
                continue
            prices[name] = Price(**{key: float(value) for key, value in price.items()})
            if min(asdict(prices[name]).values()) < 0:
                raise HomeostasisError(f"a price of {name} in {source} must not be negative")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, HomeostasisError):
            raise
        raise HomeostasisError(
            f"`prices` must be a JSON file of {{model: {{input, cached, output}}}}, but {source}: {error}"
        ) from error
    return prices


@dataclass
class Meter:
    """Counts tokens and money over any number of conversations at once.

    Args:
        price: Price of the model, None when unknown.
        max_cost: Dollars after which no further request is made; None for no limit.

    Raises:
        HomeostasisError: A limit without a price.
    """

    price: Price | None = None
    max_cost: float | None = None
    uncached: int = 0
    cached: int = 0
    completion: int = 0
    requests: int = 0
    cost: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        if self.max_cost is not None and self.price is None:
            raise HomeostasisError("`max_cost` needs a price for the model in the price file, got none")
        if self.max_cost is not None and self.max_cost < 0:
            raise HomeostasisError(f"`max_cost` must be at least 0, got {self.max_cost}")

    def check(self) -> None:
        """Raise BudgetError if the money is spent."""
        if self.max_cost is not None and self.cost >= self.max_cost:
            raise BudgetError(
                f"stopped: ${self.cost:.4f} of the allowed ${self.max_cost:.4f} (max_cost) is spent; "
                "finished episodes are kept, and the same command with a higher max_cost goes on from there"
            )

    def add(self, usage: Usage) -> None:
        """Count an exchange.

        Raises:
            BudgetError: Money is limited, but the provider does not say what it counted.
        """
        if self.max_cost is not None and usage.uncached < 0:
            raise BudgetError("stopped: `max_cost` is set, but the provider reports no token counts")
        with self._lock:
            self.requests += 1
            self.uncached += max(0, usage.uncached)
            self.cached += max(0, usage.cached)
            self.completion += max(0, usage.completion)
            if self.price is not None:
                self.cost += self.price.of(usage)


class MeteredClient:
    """Another client, with its tokens and money counted and an estimate told before the first request.

    Args:
        client: Whoever answers.
        meter: What counts; shared by all conversations that share a budget.

    Attributes:
        before_first: Called once, before the first request.
    """

    before_first: Callable[[], None] | None = None

    def __init__(self, client: Client, meter: Meter) -> None:
        self.name = client.name
        self.context_tokens = client.context_tokens
        self.constraints = client.constraints
        self.client = client
        self.meter = meter

    @property
    def record(self) -> Mapping[str, Any]:
        """What every record says of the client."""
        return {**getattr(self.client, "record", {}), "max_cost": self.meter.max_cost}

    def complete(self, request: Request) -> Reply:
        """Answer a request, unless the money is spent."""
        if self.before_first is not None:
            tell, self.before_first = self.before_first, None
            tell()
        self.meter.check()
        reply = self.client.complete(request)
        if reply.usage.uncached >= 0 or not reply.finish_reason.startswith(("unreadable", "empty")):
            self.meter.add(reply.usage)
        return reply


@dataclass(frozen=True)
class Estimate:
    """Expected tokens of one episode, and its price with and without a prefix cache.

    Attributes:
        new: Prompt tokens that are new at their step.
        repeated: Prompt tokens that were sent before, and come from a prefix cache if there is one.
        completion: Tokens written.
        cost: Dollars with a prefix cache that always holds; None without a price.
        cost_uncached: Dollars without any.
    """

    new: int
    repeated: int
    completion: int
    cost: float | None = None
    cost_uncached: float | None = None

    def __str__(self) -> str:
        text = (
            f"an episode is expected to take {self.new + self.repeated:,} prompt tokens (of these "
            f"{self.repeated:,} again, from a prefix cache if there is one) and {self.completion:,} written"
        )
        if self.cost is None:
            return f"{text}; no price is known for the model"
        return f"{text}: ${self.cost:.4f} with a prefix cache, ${self.cost_uncached:.4f} without"


def estimate(
    settings: ConversationSettings,
    opening: str,
    steps: int,
    price: Price | None = None,
    tokens_per_turn: int = 45,
    tokens_per_reply: int = 8,
) -> Estimate:
    """Estimate an episode before it is paid for. Retries and growing numbers come on top.

    Args:
        settings: How the agent talks.
        opening: Everything that stands before the first turn.
        steps: Steps of an episode.
        price: Price of the model.
        tokens_per_turn: Prompt tokens that a turn adds, its reply included.
        tokens_per_reply: Tokens of a reply.
    """
    start = len(opening) // 4
    policy = settings.history
    kept = {"full": steps, "window": policy.turns, "blind": 0, "summary": policy.turns}[policy.kind]
    shown = [min(t, kept) for t in range(steps)]
    if policy.kind == "full":
        new = start + tokens_per_turn * steps
        repeated = sum(start + tokens_per_turn * turns for turns in shown) - start
    else:
        new = start + sum(tokens_per_turn * (1 + turns) for turns in shown)
        repeated = start * (steps - 1)
    written = tokens_per_reply * steps
    if price is None:
        return Estimate(new, max(0, repeated), written)
    return Estimate(
        new,
        max(0, repeated),
        written,
        price.of(Usage(new, max(0, repeated), written)),
        price.of(Usage(new + max(0, repeated), 0, written)),
    )


@functools.cache
def say(text: str) -> None:
    """Tell the user something beside the results, once in this process."""
    print(text, file=sys.stderr, flush=True)
