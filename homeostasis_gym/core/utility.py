"""Scalarisations: from a vector reward to one number.

Each is a function on arrays of shape (..., reward_dim); wrappers, the environments' ``scalarization=``
argument and the agents all take it from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.errors import HomeostasisError, UnknownNameError

__all__ = ["SCALARIZATIONS", "Scalarization", "linear", "make_scalarization"]

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
    vector = np.ones(reward_dim) if weights is None else np.asarray(weights, dtype=np.float64)
    if vector.shape != (reward_dim,) or not np.isfinite(vector).all():
        raise HomeostasisError(f"`weights` must be {reward_dim} finite numbers, got {weights!r}")
    return lambda reward: np.asarray(reward @ vector)


SCALARIZATIONS: dict[str, Callable[..., Scalarization]] = {"linear": linear}


def make_scalarization(spec: str | Mapping[str, Any], reward_dim: int) -> Scalarization:
    """Build a scalarisation from data.

    Args:
        spec: A name, or a mapping with ``name`` and the arguments of that scalarisation.
        reward_dim: Number of components of the vector reward.

    Raises:
        UnknownNameError: No such scalarisation.
        HomeostasisError: It does not take these arguments.
    """
    settings = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = settings.pop("name", None)
    if name not in SCALARIZATIONS:
        raise UnknownNameError(f"`scalarization` must be one of {', '.join(SCALARIZATIONS)}, got {name!r}")
    try:
        return SCALARIZATIONS[name](reward_dim, **settings)
    except TypeError as error:
        raise HomeostasisError(f"`scalarization` {name!r}: {error}") from error
