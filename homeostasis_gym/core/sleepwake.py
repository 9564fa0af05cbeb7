"""SleepWake: homeostasis whose set points hop between two regimes, asleep and awake."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.core._jit import kernel
from homeostasis_gym.core.benchmark import (
    OUT_OF_RANGE,
    NoisyBenchmark,
    Policy,
    check_integer,
    check_number,
    mark_out_of_range,
    objective_names,
)
from homeostasis_gym.core.homeostatic import (
    base_stock,
    oversatiation,
    restore,
    satiation_rewards,
    undersatiation,
)
from homeostasis_gym.core.noise import level_noise
from homeostasis_gym.errors import HomeostasisError

__all__ = ["SleepWake"]

_FORESIGHT = 6  # steps before a switch from which `anticipate` prepares for it
_CHANCES = 10_000  # values of the noise channel that switches regimes by chance


@kernel
def _advance(
    state: NDArray[np.float64],
    action: NDArray[np.int64],
    noise: NDArray[np.float64],
    rewards: NDArray[np.float64],
    flags: NDArray[np.uint8],
    set_points: NDArray[np.float64],
    limit: int,
    clearance: float,
    asleep_steps: int,
    awake_steps: int,
    switch_from: float,
) -> int:
    objectives = state.shape[0] - 2
    lanes = state.shape[1]
    if mark_out_of_range(action, limit, flags):
        return OUT_OF_RANGE
    by_chance = noise.shape[0] > objectives
    for i in range(objectives):
        asleep, awake, half_width = set_points[0, i], set_points[1, i], set_points[2, i]
        level, change, regime = state[i], noise[i], state[objectives]
        units, under, over = rewards[3 * i], rewards[3 * i + 1], rewards[3 * i + 2]
        # One array written per loop, which is what lets the compiler use vector instructions.
        for k in range(lanes):
            units[k] = float(action[k, i])
        for k in range(lanes):
            level[k] = level[k] + units[k] - clearance + change[k]
        for k in range(lanes):
            target = awake if regime[k] > 0.0 else asleep
            under[k] = undersatiation(level[k] - target, half_width)
        for k in range(lanes):
            target = awake if regime[k] > 0.0 else asleep
            over[k] = oversatiation(level[k] - target, half_width)
    for k in range(lanes):
        awake_now = state[objectives, k] > 0.0
        age = state[objectives + 1, k] + 1.0
        if by_chance:
            switches = noise[objectives, k] >= switch_from
        else:
            switches = age >= (awake_steps if awake_now else asleep_steps)
        if switches:
            state[objectives, k] = 0.0 if awake_now else 1.0
            age = 0.0
        state[objectives + 1, k] = age
    return 0


@dataclass(frozen=True, kw_only=True)
class SleepWake(NoisyBenchmark):
    """Parameters of homeostasis with two regimes.

    Objective i = 1, 2, ... has MO-HoN's half width h = 10 + i, its noise between -(5 + i) and 3 + i, and two
    set points: a high one at 100 + 10i and a low one `hop` half widths below it. The odd objectives (A, C,
    ...) are high awake, the even ones (B, D, ...) asleep. Every level falls by `clearance` a step besides
    the noise, so that it can follow a set point down.

    The state holds the levels, whether the body is awake (1) or asleep (0), and the steps since it became so.
    The agent sees all of it. A step is judged by the set points that the agent saw; then the regime may
    switch.

    Args:
        objectives: Number of objectives.
        switching: ``schedule`` (after `awake_steps` and `asleep_steps`) or ``chance``.
        awake_steps: Steps awake before falling asleep, by schedule.
        asleep_steps: Steps asleep before waking up, by schedule.
        switch_probability: Chance to switch at each step, by chance; in whole ten-thousandths, because it
            is compared with one more noise channel, uniform in 0 .. 9999, whose highest values switch: noise
            of zeros leaves the regime alone (unless the probability is 1).
        clearance: Units by which every level falls in a step.
        hop: Distance of the two set points in half widths; at 2 the two bands just touch.
        shock_probability: See `NoisyBenchmark`.
        shock_size: See `NoisyBenchmark`.
        episode_length: See `Benchmark`.
        max_consumption: See `Benchmark`.
    """

    name: ClassVar[str] = "sleepwake"
    reference_policy: ClassVar[str] = "anticipate"
    shadow_policy: ClassVar[str] = "restore"

    objectives: int = 2
    switching: str = "schedule"
    awake_steps: int = 16
    asleep_steps: int = 8
    switch_probability: float = 0.08
    clearance: float = 4.0
    hop: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("objectives", self.objectives, 1)
        if self.switching not in ("schedule", "chance"):
            raise HomeostasisError(f"`switching` must be 'schedule' or 'chance', got {self.switching!r}")
        check_integer("awake_steps", self.awake_steps, 1)
        check_integer("asleep_steps", self.asleep_steps, 1)
        check_number("switch_probability", self.switch_probability, 0.0, 1.0)
        chances = self.switch_probability * _CHANCES
        if abs(chances - round(chances)) > 1e-6:
            raise HomeostasisError(
                f"`switch_probability` must be a multiple of 1/10000, got {self.switch_probability!r}"
            )
        check_number("clearance", self.clearance, 0.0)
        check_number("hop", self.hop, 0.0)

    @property
    def objective_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return objective_names(self.objectives)

    @property
    def reward_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return satiation_rewards(self.objective_names, self.action_limit)[0]

    @property
    def reward_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        return satiation_rewards(self.objective_names, self.action_limit)[1]

    @property
    def observation_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return (*(f"level_{name}" for name in self.objective_names), "awake", "steps_in_regime")

    @property
    def observation_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        n = self.objectives
        return (-math.inf,) * n + (0.0, 0.0), (math.inf,) * n + (1.0, float(self._longest))

    @property
    def _longest(self) -> int:
        """Most steps that a regime can have lasted when it is seen."""
        if self.switching == "chance":
            return self.episode_length
        return max(self.awake_steps, self.asleep_steps)

    @property
    def noise_low(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        levels = level_noise(self.objectives)[0]
        return (*levels, 0) if self.switching == "chance" else levels

    @property
    def noise_high(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        levels = level_noise(self.objectives)[1]
        return (*levels, _CHANCES - 1) if self.switching == "chance" else levels

    @cached_property
    def _set_points(self) -> NDArray[np.float64]:
        """Set points asleep and awake, and half widths, shape (3, objectives)."""
        i = np.arange(1.0, self.objectives + 1)
        half_width = 10.0 + i
        high = 100.0 + 10.0 * i
        low = high - self.hop * half_width
        odd = i % 2 == 1
        return np.stack([np.where(odd, low, high), np.where(odd, high, low), half_width])

    @property
    def initial_state(self) -> tuple[float, ...]:  # noqa: D102 (inherited)
        return (*(float(level) for level in self._set_points[1]), 1.0, 0.0)

    def levels(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        """The levels: (..., objectives + 2) -> (..., objectives)."""
        return states[..., : self.objectives]

    def set_points(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        """The set points in force: (..., objectives + 2) -> (..., objectives)."""
        awake = states[..., self.objectives, np.newaxis] > 0.0
        chosen: NDArray[np.float64] = np.where(awake, self._set_points[1], self._set_points[0])
        return chosen

    def bands(  # noqa: D102 (inherited)
        self, states: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        target, half_width = self.set_points(states), self._set_points[2]
        return target - half_width, target + half_width

    @property
    def normalized_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:  # noqa: D102 (inherited)
        n = self.objectives
        return (-math.inf,) * n + (0.0, 0.0), (math.inf,) * n + (1.0, 1.0)

    def normalize(self, observation: ArrayLike) -> NDArray[np.float64]:
        """Levels as (level - set point in force) / half width, the regime, and its age in 0..1.

        Args:
            observation: Shape (..., objectives + 2).

        Returns:
            Fresh array of the same shape, float64.
        """
        seen = np.array(observation, dtype=np.float64)
        n = self.objectives
        seen[..., :n] = (seen[..., :n] - self.set_points(seen)) / self._set_points[2]
        seen[..., n + 1] /= self._longest
        return seen

    @property
    def policies(self) -> Mapping[str, Policy]:  # noqa: D102 (inherited)
        return {
            "restore": self._restore,
            "base-stock": self._base_stock,
            "anticipate": self._anticipate,
        }

    def _restore(self, states: NDArray[np.float64], step: int) -> NDArray[np.int64]:
        """Bring every level to the set point in force, what is cleared in the step included."""
        levels = self.levels(states) - self.clearance
        return np.minimum(restore(levels, self.set_points(states)), self.action_limit)

    def _base_stock(self, states: NDArray[np.float64], step: int) -> NDArray[np.int64]:
        """Fill every level to the lowest stock from which the noise alone cannot leave the band."""
        levels = self.levels(states) - self.clearance
        decrease = -np.asarray(self.noise_low[: self.objectives], dtype=np.float64)
        units = base_stock(levels, self.set_points(states), self._set_points[2], decrease)
        return np.minimum(units, self.action_limit)

    def _anticipate(self, states: NDArray[np.float64], step: int) -> NDArray[np.int64]:
        """Base stock, but levels that must soon be high are raised as far as the present band allows.

        Where the regime switches by chance there is nothing to foresee, and the middle of the band, which
        is `restore`, lies nearest to both sides.
        """
        if self.switching == "chance":
            return self._restore(states, step)
        units = self._base_stock(states, step)
        n = self.objectives
        half_width = self._set_points[2]
        awake = states[..., n, np.newaxis] > 0.0
        left = np.where(awake, self.awake_steps, self.asleep_steps) - states[..., n + 1, np.newaxis]
        now = self.set_points(states)
        later = np.where(awake, self._set_points[0], self._set_points[1])
        levels = self.levels(states) - self.clearance
        highest = now + half_width - np.asarray(self.noise_high[:n], dtype=np.float64)
        raised = np.minimum(restore(levels, highest), self.action_limit)
        soon = (left <= _FORESIGHT) & (later > now)
        return np.where(soon, np.maximum(units, raised), units)

    def advance(  # noqa: D102 (inherited)
        self,
        state: NDArray[np.float64],
        action: NDArray[np.int64],
        noise: NDArray[np.float64],
        rewards: NDArray[np.float64],
        flags: NDArray[np.uint8],
    ) -> int:
        return _advance.call(
            state,
            action,
            noise,
            rewards,
            flags,
            self._set_points,
            self.action_limit,
            float(self.clearance),
            self.asleep_steps,
            self.awake_steps,
            float(_CHANCES - round(self.switch_probability * _CHANCES)),
        )
