"""What a figure shows of an episode: levels in units of their bands, or of their common mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.core.benchmark import Benchmark, benchmark_from_dict
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.trajectory import Trajectory

__all__ = ["View", "view"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """An episode as a figure shows it.

    Attributes:
        names: Names of the levels.
        levels: (T + 1, n), before every action and at the end.
        lower: Lower edges of the bands, the same shape; None without bands.
        upper: Upper edges of the bands, the same shape; None without bands.
        centre: What the levels are compared with, the same shape.
        unit: Half width of the band, the same shape; where there is none, one full harvest.
        meaning: What the compared levels are, for the axis.
        banded: Whether |compared| <= 1 is a band.
    """

    names: tuple[str, ...]
    levels: Floats
    lower: Floats | None
    upper: Floats | None
    centre: Floats
    unit: Floats
    meaning: str
    banded: bool

    @property
    def compared(self) -> Floats:
        """Levels relative to their centre, in units, shape (T + 1, n)."""
        result: Floats = (self.levels - self.centre) / self.unit
        return result


def view(trajectory: Trajectory) -> View:
    """Read an episode for a figure; a record without known dynamics shows its plain observations."""
    benchmark = known_benchmark(trajectory)
    if benchmark is None:
        levels = trajectory.observations
        names = trajectory.header.objective_names
        if len(names) != levels.shape[1]:
            names = tuple(f"observation {i + 1}" for i in range(levels.shape[1]))
        flat = np.zeros_like(levels)
        return View(names, levels, None, None, flat, flat + 1.0, "observation", False)
    states = trajectory.states
    levels = np.asarray(benchmark.levels(states), dtype=np.float64)
    names = benchmark.objective_names
    if len(names) != levels.shape[1]:
        names = tuple(f"level {i + 1}" for i in range(levels.shape[1]))
    bands = benchmark.bands(states)
    if bands is not None:
        lower, upper = (np.asarray(edge, dtype=np.float64) for edge in bands)
        half = np.maximum(0.5 * (upper - lower), 1e-9)
        return View(
            names,
            levels,
            lower,
            upper,
            0.5 * (lower + upper),
            half,
            "distance from the target, in half widths of the band",
            True,
        )
    if levels.shape[1] > 1:
        mean = levels.mean(axis=1, keepdims=True)
        unit = np.full_like(levels, 10.0)
        return View(
            names,
            levels,
            None,
            None,
            np.broadcast_to(mean, levels.shape),
            unit,
            "distance from the mean total, in harvests of 10",
            False,
        )
    flat = np.zeros_like(levels)
    return View(names, levels, None, None, flat, flat + 1.0, "level", False)


def known_benchmark(trajectory: Trajectory) -> Benchmark | None:
    """The benchmark of a record, None for one that is not ours or does not fit."""
    if not trajectory.header.benchmark:
        return None
    try:
        benchmark = benchmark_from_dict(trajectory.header.benchmark)
    except HomeostasisError:
        return None
    if trajectory.states.shape[1] != len(benchmark.initial_state):
        return None
    return benchmark
