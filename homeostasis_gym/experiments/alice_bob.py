"""Ensembles of value graphs: how often, when and in what order ALICE and BOB collapse.

A summary says what its rule of collapse was and gives every rate with its Wilson interval. A phase
map repeats the ensemble, with the same seeds, over a grid of two parameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse.statistics import wilson_interval
from homeostasis_gym.core.schedules import SCHEDULES, schedule_source
from homeostasis_gym.core.value_graph import (
    CollapseRule,
    Outcomes,
    ValueGraphParams,
    outcomes,
    with_parameter,
)
from homeostasis_gym.errors import HomeostasisError, MissingExtraError, UnknownNameError

__all__ = [
    "Axis",
    "Ensemble",
    "PhaseMap",
    "Rate",
    "Summary",
    "Survival",
    "available_threads",
    "phase_map",
    "run_ensemble",
    "summarize",
    "survival",
]


# Runs of a phase map's cell that are held at the same time.
_CHUNK = 16384


def available_threads() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


@dataclass(frozen=True)
class Rate:
    """A proportion of runs with its interval.

    Attributes:
        count: Runs that show it.
        total: All runs.
        low: Lower end of the Wilson interval.
        high: Upper end.
    """

    count: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: NDArray[np.bool_]) -> Rate:
        """The rate at which `hits` are true."""
        count = int(np.count_nonzero(hits))
        return cls(count, hits.size, *wilson_interval(count, hits.size))

    @property
    def rate(self) -> float:
        """The proportion itself."""
        return self.count / self.total

    def __str__(self) -> str:
        return f"{self.rate:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, Any]:
        """As plain data, the proportion included."""
        return {"rate": self.rate, **asdict(self)}


@dataclass(frozen=True)
class Ensemble:
    """An ensemble of runs that differ in their seed alone.

    Attributes:
        params: The value graph.
        schedule: Name of the schedule of turns, one of `homeostasis_gym.core.schedules.SCHEDULES`.
        settings: The schedule's own parameters.
        seeds: Number of runs.
        first_seed: Seed of the first run; the others follow.
        steps: Length of a run.
        rule: What counts as collapse.
    """

    params: ValueGraphParams
    schedule: str = "random"
    settings: tuple[tuple[str, float], ...] = ()
    seeds: int = 1000
    first_seed: int = 0
    steps: int = 1000
    rule: CollapseRule = field(default_factory=CollapseRule)

    def __post_init__(self) -> None:
        for name in ("seeds", "first_seed", "steps"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
                raise HomeostasisError(f"`{name}` must be a whole number, got {number!r}")
        if self.seeds < 1:
            raise HomeostasisError(f"`seeds` must be at least 1, got {self.seeds}")
        if self.first_seed < 0 or self.first_seed + self.seeds > 2**32:
            raise HomeostasisError(f"`first_seed` must keep all seeds in 0..2**32-1, got {self.first_seed}")
        if self.steps < self.rule.hold:
            raise HomeostasisError(
                f"`steps` must be at least the rule's hold ({self.rule.hold}), got {self.steps}"
            )
        self.source()

    @property
    def all_seeds(self) -> NDArray[np.int64]:
        """The seeds of the runs."""
        return np.arange(self.first_seed, self.first_seed + self.seeds, dtype=np.int64)

    def source(self) -> Callable[[NDArray[np.int64]], NDArray[np.int8]]:
        """The schedule as a function of the seeds."""
        return schedule_source(self.schedule, self.steps, len(self.params.agents), **dict(self.settings))

    def with_number(self, name: str, value: float) -> Ensemble:
        """The ensemble with one number changed.

        Args:
            name: As in `homeostasis_gym.core.value_graph.with_parameter`; ``schedule.NAME`` for a
                parameter of the schedule; ``collapse.level`` or ``collapse.hold``.
            value: The new number.
        """
        head, dot, tail = name.partition(".")
        if dot and head == "schedule":
            if tail not in SCHEDULES[self.schedule]:
                raise UnknownNameError(
                    f"schedule {self.schedule} has no parameter {tail!r}; "
                    f"it has {', '.join(SCHEDULES[self.schedule]) or 'none'}"
                )
            return replace(self, settings=tuple({**dict(self.settings), tail: value}.items()))
        if dot and head == "collapse":
            if tail == "level":
                return replace(self, rule=replace(self.rule, level=value))
            if tail == "hold":
                return replace(self, rule=replace(self.rule, hold=round(value)))
            raise UnknownNameError(f"collapse has the parameters level and hold, got {tail!r}")
        return replace(self, params=with_parameter(self.params, name, value))

    def describe(self) -> dict[str, Any]:
        """Everything that defines the ensemble, as plain data."""
        return {
            "params": asdict(self.params),
            "schedule": {"name": self.schedule, **SCHEDULES[self.schedule], **dict(self.settings)},
            "seeds": self.seeds,
            "first_seed": self.first_seed,
            "steps": self.steps,
            "collapse": {**asdict(self.rule), "level": self.rule.threshold, "words": str(self.rule)},
        }


def run_ensemble(ensemble: Ensemble, threads: int = 1) -> Outcomes:
    """Run all of an ensemble's seeds."""
    return outcomes(
        ensemble.params, ensemble.source(), ensemble.all_seeds, rule=ensemble.rule, threads=threads
    )


