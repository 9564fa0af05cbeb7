"""Who is corrected when: schedules of turns for agents that share one correction per step.

A schedule is an array of agent numbers, -1 where nobody is corrected, one entry per step. Two
schedules with the same totals differ only in their order; `same_totals` checks that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.core.mersenne import choices, seed_row
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

__all__ = [
    "SCHEDULES",
    "alternating",
    "blocks",
    "equal_totals",
    "fast_random",
    "front_loaded",
    "missed_and_repaid",
    "random",
    "same_totals",
    "schedule_source",
    "thue_morse",
    "totals",
]

Schedule = NDArray[np.int8]


def random(seeds: ArrayLike, steps: int, agents: int = 2) -> Schedule:
    """Everybody equally likely at each step: the reference's own stream for a seed.

    Entry for entry what ``random.Random(seed).choice(range(agents))`` gives; see
    `homeostasis_gym.core.mersenne`.

    Args:
        seeds: Seed of every schedule, at least 0. ``(...)``.
        steps: Length.
        agents: Number of agents.

    Returns:
        ``(..., steps)``.
    """
    _check(steps, agents)
    return choices(seeds, steps, agents)


def fast_random(seeds: ArrayLike, steps: int, agents: int = 2) -> Schedule:
    """Everybody equally likely at each step, from a counter-based generator (Philox) per seed.

    Other draws than those of `random`, to show that a result does not hang on the generator.

    Args:
        seeds: Seed of every schedule, at least 0. ``(...)``.
        steps: Length.
        agents: Number of agents.

    Returns:
        ``(..., steps)``.
    """
    _check(steps, agents)
    seeds = np.asarray(seeds)
    out = np.empty((*seeds.shape, steps), dtype=np.int8)
    for row, seed in zip(out.reshape(-1, steps), seed_row(seeds, 2**63).tolist(), strict=True):
        generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
        row[:] = generator.integers(agents, size=steps, dtype=np.int8)
    return out


def alternating(steps: int, agents: int = 2, first: int = 0) -> Schedule:
    """One after the other, beginning with agent `first`. ``(steps,)``."""
    return blocks(steps, 1, agents, first)


def blocks(steps: int, length: int, agents: int = 2, first: int = 0) -> Schedule:
    """Turns of `length` steps, one agent after the other, beginning with `first`. ``(steps,)``."""
    _check(steps, agents)
    if length < 1:
        raise HomeostasisError(f"`length` must be at least 1, got {length}")
    if not 0 <= first < agents:
        raise HomeostasisError(f"`first` must be in 0..{agents - 1}, got {first}")
    return ((np.arange(steps) // length + first) % agents).astype(np.int8)


def thue_morse(steps: int, agents: int = 2) -> Schedule:
    """The fairest order of turns: the digit sum of the step's number, modulo the agents.

    With two agents this is the Thue-Morse sequence ABBABAAB...: whoever was first in one round is
    second in the next, and so on for rounds of rounds.

    Returns:
        ``(steps,)``.
    """
    _check(steps, agents)
    total = np.zeros(steps, dtype=np.int64)
    if agents > 1:
        rest = np.arange(steps)
        while rest.any():
            total += rest % agents
            rest //= agents
    return (total % agents).astype(np.int8)


def equal_totals(seeds: ArrayLike, steps: int, agents: int = 2) -> Schedule:
    """Exactly equal totals in random order.

    Args:
        seeds: Seed of every schedule, at least 0. ``(...)``.
        steps: Length, a multiple of `agents`.
        agents: Number of agents.

    Returns:
        ``(..., steps)``.
    """
    _check(steps, agents)
    if steps % agents:
        raise HomeostasisError(f"`steps` must be a multiple of {agents} agents, got {steps}")
    seeds = np.asarray(seeds)
    out = np.empty((*seeds.shape, steps), dtype=np.int8)
    for row, seed in zip(out.reshape(-1, steps), seed_row(seeds, 2**63).tolist(), strict=True):
        row[:] = np.arange(steps) % agents
        np.random.Generator(np.random.Philox(key=[seed, 2])).shuffle(row)
    return out


def front_loaded(steps: int, share: float, length: int, agent: int = 0) -> Schedule:
    """Two agents alternate, but one has more than its half at first and as much less at the end.

    The first `length` steps give `agent` the share `share`, spread evenly; the last `length` are
    their mirror image with the agents exchanged, so that the totals are equal.

    Args:
        steps: Length, even.
        share: Share of `agent` in the first `length` steps, 0 to 1.
        length: Length of the loaded part, at most half of `steps`, and even.
        agent: Who is favoured first, 0 or 1.

    Returns:
        ``(steps,)``.
    """
    _check(steps, 2)
    if not 0.0 <= share <= 1.0:
        raise HomeostasisError(f"`share` must be in [0, 1], got {share}")
    if steps % 2 or length % 2:
        raise HomeostasisError(f"`steps` and `length` must be even, got {steps} and {length}")
    if not 0 <= 2 * length <= steps:
        raise HomeostasisError(f"`length` must be in 0..{steps // 2}, got {length}")
    if agent not in (0, 1):
        raise HomeostasisError(f"`agent` must be 0 or 1, got {agent}")
    turns = (np.arange(steps) % 2).astype(np.int8)
    # An even spread: the favoured agent has its turn whenever its entitlement, rounded, grows.
    # Halves go up; 0.6 * 5 is not 3 in binary, hence the inner rounding.
    entitled = np.floor(np.round(share * np.arange(length + 1), 9) + 0.5)
    turns[:length] = (np.diff(entitled) == 0).astype(np.int8)
    if length:
        turns[-length:] = 1 - turns[:length][::-1]
    return turns if agent == 0 else (1 - turns).astype(np.int8)


def missed_and_repaid(steps: int, missed: int, at: int, repaid_at: int, agent: int = 1) -> Schedule:
    """Two agents alternate; one misses a run of its turns and is given as many back later.

    The missed turns go to the other agent, whose own turns repay them: the totals stay equal.

    Args:
        steps: Length, even.
        missed: How many turns in a row are missed.
        at: First step, from 0, at which turns are missed.
        repaid_at: First step at which turns are given back, after the missed ones.
        agent: Who misses, 0 or 1.

    Returns:
        ``(steps,)``.
    """
    turns = alternating(steps)
    if agent not in (0, 1):
        raise HomeostasisError(f"`agent` must be 0 or 1, got {agent}")
    if missed < 0:
        raise HomeostasisError(f"`missed` must be at least 0, got {missed}")
    own = np.flatnonzero((turns == agent) & (np.arange(steps) >= at))[:missed]
    others = np.flatnonzero((turns != agent) & (np.arange(steps) >= repaid_at))[:missed]
    if at < 0 or len(own) < missed or len(others) < missed:
        raise HomeostasisError(
            f"`missed` turns from `at` and from `repaid_at` must fit into {steps} steps, "
            f"got {missed} from {at} and from {repaid_at}"
        )
    if missed and repaid_at <= own[-1]:
        raise HomeostasisError(
            f"`repaid_at` must lie after the last missed turn ({own[-1]}), got {repaid_at}"
        )
    turns[own] = 1 - agent
    turns[others] = agent
    return turns


def totals(schedule: ArrayLike, agents: int = 2) -> NDArray[np.int64]:
    """How many turns every agent has. ``(..., agents)``."""
    order = np.asarray(schedule)
    return np.stack([np.count_nonzero(order == a, axis=-1) for a in range(agents)], axis=-1)


def same_totals(one: ArrayLike, other: ArrayLike, agents: int = 2) -> bool:
    """Whether two schedules give every agent as many turns: then only their order can differ."""
    return bool(np.array_equal(totals(one, agents), totals(other, agents)))


#: Schedules that a name and a few numbers describe: parameters with their defaults.
SCHEDULES: Final[dict[str, dict[str, float]]] = {
    "random": {},
    "fast_random": {},
    "equal_totals": {},
    "alternating": {"first": 0},
    "thue_morse": {},
    "blocks": {"length": 10, "first": 0},
    "front_loaded": {"share": 0.8, "length": 50, "agent": 0},
    "missed_and_repaid": {"missed": 10, "at": 0, "repaid_at": 500, "agent": 1},
}


def schedule_source(
    name: str, steps: int, agents: int = 2, **settings: float
) -> Callable[[NDArray[np.int64]], Schedule]:
    """A schedule by name, as a function from seeds to one schedule per seed.

    Args:
        name: One of `SCHEDULES`.
        steps: Length.
        agents: Number of agents; ``front_loaded`` and ``missed_and_repaid`` are for two.
        **settings: The schedule's own parameters.

    Raises:
        UnknownNameError: No such schedule or parameter.
        HomeostasisError: The schedule cannot be made; the message says why.
    """
    if name not in SCHEDULES:
        raise UnknownNameError(f"`schedule` must be one of {', '.join(SCHEDULES)}, got {name!r}")
    unknown = set(settings) - set(SCHEDULES[name])
    if unknown:
        raise UnknownNameError(
            f"schedule {name} has no parameter {', '.join(sorted(unknown))}; "
            f"it has {', '.join(SCHEDULES[name]) or 'none'}"
        )
    chosen: dict[str, Any] = {**SCHEDULES[name], **settings}
    for key in set(chosen) - {"share"}:
        chosen[key] = round(chosen[key])
    drawn = {"random": random, "fast_random": fast_random, "equal_totals": equal_totals}
    if name in drawn:
        draw = drawn[name]
        return lambda seeds: draw(seeds, steps, agents)
    if name in ("front_loaded", "missed_and_repaid") and agents != 2:
        raise HomeostasisError(f"schedule {name} is for 2 agents, got {agents}")
    if name == "front_loaded":
        turns = front_loaded(steps, **chosen)
    elif name == "missed_and_repaid":
        turns = missed_and_repaid(steps, **chosen)
    elif name == "thue_morse":
        turns = thue_morse(steps, agents)
    elif name == "blocks":
        turns = blocks(steps, agents=agents, **chosen)
    else:
        turns = alternating(steps, agents, **chosen)
    return lambda seeds: np.broadcast_to(turns, (len(seeds), steps))


def _check(steps: int, agents: int) -> None:
    if steps < 0:
        raise HomeostasisError(f"`steps` must be at least 0, got {steps}")
    if not 1 <= agents <= 127:
        raise HomeostasisError(f"`agents` must be in 1..127, got {agents}")
