"""Running the value graph: recorded simulations, single phases, and ensembles of outcomes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.core.mersenne import low_bytes, seed_row
from homeostasis_gym.core.value_graph.kernels import (
    BLOCK,
    RULES,
    interact_kernel,
    outcome_kernel,
    record_kernel,
    utility_kernel,
)
from homeostasis_gym.core.value_graph.params import ValueGraphParams
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

__all__ = [
    "CollapseRule",
    "Outcomes",
    "ScheduleSource",
    "Simulation",
    "initial_state",
    "interact",
    "noise_path",
    "outcomes",
    "simulate",
    "step",
    "tie_bytes",
]

Floats = NDArray[np.float64]

#: A schedule per run: an array ``(runs, steps)``, or a function from seeds to such an array.
ScheduleSource = NDArray[np.int8] | Callable[[NDArray[np.int64]], NDArray[np.int8]]

# A tie takes 1 to 2 bytes on average; a run in which every step is tied must not come to the end.
_TIE_BYTES_PER_STEP = 4
_TIE_BYTES_SPARE = 64
# Most runs have one or two ties: an ensemble begins with so many bytes, and repeats the runs that want more.
_TIE_BYTES_AT_FIRST = 64


class Simulation(NamedTuple):
    """Everything that happened in one run, or in a batch of them with leading axes.

    Attributes:
        values: Levels after each step's correction. ``(steps, agents, values)``.
        utilities: Utilities after each step's interaction, before its correction: those that act in
            the next interaction. ``(steps, agents, values)``.
        who: Agent corrected at each step, -1 for nobody. ``(steps,)``, int8.
        chosen: Value corrected, -1 for none or several. ``(steps,)``, int8.
        amounts: What the correction added to the corrected agent's values. ``(steps, values)``.
        tied: How many values were equally good to correct. ``(steps,)``, int8.
        values0: Levels before the first step. ``(agents, values)``.
        utilities0: Utilities before the first step. ``(agents, values)``.
    """

    values: Floats
    utilities: Floats
    who: NDArray[np.int8]
    chosen: NDArray[np.int8]
    amounts: Floats
    tied: NDArray[np.int8]
    values0: Floats
    utilities0: Floats


@dataclass(frozen=True)
class CollapseRule:
    """When a value counts as collapsed. Every reported rate names the rule that it used.

    Attributes:
        rule: ``negative``: the level is below `level`. ``decline``: the level has lost more
            than the share `level`, above 0 and at most 1, of the greatest level that it has had so far in
            the run; while that is not above 0 there is nothing to lose.
        level: See `rule`; None means 0 for ``negative`` and 0.5 for ``decline``.
        hold: For how many steps in a row this must hold; the onset is the first of them. One step
            below 0 is often undone by the next correction: with ``hold=1`` the rates are higher than
            the published ones, which the default repeats.
    """

    rule: str = "negative"
    level: float | None = None
    hold: int = 20

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UnknownNameError(f"collapse `rule` must be one of {', '.join(RULES)}, got {self.rule!r}")
        if self.level is not None and not np.isfinite(self.level):
            raise HomeostasisError(f"collapse `level` must be finite, got {self.level}")
        if self.rule == "decline" and not 0.0 < self.threshold <= 1.0:
            raise HomeostasisError(
                f"collapse `level` must be a share above 0 and at most 1 with rule decline, got {self.level}"
            )
        if isinstance(self.hold, bool) or not isinstance(self.hold, (int, np.integer)) or self.hold < 1:
            raise HomeostasisError(f"collapse `hold` must be a whole number, at least 1, got {self.hold!r}")

    @property
    def threshold(self) -> float:
        """The level that is used."""
        if self.level is not None:
            return float(self.level)
        return 0.0 if self.rule == "negative" else 0.5

    def __str__(self) -> str:
        """The rule in words, as outputs name it."""
        if self.rule == "negative":
            what = f"negative: level below {self.threshold:g}"
        else:
            what = f"decline: level has lost {self.threshold:.0%} of its peak"
        return what if self.hold == 1 else f"{what}, {self.hold} steps in a row"


@dataclass(frozen=True)
class Outcomes:
    """What an ensemble keeps of its runs.

    Attributes:
        onset: Step (from 1) at which each value collapsed for the first time, 0 for never.
            ``(runs, agents, values)``, int32.
        final_values: Levels after the last step. ``(runs, agents, values)``.
        steps: Length of every run.
        rule: What counted as collapse.
    """

    onset: NDArray[np.int32]
    final_values: Floats
    steps: int
    rule: CollapseRule

    def agent_onset(self, by: int | None = None) -> NDArray[np.int32]:
        """First step of every agent's first collapse, 0 for none. ``(runs, agents)``.

        Args:
            by: Only what could be known by this step counts: the collapse has begun and has lasted as
                long as the rule asks for. None for the last step.
        """
        never = np.iinfo(np.int32).max
        first = np.where(self.onset == 0, never, self.onset).min(axis=2)
        return np.where(first <= self.last_onset(by), first, 0).astype(np.int32)

    def last_onset(self, by: int | None = None) -> int:
        """Last step at which a collapse can have begun that is known by step `by`."""
        return (self.steps if by is None else by) - self.rule.hold + 1

    def collapsed(self, by: int | None = None) -> NDArray[np.int64]:
        """How many agents of each run have collapsed by step `by`. ``(runs,)``."""
        count: NDArray[np.int64] = np.count_nonzero(self.agent_onset(by), axis=1)
        return count

    def first_value(self) -> NDArray[np.int64]:
        """Value that collapsed first in every agent, -1 for none. ``(runs, agents)``.

        Of values that collapse in the same step the one that stands first is named.
        """
        never = np.iinfo(np.int32).max
        masked = np.where(self.onset == 0, never, self.onset)
        found = masked.argmin(axis=2)
        return np.where(masked.min(axis=2) == never, -1, found)


def tie_bytes(seeds: ArrayLike, steps: int) -> NDArray[np.uint8]:
    """The random bytes that settle ties in each run.

    They are the low bytes of the words of ``numpy.random.RandomState(seed)``, from which that
    generator's ``choice`` takes its bits: drawing from them replays the reference's ties.

    Args:
        seeds: Seed of every run, 0 to 2**32 - 1. ``(runs,)``.
        steps: Length of the runs.

    Returns:
        ``(runs, bytes)``; four bytes per step, and some to spare.
    """
    return low_bytes(np.atleast_1d(np.asarray(seeds)), _TIE_BYTES_PER_STEP * steps + _TIE_BYTES_SPARE)


def noise_path(params: ValueGraphParams, seeds: ArrayLike, steps: int) -> Floats:
    """Gaussian noise of each run, from a counter-based generator of its own.

    Args:
        params: Gives the standard deviation and the shape.
        seeds: Seed of every run. ``(...)``.
        steps: Length of the runs.

    Returns:
        ``(..., steps, agents, values)``.
    """
    seeds = np.asarray(seeds)
    out = np.empty((*seeds.shape, steps, *params.shape))
    flat = out.reshape(-1, steps, *params.shape)
    for row, seed in zip(flat, seeds.reshape(-1), strict=True):
        generator = np.random.Generator(np.random.Philox(key=[int(seed), 1]))
        generator.standard_normal(out=row)
    flat *= params.noise
    return out


def initial_state(params: ValueGraphParams) -> tuple[Floats, Floats]:
    """Levels and utilities before the first step, each ``(agents, values)``."""
    values = params.initial_values
    levels = np.ascontiguousarray(values[:, :, None])
    utilities = np.zeros_like(levels)
    utility_kernel(params.graph, np.zeros_like(levels), levels, utilities)
    return values, utilities[:, :, 0]


def interact(
    params: ValueGraphParams,
    values: ArrayLike,
    utilities: ArrayLike,
    *,
    noise: ArrayLike | None = None,
    t: int = 0,
) -> tuple[Floats, Floats]:
    """One interaction phase: what the values do to each other, before any correction.

    Args:
        params: The parameters.
        values: Levels ``(..., agents, values)``.
        utilities: Utilities of the same shape.
        noise: What the environment adds to each level, same shape; None for nothing.
        t: Number of the step, from 0; only an incentive with a limited time looks at it.

    Returns:
        New levels and new utilities, same shape.
    """
    v, batch = _runs_last(params, "values", values)
    u, _ = _runs_last(params, "utilities", utilities, batch)
    if noise is None:
        path = np.empty((*params.shape, 0))
    else:
        path, _ = _runs_last(params, "noise", noise, batch)
    interact_kernel(params.graph, t, path, v, u)
    return _runs_first(v, batch), _runs_first(u, batch)


def step(
    params: ValueGraphParams,
    values: ArrayLike,
    utilities: ArrayLike,
    who: ArrayLike,
    picks: ArrayLike | None = None,
    *,
    noise: ArrayLike | None = None,
    seeds: ArrayLike = 0,
    t: int = 0,
) -> tuple[Floats, Floats]:
    """One whole step from a given state: interaction, then the correction of one agent.

    A strategy that keeps something over time (round robin, memory) starts afresh here.

    Args:
        params: The parameters.
        values: Levels before the step ``(..., agents, values)``.
        utilities: Utilities before the step, same shape.
        who: Agent that is corrected, -1 for nobody. ``(...)``.
        picks: Value to correct, -1 for the agent's own choice; None for own choice. ``(...)``.
        noise: Noise of this step ``(..., agents, values)``; None for none, whatever `params` says.
        seeds: Seeds of the streams that settle ties. ``(...)``.
        t: Number of the step, from 0.

    Returns:
        Levels after the correction and utilities after the interaction, each
        ``(..., agents, values)``.
    """
    v, batch = _runs_last(params, "values", values)
    u, _ = _runs_last(params, "utilities", utilities, batch)
    runs = v.shape[2]
    order = _indices("who", np.broadcast_to(who, batch).reshape(1, runs), params.shape[0])
    chosen = _picks(params, None if picks is None else np.broadcast_to(picks, batch), (1, runs))
    if noise is None:
        path = np.empty((1, *params.shape, 0))
    else:
        path = _runs_last(params, "noise", noise, batch)[0][None]
    words = _tie_words(params, np.broadcast_to(seeds, batch).reshape(-1), 1)
    kept = _record(params, v, u, order, chosen, path, words, t)
    return _runs_first(kept[0][0], batch), _runs_first(kept[1][0], batch)


def simulate(
    params: ValueGraphParams,
    schedule: ArrayLike,
    picks: ArrayLike | None = None,
    *,
    seeds: ArrayLike = 0,
    noise: ArrayLike | None = None,
    start: tuple[ArrayLike, ArrayLike] | None = None,
) -> Simulation:
    """Run the value graph and keep everything.

    Args:
        params: The parameters.
        schedule: Agent that is corrected at each step, -1 for nobody. ``(..., steps)``.
        picks: Value to correct at each step, -1 for the agent's own choice; None for own choice
            throughout. ``(..., steps)``.
        seeds: Seed of each run's ties and noise. ``(...)``.
        noise: Noise path ``(..., steps, agents, values)``; None draws it with `noise_path` if
            ``params.noise`` is not 0.
        start: Levels and utilities before the first step, each ``(agents, values)`` or with the
            batch's leading axes; None for `initial_state`.

    Returns:
        `Simulation`, every array with the leading axes of `schedule`.

    Raises:
        HomeostasisError: An argument has the wrong shape or names an agent or value that is not
            there.
    """
    order = np.asarray(schedule)
    if order.ndim < 1:
        raise HomeostasisError(f"`schedule` must have a last axis of steps, got shape {order.shape}")
    batch, steps = order.shape[:-1], order.shape[-1]
    runs = int(np.prod(batch, dtype=np.int64))
    order = _indices("schedule", order.reshape(runs, steps).T, params.shape[0])
    if picks is not None and np.shape(picks) != (*batch, steps):
        raise HomeostasisError(
            f"`picks` must have the schedule's shape {(*batch, steps)}, got {np.shape(picks)}"
        )
    flat = None if picks is None else np.asarray(picks).reshape(runs, steps).T
    chosen = _picks(params, flat, (steps, runs))
    if np.ndim(seeds) and np.shape(seeds) != batch:
        raise HomeostasisError(f"`seeds` must be one seed or have shape {batch}, got {np.shape(seeds)}")
    seed_row(seeds, 2**32)
    all_seeds = np.broadcast_to(np.asarray(seeds), batch)
    path = _path(params, noise, all_seeds, steps)
    values0, utilities0 = initial_state(params) if start is None else start
    full = (*batch, *params.shape)
    for given in (values0, utilities0):
        if np.shape(given) not in (params.shape, full):
            raise HomeostasisError(
                f"`start` must hold levels and utilities of shape {params.shape} or {full}, "
                f"got {np.shape(given)}"
            )
    values0 = np.broadcast_to(np.asarray(values0, dtype=np.float64), full)
    utilities0 = np.broadcast_to(np.asarray(utilities0, dtype=np.float64), full)
    v, _ = _runs_last(params, "start", values0)
    u, _ = _runs_last(params, "start", utilities0)
    words = _tie_words(params, all_seeds.reshape(-1), steps)
    values, utilities, index, amounts, tied = _record(params, v, u, order, chosen, path, words, 0)

    def restored(array: NDArray[Any]) -> NDArray[Any]:
        """The runs' axis to the front, and unfolded."""
        moved = np.moveaxis(array, -1, 0)
        return np.ascontiguousarray(moved.reshape(*batch, *moved.shape[1:]))

    return Simulation(
        restored(values),
        restored(utilities),
        restored(order),
        restored(index),
        restored(amounts),
        restored(tied),
        values0.copy(),
        utilities0.copy(),
    )