@dataclass(frozen=True)
class Summary:
    """What an ensemble came to by some step.

    Attributes:
        by: The step.
        rule: What counted as collapse, in words.
        distinct: How many different runs there were. Where the seeds decide little or nothing (a fixed
            schedule, no noise) they are few, and an interval says nothing about what could have been.
        one_sided: Runs in which some agents collapsed and others did not.
        all_agents: Runs in which all agents collapsed (both, where there are two).
        none: Runs without collapse.
        agents: How often each agent collapsed.
        first_agents: How often each agent was the only one or the first to collapse; in a draw it counts
            for everyone involved.
        first_values: Of the agents that collapsed: how often each value was the first. Of values that
            collapse in the same step the one that stands first in the parameters is named.
        onset: 10th, 50th and 90th percentile of the step of a run's first collapse, among the runs with
            one; None if there are none.
    """

    by: int
    rule: str
    distinct: int
    one_sided: Rate
    all_agents: Rate
    none: Rate
    agents: dict[str, Rate]
    first_agents: dict[str, Rate]
    first_values: dict[str, Rate]
    onset: tuple[float, float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "by": self.by,
            "rule": self.rule,
            "distinct_runs": self.distinct,
            "one_sided": self.one_sided.to_dict(),
            "all_agents": self.all_agents.to_dict(),
            "none": self.none.to_dict(),
            "agents": {name: rate.to_dict() for name, rate in self.agents.items()},
            "first_agents": {name: rate.to_dict() for name, rate in self.first_agents.items()},
            "first_values": {name: rate.to_dict() for name, rate in self.first_values.items()},
            "onset_p10_p50_p90": None if self.onset is None else list(self.onset),
        }


def summarize(params: ValueGraphParams, result: Outcomes, by: int | None = None) -> Summary:
    """Count what happened by step `by` (None: by the end).

    Raises:
        MissingExtraError: SciPy, which computes the intervals, is not installed.
    """
    by = result.steps if by is None else by
    if not result.rule.hold <= by <= result.steps:
        raise HomeostasisError(f"`by` must be in {result.rule.hold}..{result.steps}, got {by}")
    onset = result.agent_onset(by)
    fell = onset > 0
    count = fell.sum(axis=1)
    never = np.iinfo(np.int32).max
    when = np.where(fell, onset, never)
    earliest = when.min(axis=1)
    first = fell & (when == earliest[:, None])
    values = np.where(fell, result.first_value(), -1)[fell]
    begun = earliest[earliest < never]
    return Summary(
        by=by,
        rule=str(result.rule),
        distinct=len({run.tobytes() for run in result.final_values}),
        one_sided=Rate.of((count > 0) & (count < len(params.agents))),
        all_agents=Rate.of(count == len(params.agents)),
        none=Rate.of(count == 0),
        agents={name: Rate.of(fell[:, a]) for a, name in enumerate(params.agents)},
        first_agents={name: Rate.of(first[:, a]) for a, name in enumerate(params.agents)},
        first_values={name: Rate.of(values == j) for j, name in enumerate(params.values)}
        if values.size
        else {},
        onset=_quantiles(begun) if begun.size else None,
    )


