"""The value graph as a benchmark: somebody corrects whichever agent may be corrected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.core.benchmark import OUT_OF_RANGE, Benchmark, Policy
from homeostasis_gym.core.schedules import SCHEDULES, schedule_source
from homeostasis_gym.core.value_graph.kernels import STRATEGIES, assist_kernel, choose_kernel
from homeostasis_gym.core.value_graph.params import (
    SCHEDULE_OF_PRESET,
    ValueGraphParams,
    preset,
    with_parameter,
)
from homeostasis_gym.core.value_graph.simulation import initial_state
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

__all__ = ["ValueGraph", "ValueGraphSeat"]

# Strategies that a state is enough for; the others need more of the past.
_STATELESS = (
    "none",
    "homeostatic",
    "boosting",
    "throttling",
    "lowest_utility",
    "proportional",
    "lookahead",
    "falling",
    "yielding",
)
# A schedule drawn afresh in every episode is the benchmark's noise; the others are fixed.
_DRAWN = "random"
_FIXED = tuple(name for name in SCHEDULES if name not in ("random", "fast_random", "equal_totals"))


@dataclass(frozen=True, kw_only=True)
class ValueGraph(Benchmark):
    """A value graph in which an outside helper corrects whoever may be helped at that step.

    In each step the helper's correction comes first, then the values act on each other, and then it is
    settled who may be helped next. In the first step nobody may be.

    Args:
        preset: Settings to start from, one of `homeostasis_gym.core.value_graph.PRESETS`.
        schedule: Who may be helped when: None for the preset's own, ``random``, drawn in every episode, or
            one of the fixed schedules ``alternating``, ``thue_morse``, ``blocks``, ``front_loaded`` and
            ``missed_and_repaid`` of `homeostasis_gym.core.schedules`.
        utility: Utility function; None for the preset's.
        rate: Interaction rate; None for the preset's.
        max_step: Greatest correction per step; None for the preset's.
        target: Lower and upper edge of the target band; None for the preset's.
        decay: Kind of decay; None for the preset's.
        settings: More numbers, by the names of `homeostasis_gym.core.value_graph.with_parameter` (such as
            ``decay_rate``, ``incentive:BOB:Power`` or ``between:Power->Power``) or ``schedule.NAME`` for a
            parameter of the schedule. A mapping, or pairs.
        episode_length: See `Benchmark`.
        max_consumption: Units of correction that make `max_step`, and the most that one step holds.
            None counts as 10 here, without an upper limit of what may be tried.
    """

    name: ClassVar[str] = "value-graph"
    reference_policy: ClassVar[str] = "homeostatic"
    shadow_policy: ClassVar[str] = "homeostatic"

    preset: str = "reference"
    schedule: str | None = None
    utility: str | None = None
    rate: float | None = None
    max_step: float | None = None
    target: tuple[float, float] | None = None
    decay: str | None = None
    settings: Mapping[str, float] | tuple[tuple[str, float], ...] = ()
    episode_length: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            pairs = tuple((str(name), float(number)) for name, number in dict(self.settings).items())
        except (TypeError, ValueError):
            raise HomeostasisError(f"`settings` must map names to numbers, got {self.settings!r}") from None
        object.__setattr__(self, "settings", pairs)
        for name in ("noise", "incentive_start", "incentive_stop", "retention"):
            if name in dict(pairs):
                raise HomeostasisError(
                    f"`settings` cannot hold {name}: only `simulate` and ensembles have it"
                )
        if self.schedule is None:
            object.__setattr__(self, "schedule", SCHEDULE_OF_PRESET.get(self.preset, _DRAWN))
        if self.schedule not in (_DRAWN, *_FIXED):
            raise UnknownNameError(
                f"`schedule` must be one of {', '.join((_DRAWN, *_FIXED))}, got {self.schedule!r}"
            )
        _ = self.graph  # refuses parameters that cannot be
        _ = self.turns

    @cached_property
    def graph(self) -> ValueGraphParams:
        """The parameters of the dynamics."""
        given = {name: getattr(self, name) for name in ("utility", "rate", "max_step", "target", "decay")}
        params = preset(self.preset, **{name: value for name, value in given.items() if value is not None})
        for name, number in dict(self.settings).items():
            if not name.startswith("schedule."):
                params = with_parameter(params, name, number)
        return params

    @cached_property
    def turns(self) -> NDArray[np.int8] | None:
        """Who may be helped after each step, -1 for nobody, ``(episode_length,)``; None where it is drawn."""
        given = dict(self.settings).items()
        own = {name.partition(".")[2]: number for name, number in given if name.startswith("schedule.")}
        assert self.schedule is not None
        # Also where turns are drawn: refuses settings that the schedule does not have.
        source = schedule_source(self.schedule, self.episode_length, len(self.graph.agents), **own)
        if self.schedule == _DRAWN:
            return None
        turns: NDArray[np.int8] = source(np.zeros(1, dtype=np.int64))[0].copy()
        return turns

    @property
    def agents(self) -> tuple[str, ...]:
        """Names of the agents, in the order in which the state holds them."""
        return self.graph.agents

    @property
    def units(self) -> int:
        """Units that make a whole correction."""
        return 10 if self.max_consumption is None else self.max_consumption

    @property
    def objective_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return self.graph.values

    @cached_property
    def _pairs(self) -> tuple[str, ...]:
        return tuple(f"{agent}_{value}" for agent in self.agents for value in self.graph.values)

    @property
    def reward_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return tuple(f"utility_{pair}" for pair in self._pairs)

    @property
    def reward_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        low, high = {
            "linear_homeostasis": (-math.inf, 0.0),
            "squared_homeostasis": (-math.inf, 0.0),
            "bounded": (-1.0, 1.0),
        }.get(self.graph.utility, (-math.inf, math.inf))
        return (low,) * len(self._pairs), (high,) * len(self._pairs)

    @property
    def observation_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        parts = (f"{part}_{pair}" for part in ("level", "utility", "change") for pair in self._pairs)
        return (*parts, "turn", "step")

    @property
    def observation_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        n = 3 * len(self._pairs)
        inf = math.inf
        return (
            (-inf,) * n + (-1.0, 0.0),
            (inf,) * n + (len(self.agents) - 1.0, float(self.episode_length)),
        )

    @property
    def noise_low(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        return (0,) if self.schedule == _DRAWN else ()

    @property
    def noise_high(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        return (len(self.agents) - 1,) if self.schedule == _DRAWN else ()

    @cached_property
    def initial_state(self) -> tuple[float, ...]:
        """Levels and utilities at the start, no change so far, nobody's turn, step 0."""
        values, utilities = initial_state(self.graph)
        parts = (values, utilities, np.zeros_like(values))
        return (*(float(x) for part in parts for x in part.ravel()), -1.0, 0.0)

    def split(
        self, states: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Take states apart.

        Args:
            states: States or observations, ``(..., state_dim)``.

        Returns:
            Levels, utilities and last changes, each ``(..., agents, values)``, and whose turn it is,
            ``(...)``.
        """
        given = np.asarray(states, dtype=np.float64)
        n = len(self._pairs)
        shape = (*given.shape[:-1], *self.graph.shape)
        levels, utilities, change = (given[..., i * n : (i + 1) * n].reshape(shape) for i in range(3))
        return levels, utilities, change, np.rint(given[..., 3 * n]).astype(np.int64)

    def acting(self, states: NDArray[np.float64]) -> NDArray[np.int64]:
        """Whom an action in each state corrects, -1 for nobody: ``(..., state_dim)`` -> ``(...)``."""
        return self.split(states)[3]

    def levels(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        """Levels of the agent whose turn it is (of the first, if it is nobody's): ``(..., values)``."""
        levels = self.split(states)[0]
        who = np.maximum(self.acting(states), 0)[..., np.newaxis, np.newaxis]
        return np.take_along_axis(levels, who, axis=-2)[..., 0, :]

    def rendered(self, states: NDArray[np.float64]) -> tuple[tuple[str, ...], NDArray[np.float64], None]:
        """One line per agent and value, whosever turn it is."""
        levels = self.split(states)[0]
        names = tuple(f"{agent} {value}" for agent in self.agents for value in self.graph.values)
        return names, levels.reshape(len(levels), -1), None

    @property
    def normalized_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        n, inf = 3 * len(self._pairs), math.inf
        agents = len(self.agents)
        return (-inf,) * n + (0.0,) * agents, (inf,) * n + (1.0,) * agents

    def normalize(self, observation: ArrayLike) -> NDArray[np.float64]:
        """Logarithms of levels, utilities, changes in whole corrections, and a mark for whose turn it is.

        Args:
            observation: Shape ``(..., observation_dim)``.

        Returns:
            Array of shape ``(..., 3 * agents * values + agents)``, float64.
        """
        levels, utilities, change, turn = self.split(observation)
        flat = (*turn.shape, -1)
        parts = (
            np.sign(levels) * np.log1p(np.abs(levels)),
            np.sign(utilities) * np.log1p(np.abs(utilities)),
            change / max(self.graph.max_step, 1e-12),
        )
        marks = (turn[..., np.newaxis] == np.arange(len(self.agents))).astype(np.float64)
        return np.concatenate([*(part.reshape(flat) for part in parts), marks], axis=-1)

    @property
    def policies(self) -> Mapping[str, Policy]:  # noqa: D102 (inherited)
        found: dict[str, Policy] = {name: self._policy(name) for name in _STATELESS}
        n = len(self.graph.values)

        def round_robin(states: NDArray[np.float64], step: int) -> NDArray[np.int64]:
            counts = np.zeros((*np.shape(states)[:-1], n), dtype=np.int64)
            counts[..., step % n] = self.units
            return counts

        # By the step and not by the agent's turns, of which the state does not tell.
        return {**found, "round_robin": round_robin}

    def _policy(self, strategy: str) -> Policy:
        g = self.graph.graph._replace(
            strategy=np.full(len(self.agents), STRATEGIES[strategy], dtype=np.int64)
        )

        def policy(states: NDArray[np.float64], step: int) -> NDArray[np.int64]:
            levels, utilities, change, _ = self.split(states)
            batch, shape = levels.shape[:-2], levels.shape[-2:]

            def runs_last(array: NDArray[np.float64]) -> NDArray[np.float64]:
                return np.array(np.moveaxis(array.reshape(-1, *shape), 0, -1), order="C")

            v, u = runs_last(levels), runs_last(utilities)
            runs = v.shape[2]
            amounts = np.zeros_like(v)
            choose_kernel(
                g,
                step,
                v,
                u,
                v - runs_last(change),
                np.zeros((shape[0], runs), dtype=np.int64),
                np.zeros_like(v),
                np.empty((runs, 0), dtype=np.uint8),
                np.zeros(runs, dtype=np.int64),
                np.empty((shape[0], runs), dtype=np.int8),
                amounts,
            )
            who = np.maximum(self.acting(np.asarray(states, dtype=np.float64)).reshape(-1), 0)
            chosen = amounts[who, :, np.arange(runs)]
            return self._as_units(chosen).reshape(*batch, shape[1])

        return policy

    def _as_units(self, amounts: NDArray[np.float64]) -> NDArray[np.int64]:
        """Corrections as whole units, ``(runs, values)``, never more in sum than make one correction."""
        if self.graph.max_step == 0.0:
            return np.zeros(amounts.shape, dtype=np.int64)
        wanted = np.abs(amounts) / self.graph.max_step * self.units
        # A correction cut short at the target is rounded up: it stops there by itself.
        single = np.count_nonzero(amounts, axis=-1, keepdims=True) == 1
        counts = np.where(single, np.ceil(wanted - 1e-9), np.floor(wanted + 1e-9)).astype(np.int64)
        # The units that rounding down has left go to the greatest remainders.
        rest = np.minimum(np.rint(wanted.sum(axis=-1)).astype(np.int64), self.units) - counts.sum(axis=-1)
        order = np.argsort(np.argsort(-(wanted - counts), axis=-1, kind="stable"), axis=-1)
        counts += order < rest[..., np.newaxis]
        return counts

    def why_forbidden(self, observation: NDArray[np.float64], action: NDArray[np.int64]) -> str:  # noqa: D102 (inherited)
        total = int(np.sum(action, dtype=np.int64))
        if total <= self.units:
            return ""
        return f"at most {self.units} units of correction in all may be given in one step, not {total}"

    def advance(  # noqa: D102 (inherited)
        self,
        state: NDArray[np.float64],
        action: NDArray[np.int64],
        noise: NDArray[np.float64],
        rewards: NDArray[np.float64],
        flags: NDArray[np.uint8],
    ) -> int:
        n = len(self._pairs)
        shape = (*self.graph.shape, state.shape[1])
        levels, utilities, change = (state[i * n : (i + 1) * n].reshape(shape) for i in range(3))
        seen = assist_kernel(
            self.graph.graph,
            levels,
            utilities,
            change,
            state[3 * n],
            action,
            self.units,
            self.action_limit,
            flags,
        )
        if seen & OUT_OF_RANGE:
            return int(seen)
        rewards[:] = state[n : 2 * n]
        if self.turns is None:
            state[3 * n] = noise[0]
        else:
            step = np.minimum(state[3 * n + 1].astype(np.int64), self.episode_length - 1)
            state[3 * n] = self.turns[step]
        state[3 * n + 1] += 1.0
        return int(seen)


@dataclass(frozen=True, kw_only=True)
class ValueGraphSeat(ValueGraph):
    """The value graph as one of its agents sees it: itself first, and always correcting itself.

    Its parameters are those of `ValueGraph`.

    Args:
        seat: Name of the agent.
        preset: See `ValueGraph`.
        schedule: See `ValueGraph`.
        utility: See `ValueGraph`.
        rate: See `ValueGraph`.
        max_step: See `ValueGraph`.
        target: See `ValueGraph`.
        decay: See `ValueGraph`.
        settings: See `ValueGraph`.
        episode_length: See `Benchmark`.
        max_consumption: See `ValueGraph`.
    """

    name: ClassVar[str] = "value-graph-seat"

    seat: str = "ALICE"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seat not in self.graph.agents:
            raise UnknownNameError(f"`seat` must be one of {', '.join(self.graph.agents)}, got {self.seat!r}")

    @property
    def place(self) -> int:
        """The agent's number in the graph."""
        return self.graph.agents.index(self.seat)

    @property
    def agents(self) -> tuple[str, ...]:
        """Names of the agents, this one first, the others in the graph's order from there."""
        names = self.graph.agents
        return names[self.place :] + names[: self.place]

    @property
    def reward_names(self) -> tuple[str, ...]:
        """The agent's own utilities."""
        return tuple(f"utility_{value}" for value in self.graph.values)

    @property
    def reward_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        low, high = super().reward_bounds
        return low[: self.objectives], high[: self.objectives]

    def acting(self, states: NDArray[np.float64]) -> NDArray[np.int64]:
        """Itself, whosever turn it is: ``(..., state_dim)`` -> ``(...)``."""
        return np.zeros(np.shape(states)[:-1], dtype=np.int64)

    def seen(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        """States of the graph as this seat sees them; turn 0 is its own. ``(..., state_dim)``, both."""
        given = np.asarray(states, dtype=np.float64)
        levels, utilities, change, turn = self.split(given)
        batch = given.shape[:-1]
        parts = [
            np.roll(part, -self.place, axis=-2).reshape(*batch, -1) for part in (levels, utilities, change)
        ]
        own = np.where(turn < 0, -1, (turn - self.place) % len(self.graph.agents)).astype(np.float64)
        return np.concatenate([*parts, own[..., np.newaxis], given[..., -1:]], axis=-1)

    def advance(  # noqa: D102 (inherited)
        self,
        state: NDArray[np.float64],
        action: NDArray[np.int64],
        noise: NDArray[np.float64],
        rewards: NDArray[np.float64],
        flags: NDArray[np.uint8],
    ) -> int:
        raise HomeostasisError(
            "a seat of the value graph cannot be stepped alone: step the environment with all its agents"
        )
