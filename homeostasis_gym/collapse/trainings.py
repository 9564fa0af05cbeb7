"""Intervals over several trainings, every one of which plays the same paths.

Trainings and paths are both samples, and crossed: a hard path is hard for all trainings, an unlucky training
is bad on all paths. Episodes alone would count five policies as five hundred independent observations, and a
bootstrap that draws three to five trainings again cannot show more spread than these few have. What is used
here instead knows how few they are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.collapse.statistics import Interval, _scipy
from homeostasis_gym.errors import HomeostasisError

__all__ = ["mean_over_trainings", "rate_over_trainings"]

# With fewer flips the spread of their rate cannot be estimated; the usual least count of a cell.
_FEWEST = 5


def mean_over_trainings(
    values: ArrayLike, confidence: float = 0.95, *, bounds: tuple[float, float] | None = None
) -> Interval | None:
    """Interval of the mean over all trainings and all paths that there could be.

    Analysis of variance with two crossed random effects, trainings and paths; the degrees of freedom are
    Satterthwaite's. It supposes nearly normal means: where regret has a long tail over few trainings it may
    reach below what is possible, and is then wide rather than wrong.

    Source: F. E. Satterthwaite, "An approximate distribution of estimates of variance components", Biometrics
    Bulletin 2, 1946; S. R. Searle, G. Casella and C. E. McCulloch, "Variance Components", 1992.

    Args:
        values: Shape (trainings, paths), column j of every training on the same path; no NaN.
        confidence: Level of the interval, between 0 and 1.
        bounds: Least and greatest value that there can be, to which the interval is cut; None for none.

    Returns:
        The interval, or None for one training, which tells nothing about others.

    Raises:
        HomeostasisError: The values have another shape, are not all finite or out of bounds, or the level is
            out of range.
        MissingExtraError: SciPy is not installed.
    """
    table = _table(values, confidence)
    if len(table) < 2:
        return None
    variance, freedom = _variance_of_mean(table)
    half = _quantile("t", confidence, freedom) * math.sqrt(variance)
    low, high = (-math.inf, math.inf) if bounds is None else bounds
    if not (low <= table).all() or not (table <= high).all():
        raise HomeostasisError(
            f"`bounds` must hold all values, got {bounds} and values from {table.min():g} to {table.max():g}"
        )
    mean = float(table.mean())
    return max(low, mean - half), min(high, mean + half)


def rate_over_trainings(flags: ArrayLike, confidence: float = 0.95) -> Interval:
    """Interval of a rate over all trainings and all paths that there could be.

    Wilson's interval on the effective number of independent episodes, which is what gives a rate the
    variance that trainings and paths show, made smaller for having been estimated from few of them. Where
    fewer than five episodes flip, or fewer than five do not, nothing can be seen of that variance, and every
    training counts as one observation.

    Source: L. Kish, "Survey Sampling", 1965 (effective sample size); E. L. Korn and B. I. Graubard,
    "Confidence intervals for proportions with small expected number of positive counts estimated from survey
    data", Survey Methodology 24, 1998 (with their correction for few degrees of freedom).

    Args:
        flags: Shape (trainings, paths), true where the episode flipped, column j always on the same path.
        confidence: Level of the interval, between 0 and 1.

    Raises:
        HomeostasisError: The flags have another shape or are neither 0 nor 1, or the level is out of range.
        MissingExtraError: SciPy is not installed.
    """
    table = _table(flags, confidence)
    if not np.isin(table, (0.0, 1.0)).all():
        raise HomeostasisError(f"`flags` must be 0 or 1, got values from {table.min():g} to {table.max():g}")
    rate, effective = float(table.mean()), float(len(table))
    flips = int(table.sum())
    if min(flips, table.size - flips) >= _FEWEST and len(table) > 1:
        variance, freedom = _variance_of_mean(table)
        z, t = _quantile("norm", confidence), _quantile("t", confidence, freedom)
        seen = rate * (1.0 - rate) / variance * (z / t) ** 2 if variance > 0 else table.size
        effective = min(table.size, max(1.0, seen))
    return _wilson(rate, effective, confidence)


def _table(values: ArrayLike, confidence: float) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise HomeostasisError(f"`values` must have the shape (trainings, paths), got {table.shape}")
    if not np.isfinite(table).all():
        raise HomeostasisError(
            f"`values` must be finite, got {np.count_nonzero(~np.isfinite(table))} that are not"
        )
    if not 0.0 < confidence < 1.0:
        raise HomeostasisError(f"`confidence` must be between 0 and 1, got {confidence!r}")
    return table


def _variance_of_mean(table: NDArray[np.float64]) -> tuple[float, float]:
    """Variance of the mean of a table with at least two rows, and its degrees of freedom."""
    rows, columns = table.shape
    mean = table.mean()
    of_rows, of_columns = table.mean(axis=1), table.mean(axis=0)
    trainings = columns * float(np.square(of_rows - mean).sum()) / (rows - 1)
    if columns == 1:
        return trainings / rows, rows - 1.0
    paths = rows * float(np.square(of_columns - mean).sum()) / (columns - 1)
    rest_freedom = (rows - 1.0) * (columns - 1.0)
    rest = float(np.square(table - of_rows[:, np.newaxis] - of_columns + mean).sum()) / rest_freedom
    total = trainings + paths - rest
    if total <= max(trainings, paths):
        # One of the two effects is not seen; the other alone then bounds the variance from below.
        total, freedom = max((trainings, rows - 1.0), (paths, columns - 1.0))
        return total / table.size, freedom
    freedom = total**2 / (trainings**2 / (rows - 1.0) + paths**2 / (columns - 1.0) + rest**2 / rest_freedom)
    return total / table.size, freedom


def _quantile(distribution: str, confidence: float, *parameters: float) -> float:
    """How many standard errors a two-sided interval reaches to either side."""
    return float(getattr(_scipy(), distribution).ppf(0.5 + confidence / 2.0, *parameters))


def _wilson(rate: float, trials: float, confidence: float) -> Interval:
    """Wilson's interval for a number of trials that need not be whole, which SciPy does not offer."""
    z = _quantile("norm", confidence)
    centre = (rate + z * z / (2.0 * trials)) / (1.0 + z * z / trials)
    half = z * math.sqrt(rate * (1.0 - rate) / trials + z * z / (4.0 * trials**2)) / (1.0 + z * z / trials)
    # At the ends rounding would leave next to nothing in place of nothing.
    return (0.0 if rate == 0.0 else centre - half), (1.0 if rate == 1.0 else centre + half)