def _quantiles(steps: NDArray[Any]) -> tuple[float, float, float]:
    low, middle, high = (float(q) for q in np.quantile(steps, (0.1, 0.5, 0.9)))
    return low, middle, high


@dataclass(frozen=True)
class Survival:
    """A Kaplan-Meier curve of the time until collapse.

    Attributes:
        steps: Steps at which the curve is given, from 0.
        surviving: Share that has not collapsed by then.
        low: Lower end of the 95 % interval (log-log transformed Greenwood).
        high: Upper end.
        median: Step by which half have collapsed; infinite if the curve stays above one half.
        rule: What counted as collapse, in words.
    """

    steps: NDArray[np.float64]
    surviving: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    median: float
    rule: str

    def to_dict(self) -> dict[str, Any]:
        """As plain data; an infinite median becomes None."""
        return {
            "rule": self.rule,
            "median": None if np.isinf(self.median) else self.median,
            "steps": self.steps.tolist(),
            "surviving": self.surviving.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }


def survival(result: Outcomes, agent: int | None = None) -> Survival:
    """Time until the first collapse, of a run (None) or of one agent of it.

    A run without collapse is censored at the last step at which one could have begun and still have
    lasted as long as the rule asks for.

    Raises:
        MissingExtraError: lifelines is not installed.
    """
    try:
        from lifelines import KaplanMeierFitter
    except ImportError as error:
        raise MissingExtraError("lifelines", "pip install 'homeostasis-gym[report]'") from error
    onset = result.agent_onset()
    never = np.iinfo(np.int32).max
    when = np.where(onset == 0, never, onset)
    first = when.min(axis=1) if agent is None else when[:, agent]
    seen = first < never
    fitter = KaplanMeierFitter()
    fitter.fit(np.where(seen, first, result.last_onset()), event_observed=seen)
    interval = fitter.confidence_interval_survival_function_.to_numpy(dtype=np.float64)
    return Survival(
        steps=fitter.survival_function_.index.to_numpy(dtype=np.float64),
        surviving=fitter.survival_function_.iloc[:, 0].to_numpy(dtype=np.float64),
        low=interval[:, 0],
        high=interval[:, 1],
        median=float(fitter.median_survival_time_),
        rule=str(result.rule),
    )


@dataclass(frozen=True)
class Axis:
    """One side of a phase map.

    Attributes:
        name: What varies, see `Ensemble.with_number`.
        points: Its values, each once.
    """

    name: str
    points: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.points or len(set(self.points)) != len(self.points):
            raise HomeostasisError(f"`points` of axis {self.name} must be different, got {self.points}")

    @classmethod
    def parse(cls, text: str) -> Axis:
        """Read ``NAME=FROM:TO:COUNT`` or ``NAME=A,B,C``.

        Raises:
            HomeostasisError: The text is neither.
        """
        name, equals, points = text.partition("=")
        try:
            if not equals or not name:
                raise ValueError
            if "," in points or ":" not in points:
                return cls(name, tuple(float(point) for point in points.split(",")))
            first, last, count = points.split(":")
            return cls(name, tuple(np.linspace(float(first), float(last), int(count)).tolist()))
        except HomeostasisError:
            raise
        except ValueError:
            raise HomeostasisError(
                f"an axis must be written NAME=FROM:TO:COUNT or NAME=A,B,C, got {text!r}"
            ) from None


