"""What of the conversation so far a request carries.

Every policy gives the messages between the instructions and the current observation. As long as a policy
only ever appends, the backend's prefix cache holds and a step costs the new tokens alone; what a policy
drops, changes or summarises makes the backend read again everything behind that place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from homeostasis_agents.llm.checks import check_choice
from homeostasis_agents.llm.client import Message
from homeostasis_gym.core.benchmark import check_integer

__all__ = ["HIDDEN", "KINDS", "RECALL", "History", "HistoryKind", "HistoryPolicy", "Turn"]

HistoryKind: TypeAlias = Literal["full", "window", "blind", "summary"]

KINDS: tuple[str, ...] = ("full", "window", "blind", "summary")


@dataclass(frozen=True)
class HistoryPolicy:
    """How much the model is shown of what was.

    Args:
        kind: ``full``: everything. ``window``: the last `turns` turns. ``blind``: nothing but the current
            observation. ``summary``: a summary that the model itself writes of the older turns, and the
            turns since.
        turns: Turns kept by ``window``; for ``summary``, turns that may pile up before the older half is
            summarised.
        slack: For ``window``: turns by which the window may outgrow `turns` before it is cut back to
            `turns`. 0 is exact; with more, the prefix cache holds between two cuts.
        actions: Of the turns shown, in how many of the latest the model's own replies are shown; None for
            all. A turn whose reply is hidden keeps its observation.
        observations: Likewise for the observations.
    """

    kind: HistoryKind = "full"
    turns: int = 8
    slack: int = 0
    actions: int | None = None
    observations: int | None = None

    def __post_init__(self) -> None:
        check_choice("history", self.kind, KINDS)
        check_integer("turns", self.turns, 2 if self.kind == "summary" else 1)
        check_integer("slack", self.slack, 0)
        for name in ("actions", "observations"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), 0)


@dataclass(frozen=True)
class Turn:
    """One finished step: what the model was told and what it answered."""

    observation: str
    reply: str


HIDDEN = "..."
"""Stands for a hidden observation or reply, so that the roles keep alternating; the model reads it."""

RECALL = "What happened before, in your own words?"
"""Stands before the model's own summary."""


class History:
    """The turns of one episode under a policy.

    Args:
        policy: What to show.
    """

    def __init__(self, policy: HistoryPolicy) -> None:
        self.policy = policy
        self.summary = ""
        self.dropped = 0
        self._turns: list[Turn] = []

    def __len__(self) -> int:
        return len(self._turns)

    def append(self, turn: Turn) -> None:
        """Add a finished turn, and let go of what the policy does not keep."""
        self._turns.append(turn)
        kind = self.policy.kind
        if kind == "blind":
            self._drop(1)
        elif kind == "window" and len(self._turns) > self.policy.turns + self.policy.slack:
            self._drop(len(self._turns) - self.policy.turns)

    def messages(self) -> list[Message]:
        """The messages that stand between the instructions and the current observation."""
        found: list[Message] = []
        if self.summary:
            found += [
                Message("user", RECALL),
                Message("assistant", self.summary),
            ]
        count = len(self._turns)
        first_action = _first(count, self.policy.actions)
        first_observation = _first(count, self.policy.observations)
        for i, turn in enumerate(self._turns):
            if i < first_action and i < first_observation:
                continue
            found.append(Message("user", turn.observation if i >= first_observation else HIDDEN))
            found.append(Message("assistant", turn.reply if i >= first_action else HIDDEN))
        return found

    def due_for_summary(self) -> Sequence[Turn]:
        """The older half of the turns once too many have piled up, empty otherwise."""
        if self.policy.kind != "summary" or len(self._turns) <= self.policy.turns:
            return ()
        return tuple(self._turns[: len(self._turns) // 2])

    def summarise(self, text: str, turns: int) -> None:
        """Put a summary, which includes the one before, in the place of the `turns` oldest turns."""
        self.summary = text
        self._drop(turns)

    def drop_oldest_half(self) -> bool:
        """Make room. Half at once, because every dropped turn costs the whole prefix cache.

        Returns:
            Whether there was anything to drop.
        """
        if not self._turns:
            return False
        self._drop((len(self._turns) + 1) // 2)
        return True

    def _drop(self, count: int) -> None:
        del self._turns[:count]
        self.dropped += count


def _first(count: int, limit: int | None) -> int:
    return 0 if limit is None else max(0, count - limit)