def outcomes(
    params: ValueGraphParams,
    schedule: ScheduleSource,
    seeds: ArrayLike,
    *,
    rule: CollapseRule | None = None,
    noise: Floats | None = None,
    threads: int = 1,
) -> Outcomes:
    """Run an ensemble and keep only when what collapsed, and the final levels.

    No trajectory is stored. Runs are advanced in blocks; a schedule given as a function is asked for
    one block at a time, so that memory does not grow with the number of runs times steps.

    Args:
        params: The parameters.
        schedule: ``(runs, steps)`` or ``(steps,)`` for all, or a function from seeds to it.
        seeds: Seed of every run's ties and noise (and of its schedule, if that is a function), from 0 to
            2**32 - 1. ``(runs,)``.
        rule: What counts as collapse; None for the default `CollapseRule`.
        noise: Noise path ``(runs, steps, agents, values)``; None draws it if ``params.noise`` is
            not 0.
        threads: How many blocks run at the same time, each on its own core.

    Raises:
        HomeostasisError: An argument cannot be used; the message says why.
    """
    rule = rule or CollapseRule()
    if np.ndim(seeds) > 1 or not np.size(seeds):
        raise HomeostasisError(f"`seeds` must be a row of seeds, got shape {np.shape(seeds)}")
    all_seeds: NDArray[np.int64] = seed_row(seeds, 2**32)
    if not callable(schedule):
        if np.ndim(schedule) not in (1, 2):
            raise HomeostasisError(f"`schedule` must be (runs, steps) or (steps,), got {np.shape(schedule)}")
        if np.ndim(schedule) == 2 and len(schedule) != len(all_seeds):
            raise HomeostasisError(
                f"`schedule` must have one row per seed ({len(all_seeds)}), got {len(schedule)} rows"
            )
    if threads < 1:
        raise HomeostasisError(f"`threads` must be at least 1, got {threads}")
    values0, utilities0 = initial_state(params)
    shape = (len(all_seeds), *params.shape)
    onset = np.empty(shape, dtype=np.int32)
    final = np.empty(shape)
    lengths: set[int] = set()

    def run(first: int) -> None:
        part = slice(first, min(first + BLOCK, len(all_seeds)))
        own = all_seeds[part]
        if callable(schedule):
            order = schedule(own)
        else:
            order = schedule[part] if np.ndim(schedule) == 2 else np.asarray(schedule)
        if np.ndim(order) not in (1, 2) or (np.ndim(order) == 2 and len(order) != len(own)):
            raise HomeostasisError(
                f"`schedule` must give one row per seed ({len(own)}), got shape {np.shape(order)}"
            )
        order = np.broadcast_to(order, (len(own), np.shape(order)[-1]))
        steps = order.shape[1]
        lengths.add(steps)
        path = _path(params, None if noise is None else noise[part], own, steps)
        if steps < rule.hold:
            raise HomeostasisError(
                f"`schedule` must have at least the {rule.hold} steps that `rule` holds, got {steps}"
            )
        who = _indices("schedule", order.T, params.shape[0])
        # The strategy that draws in every step wants all of its bytes; ties are rare.
        words = _tie_words(params, own, steps, _TIE_BYTES_AT_FIRST)
        places = np.arange(first, first + len(own))
        while len(places):
            v = np.repeat(values0[:, :, None], len(places), axis=2)
            u = np.repeat(utilities0[:, :, None], len(places), axis=2)
            found = np.zeros(v.shape, dtype=np.int32)
            cursor = np.zeros(len(places), dtype=np.int64)
            outcome_kernel(
                params.graph,
                v,
                u,
                who,
                path,
                words,
                RULES[rule.rule],
                rule.threshold,
                rule.hold,
                cursor,
                found,
            )
            onset[places] = np.moveaxis(found, 2, 0)
            final[places] = np.moveaxis(v, 2, 0)
            # Runs that came to the end of their bytes begin again with as many as a run can have.
            short = np.flatnonzero(cursor > words.shape[1])
            if words.shape[1] != _TIE_BYTES_AT_FIRST or not len(short):
                break
            places, who = places[short], np.ascontiguousarray(who[:, short])
            path = np.ascontiguousarray(path[..., short]) if path.shape[-1] else path
            words = tie_bytes(all_seeds[places], steps)

    starts = range(0, len(all_seeds), BLOCK)
    if threads == 1:
        for first in starts:
            run(first)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, starts))
    if len(lengths) != 1:
        raise HomeostasisError(f"`schedule` must give runs of one length, got {sorted(lengths)}")
    return Outcomes(onset, final, lengths.pop(), rule)


