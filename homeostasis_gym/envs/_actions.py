"""Three shapes of the same action: counts per objective, one flattened number, or a continuous box."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from numpy.typing import NDArray

from homeostasis_gym.core.benchmark import NO_LIMIT, Benchmark, as_array, as_units
from homeostasis_gym.errors import HomeostasisError

__all__ = ["ActionCodec"]

MODES = ("multidiscrete", "discrete", "box")
# Beyond this a flattened space is of no use to anyone, and a table of it would not fit in memory.
MOST_FLATTENED = 10**6


class ActionCodec:
    """The action space of one environment, and the way from it to counts of units.

    Args:
        benchmark: The dynamics.
        mode: ``multidiscrete`` (the default under a limit) takes a count per objective. ``discrete``
            numbers all combinations, the last objective counting fastest. ``box`` is continuous in
            [0, limit] and rounded to the nearest count (half to even); without a limit it holds whole
            numbers (int64) and is the only mode.

    Raises:
        HomeostasisError: Unknown mode, or one that this limit does not allow.
    """

    def __init__(self, benchmark: Benchmark, mode: str | None) -> None:
        unlimited = benchmark.max_consumption is None
        if mode is None:
            mode = "box" if unlimited else "multidiscrete"
        if not isinstance(mode, str) or mode not in MODES:
            raise HomeostasisError(f"`actions` must be one of {', '.join(MODES)}, got {mode!r}")
        if unlimited and mode != "box":
            raise HomeostasisError(f"`actions` must be 'box' where `max_consumption` is None, got {mode!r}")
        self.mode = mode
        self.limit = benchmark.action_limit
        self.objectives = benchmark.objectives
        shape = (self.objectives,)
        self.space: Space[Any]
        if mode == "multidiscrete":
            self.space = MultiDiscrete([self.limit + 1] * self.objectives)
        elif mode == "discrete":
            count = (self.limit + 1) ** self.objectives
            if count > MOST_FLATTENED:
                raise HomeostasisError(
                    f"`actions='discrete'` must flatten to at most {MOST_FLATTENED} combinations, "
                    f"got ({self.limit} + 1) ** {self.objectives} = {count}"
                )
            self.space = Discrete(count)
            self._place = (self.limit + 1) ** np.arange(self.objectives - 1, -1, -1)
        elif unlimited:
            self.space = Box(0, self.limit, shape, np.int64)
        else:
            self.space = Box(0.0, float(self.limit), shape, np.float32)
        self.rounds = mode == "box" and not unlimited

    def units(self, actions: Any, lanes: int) -> NDArray[np.int64]:
        """Turn one batch of actions into counts of units.

        Args:
            actions: A batch of the action space: (lanes, objectives), or (lanes,) when flattened.
            lanes: Number of environments.

        Returns:
            Array (lanes, objectives), int64, C-contiguous; possibly the given array itself.

        Raises:
            HomeostasisError: Wrong shape or type, or a flattened action out of range. The range of
                counts is checked by the kernel.
        """
        if self.mode == "discrete":
            numbers = as_units(actions)
            if numbers.shape != (lanes,):
                raise HomeostasisError(f"`action` must have shape ({lanes},), got {numbers.shape}")
            count = (self.limit + 1) ** self.objectives
            if lanes and not (numbers.min() >= 0 and numbers.max() < count):
                raise HomeostasisError(f"`action` must be in [0, {count - 1}], got {numbers.tolist()[:8]}")
            return np.ascontiguousarray(numbers[:, np.newaxis] // self._place % (self.limit + 1))
        if self.rounds:
            values = as_array(actions)
            if values.dtype.kind not in "iuf":
                raise HomeostasisError(f"`action` must be numbers, got {values.dtype}: {actions!r}")
            if not np.isfinite(values).all():
                raise HomeostasisError(f"`action` must be finite, got {actions!r}")
            if values.size and not (values.min() > -NO_LIMIT and values.max() < NO_LIMIT):
                raise HomeostasisError(
                    f"`action` must be amounts in [0, {self.limit}], got {values.tolist()}"
                )
            units: NDArray[np.int64] = np.rint(values).astype(np.int64)
        else:
            units = as_units(actions)
        if units.shape != (lanes, self.objectives):
            raise HomeostasisError(
                f"`action` must have shape {(self.objectives,)} for each environment, "
                f"got {units.shape[1:] if units.shape[:1] == (lanes,) else units.shape}"
            )
        # Kernels are compiled for plain arrays: no strides, writable.
        return units if units.flags.carray else units.copy()
