"""What a figure shows of an episode: levels in units of their bands, or of their common mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse import Subject, subject_from_dict
from homeostasis_gym.core import ValueGraph
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
    def tolerance(self) -> float | None:
        """Half of the region without fault in `compared`, None where there is no such region."""
        return 1.0 if self.banded else 0.5 if self.meaning.startswith("distance") else None

    @property
    def compared(self) -> Floats:
        """Levels relative to their centre, in units, shape (T + 1, n)."""
        result: Floats = (self.levels - self.centre) / self.unit
        return result


def view(trajectory: Trajectory) -> View:
    """Read an episode for a figure; a record without known dynamics shows its plain observations."""
    subject = _subject(trajectory)
    if subject is None:
        levels = trajectory.observations
        names = trajectory.header.objective_names
        if len(names) != levels.shape[1]:
            names = tuple(f"observation {i + 1}" for i in range(levels.shape[1]))
        return _plain(names, levels, "observation")
    states = trajectory.states
    if isinstance(subject.benchmark, ValueGraph):  # every agent's values, whosever turn it is
        values = subject.benchmark.split(states)[0]
        pairs = tuple(f"{a} {v}" for a in subject.benchmark.agents for v in subject.objective_names)
        return _plain(pairs, values.reshape(len(states), -1), "level")
    levels = subject.levels(states)
    names = subject.objective_names
    bands = subject.bands(states)
    if bands is not None:
        lower, upper = (np.asarray(edge, dtype=np.float64) for edge in bands)
        half = np.maximum(0.5 * (upper - lower), 1e-9)
        centre = 0.5 * (lower + upper)
        meaning = "distance from the target, in half widths of the band"
        return View(names, levels, lower, upper, centre, half, meaning, True)
    if levels.shape[1] > 1:
        mean = np.broadcast_to(levels.mean(axis=1, keepdims=True), levels.shape)
        full = getattr(subject.rules, "full_harvest", 10.0)
        meaning = f"distance from the mean total, in harvests of {full:g}"
        return View(names, levels, None, None, mean, np.full_like(levels, full), meaning, False)
    return _plain(names, levels, "level")


def _plain(names: tuple[str, ...], levels: Floats, meaning: str) -> View:
    """Levels as they are, in units of their range, so that none is bent much."""
    finite = levels[np.isfinite(levels)]
    span = float(np.ptp(finite)) if finite.size else 1.0
    unit = np.full_like(levels, max(1.0, span))
    return View(names, levels, None, None, np.zeros_like(levels), unit, meaning, False)


def _subject(trajectory: Trajectory) -> Subject | None:
    """What a record is about, None for one that is not known or does not fit."""
    try:
        subject = subject_from_dict(trajectory.header.benchmark)
    except HomeostasisError:
        return None
    benchmark = subject.benchmark
    dim = len(subject.objective_names) if benchmark is None else len(benchmark.initial_state)
    return subject if trajectory.states.shape[1] == dim else None
