"""Homeostasis with one objective; numbers of the public BioBlue benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from homeostasis_gym.core.homeostatic import Homeostatic

__all__ = ["Single"]


@dataclass(frozen=True, kw_only=True)
class Single(Homeostatic):
    """Parameters of homeostasis with one objective: target 100, half width 10, noise -5 to 3.

    Args:
        shock_probability: See `NoisyBenchmark`.
        shock_size: See `NoisyBenchmark`.
        episode_length: See `Benchmark`.
        max_consumption: See `Benchmark`.
    """

    name: ClassVar[str] = "single"

    @property
    def objective_names(self) -> tuple[str, ...]:  # noqa: D102 (inherited)
        return ("A",)

    @property
    def noise_low(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        return (-5,)

    @property
    def noise_high(self) -> tuple[int, ...]:  # noqa: D102 (inherited)
        return (3,)

    @property
    def targets(self) -> tuple[float, ...]:  # noqa: D102 (inherited)
        return (100.0,)

    @property
    def half_widths(self) -> tuple[float, ...]:  # noqa: D102 (inherited)
        return (10.0,)
