"""What a run costs: tokens counted by the provider, prices from a file that the user can edit.

The prices that come with the package are examples, written from memory: whatever tells an amount that rests
on them says so.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homeostasis_agents.llm.agent import ConversationSettings
from homeostasis_agents.llm.client import Client, Reply, Request, Usage
from homeostasis_gym.agent import Attempt
from homeostasis_gym.errors import BudgetError, HomeostasisError

if TYPE_CHECKING:
    from homeostasis_gym.experiments.payments import Payments

__all__ = [
    "BudgetError",
    "Estimate",
    "Meter",
    "MeteredClient",
    "Price",
    "estimate",
    "known_price",
    "read_prices",
]


@dataclass(frozen=True)
class Price:
    """Price of a model in dollars per million tokens.

    Args:
        input: Prompt tokens that are read.
        cached: Prompt tokens from the provider's cache.
        output: Tokens written.
        note: What must be said wherever an amount rests on this price; empty for the user's own prices.
    """

    input: float
    cached: float
    output: float
    note: str = field(default="", compare=False)

    @property
    def free(self) -> bool:
        """Whether nothing is paid."""
        return self.input == self.cached == self.output == 0

    def of(self, usage: Usage) -> float:
        """What an exchange cost, in dollars."""
        counts = (max(0, usage.uncached), max(0, usage.cached), max(0, usage.completion))
        prices = (self.input, self.cached, self.output)
        return sum(count * price for count, price in zip(counts, prices, strict=True)) / 1e6

    def of_attempt(self, attempt: Attempt) -> float:
        """What an exchange of a record cost, in dollars.

        A reply that could not be read carries no counts and is taken to have cost nothing.

        Raises:
            BudgetError: The provider did not say what it counted.
        """
        if _uncounted(attempt.prompt_tokens, attempt.finish_reason):
            raise BudgetError(_NO_COUNTS)
        return self.of(Usage(attempt.prompt_tokens, attempt.cached_tokens, attempt.completion_tokens))


_NO_COUNTS = "stopped: `max_cost` is set, but the provider reports no token counts"


def _uncounted(prompt_tokens: int, finish_reason: str) -> bool:
    return prompt_tokens < 0 and not finish_reason.startswith(("unreadable", "empty"))


def read_prices(path: Path | str | None = None) -> dict[str, Price]:
    """Read a price file: JSON, ``{"MODEL": {"input": .., "cached": .., "output": ..}}``.

    Args:
        path: The file; None for the one that comes with the package. Its prices are examples, written from
            memory: to be checked, and replaced by a file of your own.

    Raises:
        HomeostasisError: The file cannot be read or does not hold prices.
    """
    source = files("homeostasis_agents.llm").joinpath("prices.json") if path is None else Path(path)
    try:
        content = json.loads(source.read_text(encoding="utf-8"))
        prices = {}
        note = ""
        if path is None:
            note = f"example prices as of {content['_as_of']}: check them, {_OWN_FILE}"
        for name, price in content.items():
            if name.startswith("_"):
                continue
            if set(price) != {"input", "cached", "output"}:
                raise TypeError(f"{name} must have input, cached and output, got {sorted(price)}")
            numbers = [float(price[kind]) for kind in ("input", "cached", "output")]
            if not all(math.isfinite(number) and number >= 0 for number in numbers):
                raise HomeostasisError(f"a price of {name} in {source} must be at least 0, got {price}")
            prices[name] = Price(numbers[0], numbers[1], numbers[2], note if any(numbers) else "")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, HomeostasisError):
            raise
        raise HomeostasisError(
            f"`prices` must be a JSON file of {{model: {{input, cached, output}}}}, but {source}: {error}"
        ) from error
    return prices


_OWN_FILE = "and give a file of your own (--prices FILE, or the setting `prices`)"


def known_price(model: str, path: Path | str | None = None) -> Price:
    """The price of a model, for whoever has to keep a limit.

    Args:
        model: Its name.
        path: See `read_prices`.

    Raises:
        HomeostasisError: The price file cannot be read or does not have the model.
    """
    prices = read_prices(path)
    if model not in prices:
        source = "the example prices of the package" if path is None else f"the price file {path}"
        raise HomeostasisError(
            f"`max_cost` needs a price of {model}, which is not in {source}; name a price file that has it "
            "(--prices FILE, or the setting `prices`)"
        )
    return prices[model]


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
            note = f" ({self.price.note})" if self.price is not None and self.price.note else ""
            raise BudgetError(
                f"stopped: ${self.cost:.4f} of the allowed ${self.max_cost:.4f} (max_cost) is spent{note}; "
                "finished episodes are kept"
            )

    def add(self, usage: Usage) -> None:
        """Count an exchange.

        Raises:
            BudgetError: Money is limited, but the provider does not say what it counted.
        """
        if self.max_cost is not None and usage.uncached < 0:
            raise BudgetError(_NO_COUNTS)
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
        payments: Of a run that keeps what it paid for and limits what it spends; None outside of a run.

    Attributes:
        before_first: Called once, before the first request.
    """

    before_first: Callable[[], None] | None = None

    def __init__(self, client: Client, meter: Meter, payments: Payments | None = None) -> None:
        self.payments = payments
        self._recalled = False
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
        """Answer a request, unless the money is spent; what was paid for before is not asked again."""
        if self.payments is not None:
            return self._paid_once(request, self.payments)
        return self._ask(request)

    def _paid_once(self, request: Request, payments: Payments) -> Reply:
        question = _question(request)
        known = payments.recall(question)
        if known is not None:
            self._recalled = True
            return Reply.recorded(known)
        payments.check()
        if self._recalled:
            # The server has not heard this conversation: its prefix cache, if it keeps one, is another's.
            request, self._recalled = replace(request, fresh=True), False
        reply = self._ask(request)
        payments.pay(question, reply.attempt("", ""))
        return reply

    def _ask(self, request: Request) -> Reply:
        if self.before_first is not None:
            tell, self.before_first = self.before_first, None
            tell()
        self.meter.check()
        reply = self.client.complete(request)
        if reply.usage.uncached >= 0 or _uncounted(reply.usage.uncached, reply.finish_reason):
            self.meter.add(reply.usage)
        return reply