def _record(
    params: ValueGraphParams,
    v: Floats,
    u: Floats,
    who: NDArray[np.int8],
    picks: NDArray[np.int8],
    noise: Floats,
    words: NDArray[np.uint8],
    t: int,
) -> tuple[Floats, Floats, NDArray[np.int8], Floats, NDArray[np.int8]]:
    """Call the recording kernel on arrays with the runs last; `v` and `u` are overwritten."""
    steps, runs = who.shape
    n_agents, n_values = params.shape
    values = np.empty((steps, n_agents, n_values, runs))
    utilities = np.empty_like(values)
    index = np.empty((steps, runs), dtype=np.int8)
    tied = np.empty((steps, runs), dtype=np.int8)
    amounts = np.zeros((steps, n_values, runs))
    record_kernel(
        params.graph,
        t,
        v,
        u,
        who,
        picks,
        noise,
        words,
        np.zeros((n_agents, runs), dtype=np.int64),
        np.zeros_like(v),
        np.zeros(runs, dtype=np.int64),
        values,
        utilities,
        index,
        amounts,
        tied,
    )
    return values, utilities, index, amounts, tied


def _tie_words(
    params: ValueGraphParams, seeds: NDArray[Any], steps: int, at_first: int | None = None
) -> NDArray[np.uint8]:
    """The bytes that settle ties, as kernels read them: none where the first of the tied is taken.

    With `at_first` only so many, unless a strategy draws in every step.
    """
    if "random" in params.strategies:
        return tie_bytes(seeds, steps)
    if params.ties == "first":
        return np.empty((len(seeds), 0), dtype=np.uint8)
    return tie_bytes(seeds, steps) if at_first is None else low_bytes(seeds, at_first)


