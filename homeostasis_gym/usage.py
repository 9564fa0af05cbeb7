"""What agents that converse used: tokens as they stand in the records, and money where a price is known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from homeostasis_gym.agent import Attempt
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.trajectory import Trajectory

__all__ = ["Pricing", "Usage", "usage"]


@dataclass(frozen=True)
class Pricing:
    """What an agent's exchanges cost.

    Attributes:
        costs: Price of an exchange in dollars; None where it is not known, or where nothing is paid.
        note: At which prices, or why none is known; empty where nothing is paid.
    """

    costs: Callable[[Attempt], float] | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens and money of several episodes of one agent. None is unknown, and never means zero.

    Attributes:
        episodes: Number of episodes, copies included.
        exchanges: Number of requests that were answered.
        uncounted: Of these, how many carry no count of tokens; the tokens below leave them out.
        prompt: Prompt tokens that were read, all episodes together.
        cached: Prompt tokens that came from a prefix cache, likewise.
        completion: Tokens that were written, likewise.
        cost: Dollars, likewise.
        cost_note: At which prices, or why the cost is not known.
    """

    episodes: int
    exchanges: int
    uncounted: int
    prompt: int | None
    cached: int | None
    completion: int | None
    cost: float | None
    cost_note: str = ""

    @property
    def cached_share(self) -> float | None:
        """Share of the prompt tokens that came from a prefix cache."""
        if self.prompt is None or self.cached is None or not self.prompt + self.cached:
            return None
        return self.cached / (self.prompt + self.cached)

    def per_episode(self, total: float | None) -> float | None:
        """A total, per episode."""
        return None if total is None else total / self.episodes

    def to_dict(self) -> dict[str, Any]:
        """Means per episode and the cost of all of them, as data that JSON can hold; unknown is null."""
        return {
            "episodes": self.episodes,
            "exchanges": self.exchanges,
            "uncounted_exchanges": self.uncounted,
            "prompt_tokens_per_episode": self.per_episode(self.prompt),
            "cached_tokens_per_episode": self.per_episode(self.cached),
            "cached_share": self.cached_share,
            "completion_tokens_per_episode": self.per_episode(self.completion),
            "cost_per_episode": self.per_episode(self.cost),
            "cost": self.cost,
            "cost_note": self.cost_note,
        }

    def __str__(self) -> str:
        """One line: tokens per episode, and what they cost."""
        if self.prompt is None or self.cached is None or self.completion is None:
            text = "tokens per episode: not counted"
        else:
            share = self.cached_share
            text = (
                f"tokens per episode: {self.prompt / self.episodes:,.0f} read, "
                f"{self.cached / self.episodes:,.0f} from a prefix cache"
                f"{'' if share is None else f' ({100 * share:.1f} %)'}, "
                f"{self.completion / self.episodes:,.0f} written"
            )
            if self.uncounted:
                text += f" ({self.uncounted} of {self.exchanges} exchanges were not counted)"
        if self.cost is not None:
            text += f"; ${self.cost / self.episodes:.4f} per episode, ${self.cost:.4f} together"
        if self.cost_note:
            text += f"{', ' if self.cost is not None else '; '}{self.cost_note}"
        return text


def usage(trajectories: Sequence[Trajectory], pricing: Pricing | None = None) -> Usage | None:
    """Add up what the episodes of one agent used; None if it never conversed.

    Args:
        trajectories: Its episodes.
        pricing: What an exchange costs.
    """
    pricing = pricing or Pricing()
    exchanges = [attempt for t in trajectories for step in t.attempts for attempt in step]
    if not exchanges:
        return None
    counted = [a for a in exchanges if a.prompt_tokens >= 0 and a.completion_tokens >= 0]
    cost, note = None, pricing.note
    if pricing.costs is not None:
        try:
            cost = math.fsum(map(pricing.costs, exchanges))
        except HomeostasisError as error:
            note = f"cost not known: {error}"
    return Usage(
        episodes=len(trajectories),
        exchanges=len(exchanges),
        uncounted=len(exchanges) - len(counted),
        prompt=sum(a.prompt_tokens for a in counted) if counted else None,
        cached=sum(max(0, a.cached_tokens) for a in counted) if counted else None,
        completion=sum(a.completion_tokens for a in counted) if counted else None,
        cost=cost,
        cost_note=note,
    )