def _question(request: Request) -> str:
    """What stands for a request: the same for the same question at the same place of an episode."""
    asked = {
        "messages": [asdict(message) for message in request.messages],
        "max_tokens": request.max_tokens,
        "seed": request.seed,
        "constraint": None if request.constraint is None else asdict(request.constraint),
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


@dataclass(frozen=True)
class Estimate:
    """Expected tokens of one episode or several, and their price with and without a prefix cache.

    Attributes:
        new: Prompt tokens that are new at their step.
        repeated: Prompt tokens that were sent before, and come from a prefix cache if there is one.
        completion: Tokens written.
        cost: Dollars with a prefix cache that always holds; None without a price.
        cost_uncached: Dollars without any.
        episodes: How many episodes.
        note: What must be said of the price.
    """

    new: int
    repeated: int
    completion: int
    cost: float | None = None
    cost_uncached: float | None = None
    episodes: int = 1
    note: str = ""

    def __str__(self) -> str:
        many = f"{self.episodes} episodes are" if self.episodes > 1 else "an episode is"
        text = (
            f"{many} expected to take {self.new + self.repeated:,} prompt tokens (of these "
            f"{self.repeated:,} again, from a prefix cache if there is one) and {self.completion:,} written"
        )
        if self.cost is None:
            return f"{text}; no price is known for the model"
        note = f" ({self.note})" if self.note else ""
        return f"{text}: ${self.cost:.4f} with a prefix cache, ${self.cost_uncached:.4f} without{note}"


def estimate(
    settings: ConversationSettings,
    opening: str,
    steps: int,
    price: Price | None = None,
    tokens_per_turn: int = 45,
    tokens_per_reply: int = 8,
    episodes: int = 1,
) -> Estimate:
    """Estimate episodes before they are paid for. Retries and growing numbers come on top.

    Args:
        settings: How the agent talks.
        opening: Everything that stands before the first turn.
        steps: Steps of an episode.
        price: Price of the model.
        tokens_per_turn: Prompt tokens that a turn adds, its reply included.
        tokens_per_reply: Tokens of a reply.
        episodes: How many episodes.
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
    new, repeated = episodes * new, episodes * max(0, repeated)
    written = episodes * tokens_per_reply * steps
    if price is None:
        return Estimate(new, repeated, written, episodes=episodes)
    return Estimate(
        new,
        repeated,
        written,
        price.of(Usage(new, repeated, written)),
        price.of(Usage(new + repeated, 0, written)),
        episodes,
        price.note,
    )


@functools.cache
def say(text: str) -> None:
    """Tell the user something beside the results, once in this process."""
    print(text, file=sys.stderr, flush=True)