def _path(params: ValueGraphParams, noise: Any, seeds: NDArray[Any], steps: int) -> Floats:
    """Noise as kernels read it, ``(steps, agents, values, runs)``; without runs if there is none."""
    if noise is None:
        if params.noise == 0.0:
            return np.empty((steps, *params.shape, 0))
        noise = noise_path(params, seeds, steps)
    expected = (*seeds.shape, steps, *params.shape)
    path = np.asarray(noise, dtype=np.float64)
    if path.shape != expected:
        raise HomeostasisError(f"`noise` must have shape {expected}, got {path.shape}")
    path = path.reshape(-1, steps, *params.shape)
    return np.ascontiguousarray(np.moveaxis(path, 0, -1))


def _indices(name: str, array: NDArray[Any], count: int) -> NDArray[np.int8]:
    """Check indices (-1 for none) and bring them into the form that kernels read."""
    if not np.issubdtype(array.dtype, np.integer):
        raise HomeostasisError(f"`{name}` must hold integers, got {array.dtype}")
    if array.size and not (array.min() >= -1 and array.max() < count):
        raise HomeostasisError(
            f"`{name}` must hold numbers from -1 to {count - 1}, got {array.min()} to {array.max()}"
        )
    return np.ascontiguousarray(array, dtype=np.int8)


