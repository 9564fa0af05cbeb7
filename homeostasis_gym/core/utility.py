"""Scalarisations: from a vector reward to one number.

Each is a function on arrays of shape (..., reward_dim); wrappers, the environments' ``scalarization=``
argument and the agents all take it from here. Drive reduction looks at the levels instead of the reward, and
therefore takes the states before and after the step as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.errors import HomeostasisError, UnknownNameError

if TYPE_CHECKING:
    from homeostasis_gym.core.benchmark import Benchmark

__all__ = [
    "SCALARIZATIONS",
    "DriveReduction",
    "Scalarization",
    "chebyshev",
    "linear",
    "log",
    "make_scalarization",
    "minimum",
    "sfella",
]

Scalarization: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""(..., reward_dim) -> (...)."""


def linear(reward_dim: int, weights: Sequence[float] | None = None) -> Scalarization:
    """Weighted sum of the components.

    Args:
        reward_dim: Number of components.
        weights: One weight per component; all 1 by default, which is the published score.

    Raises:
        HomeostasisError: Wrong number of weights, or one is not finite.
    """
    return _Linear(_weights(reward_dim, weights))


def log(reward_dim: int, weights: Sequence[float] | None = None, scale: float = 10.0) -> Scalarization:
    """Concave where there is gain: a gain r counts as the logarithm of 1 + r / scale, a loss as r / scale.

    Args:
        reward_dim: Number of components.
        weights: One weight per component, none negative; all 1 by default.
        scale: Size of a reward from which on more of it pays markedly less.

    Raises:
        HomeostasisError: Wrong weights, or a scale that is not positive.
    """
    return _Concave(_weights(reward_dim, weights, least=0.0), _positive("scale", scale), None)


def sfella(
    reward_dim: int,
    weights: Sequence[float] | None = None,
    scale: float = 10.0,
    knee: float = 20.0,
) -> Scalarization:
    """Split-function exp-log loss aversion: log(1 + x) for gains, 1 - exp(-x) for losses, with x = r / scale.

    Losses hurt exponentially, so that no gain makes up for a large one. Beyond ``x = -knee`` the loss goes on
    along its tangent, which keeps the sum finite and the function concave.

    Reference: Smith, Klassert and Pihlakas, "Using soft maximin for risk averse multi-objective
    decision-making", Autonomous Agents and Multi-Agent Systems 37, 2023.

    Args:
        reward_dim: Number of components.
        weights: One weight per component, none negative; all 1 by default.
        scale: Size of a reward that counts as 1.
        knee: Where the exponential gives way to its tangent, at most 700.

    Raises:
        HomeostasisError: Wrong weights, or a scale or knee out of range.
    """
    if not 0.0 < _positive("knee", knee) <= 700.0:
        raise HomeostasisError(f"`knee` must be at most 700, got {knee!r}")
    return _Concave(_weights(reward_dim, weights, least=0.0), _positive("scale", scale), float(knee))


def minimum(reward_dim: int, weights: Sequence[float] | None = None) -> Scalarization:
    """The smallest weighted component: only the worst counts.

    Args:
        reward_dim: Number of components.
        weights: One weight per component, none negative; all 1 by default.

    Raises:
        HomeostasisError: Wrong weights.
    """
    return _Minimum(_weights(reward_dim, weights, least=0.0))


def chebyshev(
    reward_dim: int,
    weights: Sequence[float] | None = None,
    ideal: Sequence[float] | None = None,
) -> Scalarization:
    """The worst shortfall from an ideal reward: -max of weight * max(0, ideal - r).

    This is the weighted Chebyshev distance, except that more than the ideal costs nothing.

    Args:
        reward_dim: Number of components.
        weights: One weight per component, none negative; all 1 by default.
        ideal: The reward that would be perfect; zeros by default, which counts losses alone. Give it where
            gains matter, as in harvesting.

    Raises:
        HomeostasisError: Wrong weights or ideal.
    """
    point = np.zeros(reward_dim) if ideal is None else _vector("ideal", ideal, reward_dim)
    return _Chebyshev(_weights(reward_dim, weights, least=0.0), point)


class _Linear:
    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights

    def __call__(self, reward: NDArray[np.float64]) -> NDArray[np.float64]:
        # Component by component: a matrix product may sum in another order for another batch size.
        total = reward[..., 0] * self.weights[0]
        for i in range(1, len(self.weights)):
            total = total + reward[..., i] * self.weights[i]
        return np.asarray(total)


class _Concave:
    def __init__(self, weights: NDArray[np.float64], scale: float, knee: float | None) -> None:
        self.sum = _Linear(weights)
        self.scale = scale
        self.knee = knee

    def __call__(self, reward: NDArray[np.float64]) -> NDArray[np.float64]:
        x = np.asarray(reward, dtype=np.float64) / self.scale
        loss = np.minimum(x, 0.0)
        if self.knee is not None:
            beyond = np.minimum(loss + self.knee, 0.0)
            # From the knee on the slope stays exp(knee).
            loss = -np.expm1(-np.maximum(loss, -self.knee)) + beyond * np.exp(self.knee)
        return self.sum(np.log1p(np.maximum(x, 0.0)) + loss)


