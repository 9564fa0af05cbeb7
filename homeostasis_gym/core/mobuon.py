"""MO-BUO-N: balancing unbounded objectives with noise, announced for BioBlue and defined here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from homeostasis_gym.core.benchmark import NoisyBenchmark, check_integer, objective_names
from homeostasis_gym.core.mobuo import Unbounded
from homeostasis_gym.core.noise import level_noise

__all__ = ["MOBUON"]


@dataclass(frozen=True, kw_only=True)
class MOBUON(NoisyBenchmark, Unbounded):
    """Parameters of MO-BUO with MO-HoN's noise, between -(5 + i) and 3 + i for objective i = 1, 2, ...

    Args:
        objectives: Number of objectives.
        harvest_limit: Most units of all objectives together in one step; more is forbidden.
        shock_probability: See `NoisyBenchmark`.
        shock_size: See `NoisyBenchmark`.
        episode_length: See `Benchmark`.
        max_consumption: See `Benchmark`.
    """

    name: ClassVar[str] = "mobuon"

    objectives: int = 2
    harvest_limit: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("objectives", self.objectives, 1)
        check_integer("harvest_limit", self.harvest_limit, 1)

    @property
    def objective_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return objective_names(self.objectives)

    @property
    def noise_low(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        return level_noise(self.objectives)[0]

    @property
    def noise_high(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        return level_noise(self.objectives)[1]