def _picks(params: ValueGraphParams, picks: Any, shape: tuple[int, int]) -> NDArray[np.int8]:
    if picks is None:
        return np.full(shape, -1, dtype=np.int8)
    return _indices("picks", np.asarray(picks).reshape(shape), params.shape[1])


def _runs_last(
    params: ValueGraphParams, name: str, array: ArrayLike, batch: tuple[int, ...] | None = None
) -> tuple[Floats, tuple[int, ...]]:
    """A fresh copy with all leading axes folded into one that stands last, and those axes."""
    given = np.asarray(array, dtype=np.float64)
    if given.ndim < 2 or given.shape[-2:] != params.shape:
        raise HomeostasisError(
            f"`{name}` must end in the axes (agents, values) = {params.shape}, got {given.shape}"
        )
    if batch is not None and given.shape[:-2] != batch:
        raise HomeostasisError(f"`{name}` must have leading axes {batch}, got {given.shape[:-2]}")
    folded = given.reshape(-1, *params.shape)
    # Always a copy: the kernels write into it.
    return np.array(np.moveaxis(folded, 0, -1), order="C"), given.shape[:-2]


def _runs_first(array: Floats, batch: tuple[int, ...]) -> Floats:
    moved = np.moveaxis(array, -1, 0)
    return cast(Floats, np.ascontiguousarray(moved.reshape(*batch, *moved.shape[1:])))