class _Minimum:
    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights

    def __call__(self, reward: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((reward * self.weights).min(axis=-1))


class _Chebyshev:
    def __init__(self, weights: NDArray[np.float64], ideal: NDArray[np.float64]) -> None:
        self.weights = weights
        self.ideal = ideal

    def __call__(self, reward: NDArray[np.float64]) -> NDArray[np.float64]:
        shortfall = np.maximum(self.ideal - reward, 0.0) * self.weights
        return np.asarray(0.0 - shortfall.max(axis=-1))


class DriveReduction:
    """Homeostatic drive reduction: how much nearer the step has brought the levels to their set points.

    The drive is D = (sum over the objectives of abs(deviation / half width) ** n) ** (1 / m); the reward is D
    before minus D after the step, both against the set points that were in force before it.

    Reference: Keramati and Gutkin, "Homeostatic reinforcement learning for integrating reward collection and
    physiological stability", eLife 3:e04811, 2014.

    Args:
        reward_dim: Number of components of the vector reward, which is not looked at.
        benchmark: The dynamics; must have bands around set points.
        n: Exponent on the deviations.
        m: Root of their sum.

    Raises:
        HomeostasisError: The benchmark has no set points, or an exponent is not positive.
    """

    def __init__(self, reward_dim: int, benchmark: Benchmark | None, n: float = 4.0, m: float = 2.0) -> None:
        start = None if benchmark is None else np.asarray(benchmark.initial_state)
        if benchmark is None or start is None or benchmark.bands(start) is None:
            name = "an environment that is not ours" if benchmark is None else benchmark.name
            raise HomeostasisError(
                f"`scalarization` 'drive-reduction' needs levels with set points, got {name}"
            )
        self.benchmark = benchmark
        self.n = _positive("n", n)
        self.m = _positive("m", m)

    def __call__(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
        """The reward of a step.

        Args:
            before: States before the step, shape (..., state_dim).
            after: States after it, the same shape.

        Returns:
            Shape (...), float64.
        """
        bands = self.benchmark.bands(before)
        assert bands is not None  # checked at construction
        target, half_width = (bands[0] + bands[1]) / 2.0, (bands[1] - bands[0]) / 2.0
        drives = []
        for states in (before, after):
            distance = np.abs((self.benchmark.levels(states) - target) / half_width) ** self.n
            total = distance[..., 0]
            for i in range(1, distance.shape[-1]):
                total = total + distance[..., i]
            drives.append(total ** (1.0 / self.m))
        return np.asarray(drives[0] - drives[1])


SCALARIZATIONS: dict[str, Callable[..., Scalarization]] = {
    "linear": linear,
    "log": log,
    "sfella": sfella,
    "min": minimum,
    "chebyshev": chebyshev,
}


def make_scalarization(spec: str | Mapping[str, Any], reward_dim: int) -> Scalarization:
    """Build a scalarisation of the vector reward from data.

    Args:
        spec: A name, or a mapping with ``name`` and the arguments of that scalarisation.
        reward_dim: Number of components of the vector reward.

    Raises:
        UnknownNameError: No such scalarisation.
        HomeostasisError: It does not take these arguments.
    """
    scalarization = make_utility(spec, reward_dim, None)
    if isinstance(scalarization, DriveReduction):  # pragma: no cover - refused above
        raise HomeostasisError("`scalarization` 'drive-reduction' needs an environment")
    return scalarization


def make_utility(
    spec: str | Mapping[str, Any], reward_dim: int, benchmark: Benchmark | None
) -> Scalarization | DriveReduction:
    """Build a scalarisation from data, ``drive-reduction`` included, which needs the benchmark.

    Args:
        spec: A name, or a mapping with ``name`` and the arguments of that scalarisation.
        reward_dim: Number of components of the vector reward.
        benchmark: The dynamics; None for an environment that is not ours.

    Raises:
        UnknownNameError: No such scalarisation.
        HomeostasisError: It does not take these arguments.
    """
    if not isinstance(spec, (str, Mapping)):
        raise HomeostasisError(
            f"`scalarization` must be a name or a mapping with `name` and arguments, got {spec!r}"
        )
    settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("name", None)
    try:
        if name == "drive-reduction":
            return DriveReduction(reward_dim, benchmark, **settings)
        if isinstance(name, str) and name in SCALARIZATIONS:
            return SCALARIZATIONS[name](reward_dim, **settings)
    except TypeError as error:
        raise HomeostasisError(f"`scalarization` {name!r}: {error}") from error
    raise UnknownNameError(
        f"`scalarization` must be one of {', '.join((*SCALARIZATIONS, 'drive-reduction'))}, got {name!r}"
    )


def _vector(name: str, values: Sequence[float], reward_dim: int) -> NDArray[np.float64]:
    try:
        vector = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        vector = np.empty(0)
    if vector.shape != (reward_dim,) or not np.isfinite(vector).all():
        raise HomeostasisError(f"`{name}` must be {reward_dim} finite numbers, got {values!r}")
    return vector


def _weights(reward_dim: int, weights: Sequence[float] | None, least: float = -np.inf) -> NDArray[np.float64]:
    if weights is None:
        return np.ones(reward_dim)
    vector = _vector("weights", weights, reward_dim)
    if (vector < least).any():
        raise HomeostasisError(
            f"`weights` must not be negative here, where more reward must never count less, got {weights!r}"
        )
    return vector


def _positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 < value < np.inf:
        raise HomeostasisError(f"`{name}` must be a positive number, got {value!r}")
    return float(value)
