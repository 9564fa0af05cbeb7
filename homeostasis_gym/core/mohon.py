"""MO-HoN: multi-objective homeostasis with noise; numbers of the public BioBlue benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from homeostasis_gym.core.benchmark import check_integer, objective_names
from homeostasis_gym.core.homeostatic import Homeostatic, base_stock, restore
from homeostasis_gym.core.noise import level_noise

__all__ = ["MOHoN", "base_stock", "restore"]


@dataclass(frozen=True, kw_only=True)
class MOHoN(Homeostatic):
    """Parameters of multi-objective homeostasis with noise.

    The numbers of objective i = 1, 2, ... follow the published pattern: start and target 100 + 10i, half
    width of the band 10 + i, noise between -(5 + i) and 3 + i.

    Args:
        objectives: Number of objectives.
        shock_probability: See `NoisyBenchmark`.
        shock_size: See `NoisyBenchmark`.
        episode_length: See `Benchmark`.
        max_consumption: See `Benchmark`.
    """

    name: ClassVar[str] = "mohon"

    objectives: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("objectives", self.objectives, 1)

    @property
    def objective_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return objective_names(self.objectives)

    @property
    def noise_low(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        return level_noise(self.objectives)[0]

    @property
    def noise_high(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        return level_noise(self.objectives)[1]

    @property
    def targets(self) -> tuple[float, ...]:  # noqa: D102 (inherited)
        return tuple(100.0 + 10.0 * i for i in range(1, self.objectives + 1))

    @property
    def half_widths(self) -> tuple[float, ...]:  # noqa: D102 (inherited)
        return tuple(10.0 + i for i in range(1, self.objectives + 1))