@dataclass(frozen=True)
class PhaseMap:
    """Collapse over a grid of two parameters.

    Attributes:
        ensemble: What every cell repeats.
        x: Horizontal axis.
        y: Vertical axis.
        one_sided: Runs per cell in which some agents collapsed and others did not. ``(y, x)``.
        all_agents: Runs in which all collapsed. ``(y, x)``.
        median_onset: Median step of the first collapse among the runs with one; NaN without. ``(y, x)``.
    """

    ensemble: Ensemble
    x: Axis
    y: Axis
    one_sided: NDArray[np.int64]
    all_agents: NDArray[np.int64]
    median_onset: NDArray[np.float64]

    @property
    def none(self) -> NDArray[np.int64]:
        """Runs per cell without collapse. ``(y, x)``."""
        return self.ensemble.seeds - self.one_sided - self.all_agents

    def intervals(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Wilson interval of every cell of `counts`. ``(y, x, 2)``."""
        known = {int(k): wilson_interval(int(k), self.ensemble.seeds) for k in np.unique(counts)}
        return np.array([[known[int(k)] for k in row] for row in counts])

    def to_dict(self) -> dict[str, Any]:
        """As plain data, with the intervals."""
        cells: dict[str, Any] = {}
        for name in ("one_sided", "all_agents", "none"):
            counts = getattr(self, name)
            cells[name] = {
                "count": counts.tolist(),
                "rate": (counts / self.ensemble.seeds).tolist(),
                "interval": self.intervals(counts).tolist(),
            }
        onset = [[None if np.isnan(step) else float(step) for step in row] for row in self.median_onset]
        return {
            "ensemble": self.ensemble.describe(),
            "x": {"name": self.x.name, "points": list(self.x.points)},
            "y": {"name": self.y.name, "points": list(self.y.points)},
            **cells,
            "median_onset": onset,
        }


def phase_map(ensemble: Ensemble, x: Axis, y: Axis, threads: int = 1) -> PhaseMap:
    """Repeat an ensemble over a grid, every cell with the same seeds.

    Only counts and median onsets are kept, and a cell's runs are done some thousands at a time, so that
    memory does not grow with them. Threads share the cells; each runs on a core of its own.

    Args:
        ensemble: What every cell repeats.
        x: Horizontal axis.
        y: Vertical axis.
        threads: How many cells run at the same time.

    Raises:
        HomeostasisError: An axis names nothing that can vary, or a point is not allowed.
    """
    if x.name == y.name:
        raise HomeostasisError(f"the axes must vary different parameters, got {x.name} twice")
    if threads < 1:
        raise HomeostasisError(f"`threads` must be at least 1, got {threads}")
    cells = [
        (i, j, ensemble.with_number(y.name, b).with_number(x.name, a))
        for i, b in enumerate(y.points)
        for j, a in enumerate(x.points)
    ]
    shape = (len(y.points), len(x.points))
    one_sided = np.zeros(shape, dtype=np.int64)
    everyone = np.zeros(shape, dtype=np.int64)
    onset = np.full(shape, np.nan)

    def run(cell: tuple[int, int, Ensemble]) -> None:
        i, j, own = cell
        agents = len(own.params.agents)
        # How many runs began to collapse at each step: a cell's runs need not be kept for the median.
        begun = np.zeros(own.steps + 1, dtype=np.int64)
        seeds = own.all_seeds
        for first in range(0, len(seeds), _CHUNK):
            result = outcomes(own.params, own.source(), seeds[first : first + _CHUNK], rule=own.rule)
            found = result.agent_onset()
            count = np.count_nonzero(found, axis=1)
            one_sided[i, j] += np.count_nonzero((count > 0) & (count < agents))
            everyone[i, j] += np.count_nonzero(count == agents)
            earliest = np.where(found == 0, own.steps + 1, found).min(axis=1)
            begun += np.bincount(earliest[count > 0], minlength=own.steps + 1)
        if begun.any():
            onset[i, j] = _median(begun)

    if threads == 1:
        for cell in cells:
            run(cell)
    else:
        # Compiled once before the threads would all compile the same.
        run(cells[0])
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, cells[1:]))
    return PhaseMap(ensemble, x, y, one_sided, everyone, onset)


def _median(counts: NDArray[np.int64]) -> float:
    """Median of whole numbers, given how often each occurs."""
    upto = np.cumsum(counts)
    low, high = (int(upto[-1]) - 1) // 2, int(upto[-1]) // 2
    return float(np.searchsorted(upto, low, side="right") + np.searchsorted(upto, high, side="right")) / 2
