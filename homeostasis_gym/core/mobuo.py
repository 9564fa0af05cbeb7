"""MO-BUO: balancing unbounded objectives; numbers of the public BioBlue benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.core._jit import formula, kernel
from homeostasis_gym.core.benchmark import (
    FORBIDDEN,
    OUT_OF_RANGE,
    Benchmark,
    Policy,
    check_integer,
    mark_out_of_range,
    objective_names,
)
from homeostasis_gym.core.rounding import fmt

__all__ = ["MOBUO", "Unbounded", "water_filling"]

_LOG_BASE = math.log(1.01)
# Totals are mostly whole numbers: their logarithms are looked up, and have the very bits of `logarithm`.
_TABLE_SIZE = 4096
_TABLE = np.array([0.0] + [math.log(t) / _LOG_BASE for t in range(1, _TABLE_SIZE)])


@formula
def logarithm(total: float) -> float:
    """Logarithm of a total to the base of 1.01."""
    return math.log(total) / _LOG_BASE


@formula
def logarithms(totals: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """Write the logarithms of many totals, none below 1, to `out`."""
    missing = 0
    for k in range(len(totals)):
        index = int(min(totals[k], _TABLE_SIZE - 1.0))
        out[k] = _TABLE[index]
        missing |= index != totals[k]
    if missing != 0:
        for k in range(len(totals)):
            if int(min(totals[k], _TABLE_SIZE - 1.0)) != totals[k]:
                out[k] = logarithm(totals[k])


@kernel
def _advance(
    state: NDArray[np.float64],
    action: NDArray[np.int64],
    noise: NDArray[np.float64],
    rewards: NDArray[np.float64],
    flags: NDArray[np.uint8],
    limit: int,
    harvest_limit: int,
) -> int:
    objectives, lanes = state.shape
    noisy = noise.shape[0] > 0
    if mark_out_of_range(action, limit, flags):
        return OUT_OF_RANGE
    seen = 0
    # The last row holds the sum of the harvest, then logarithms, and at last the imbalance. One array
    # written per loop is what lets the compiler use vector instructions.
    spare = rewards[objectives]
    spare[:] = 0.0
    for i in range(objectives):
        for k in range(lanes):
            spare[k] += float(action[k, i])
    for k in range(lanes):
        flags[k] = FORBIDDEN if spare[k] > harvest_limit else 0
        seen |= flags[k]
    mean = np.zeros(lanes)
    for i in range(objectives):
        total, gain = state[i], rewards[i]
        logarithms(total, gain)
        for k in range(lanes):
            total[k] += float(action[k, i]) if flags[k] == 0 else 0.0
        logarithms(total, spare)
        for k in range(lanes):
            gain[k] = fmt(spare[k] - gain[k])
        if noisy:
            change = noise[i]
            for k in range(lanes):
                total[k] = max(1.0, total[k] + change[k])
        for k in range(lanes):
            mean[k] += total[k]
    for k in range(lanes):
        mean[k] /= objectives
    spare[:] = 0.0
    for i in range(objectives):
        total = state[i]
        for k in range(lanes):
            spare[k] += max(0.0, abs(mean[k] - total[k]) - 1.0)
    for k in range(lanes):
        spare[k] = fmt(-0.5 * spare[k])
    return int(seen)


def water_filling(totals: NDArray[np.float64], harvest_limit: int, limit: int) -> NDArray[np.int64]:
    """Give each unit of the harvest to the lowest total, the first of them where several are lowest.

    Args:
        totals: Shape (..., objectives).
        harvest_limit: Units to give.
        limit: Most units of one objective.

    Returns:
        Units, shape (..., objectives), int64.
    """
    totals = np.asarray(totals, dtype=np.float64)
    units = np.zeros(totals.shape, dtype=np.int64)
    for _ in range(min(harvest_limit, limit * totals.shape[-1])):
        filled = np.where(units < limit, totals + units, np.inf)
        lowest = filled.argmin(axis=-1)[..., np.newaxis]
        np.put_along_axis(units, lowest, np.take_along_axis(units, lowest, -1) + 1, -1)
    return units


class Unbounded(Benchmark):
    """Dynamics of objectives that grow without bound, with or without noise; see `MOBUO`."""

    reference_policy: ClassVar[str] = "water-filling"
    shadow_policy: ClassVar[str] = "water-filling"

    harvest_limit: int

    @property
    def reward_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return (*(f"harvest_{name}" for name in self.objective_names), "imbalance")

    @property
    def reward_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        # No total is ever below 1, and none grows by more than the limit in one step.
        most = fmt(math.log(1.0 + min(self.action_limit, self.harvest_limit)) / _LOG_BASE)
        n = self.objectives
        return (0.0,) * n + (-math.inf,), (most,) * n + (0.0,)

    @property
    def observation_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return tuple(f"total_{name}" for name in self.objective_names)

    @property
    def observation_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        return (1.0,) * self.objectives, (math.inf,) * self.objectives

    @property
    def initial_state(self) -> tuple[float, ...]:  # noqa: D102 (inherited)
        return tuple(100.0 + 10.0 * i for i in range(1, self.objectives + 1))

    @property
    def normalized_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        inf = math.inf
        return (-inf,) * (self.objectives + 1), (inf,) * (self.objectives + 1)

    def normalize(self, observation: ArrayLike) -> NDArray[np.float64]:
        """How far every total lies from their mean, in full harvests, and the logarithm of the mean.

        Args:
            observation: Shape (..., objectives).

        Returns:
            Array of shape (..., objectives + 1), float64; the last component is 0 at the start and grows
            by 1 when the mean total doubles.
        """
        totals = np.asarray(observation, dtype=np.float64)
        mean = totals.mean(axis=-1, keepdims=True)
        growth = np.log2(mean / np.mean(self.initial_state))
        return np.concatenate([(totals - mean) / self.harvest_limit, growth], axis=-1)

    @property
    def policies(self) -> Mapping[str, Policy]:  # noqa: D102 (inherited)
        return {
            "water-filling": lambda totals, step: water_filling(totals, self.harvest_limit, self.action_limit)
        }

    def why_forbidden(self, observation: NDArray[np.float64], action: NDArray[np.int64]) -> str:  # noqa: D102 (inherited)
        harvest = int(np.sum(action, dtype=np.int64))
        if harvest <= self.harvest_limit:
            return ""
        return f"at most {self.harvest_limit} units in all may be harvested in one step, not {harvest}"

    def advance(  # noqa: D102 (inherited)
        self,
        state: NDArray[np.float64],
        action: NDArray[np.int64],
        noise: NDArray[np.float64],
        rewards: NDArray[np.float64],
        flags: NDArray[np.uint8],
    ) -> int:
        return _advance.call(state, action, noise, rewards, flags, self.action_limit, self.harvest_limit)


@dataclass(frozen=True, kw_only=True)
class MOBUO(Unbounded):
    """Parameters of balancing unbounded objectives: objective i = 1, 2, ... starts with a total of 100 + 10i.

    Args:
        objectives: Number of objectives.
        harvest_limit: Most units of all objectives together in one step; more is forbidden.
        episode_length: See `Benchmark`.
        max_consumption: See `Benchmark`.
    """

    name: ClassVar[str] = "mobuo"

    objectives: int = 2
    harvest_limit: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("objectives", self.objectives, 1)
        check_integer("harvest_limit", self.harvest_limit, 1)

    @property
    def objective_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return objective_names(self.objectives)
