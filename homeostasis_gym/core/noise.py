"""Noise paths: what happens to the levels whatever the agent does.

A path is an array of shape (steps, channels). Two sources exist:

* ``gymnasium``: one 64-bit key per episode comes from the environment's own generator and is spread over
  the path by SplitMix64, a word per step and pair of channels. Any row of any path can be computed by
  itself, so that thousands of lanes cost neither thousands of generators nor the memory of their paths. A
  scalar environment seeded with ``s + i`` and lane ``i`` of a vector environment seeded with ``s`` see the
  same path.
* ``bioblue``: the stream of the published recordings, CPython's ``random.Random(seed)`` with one
  ``randint`` per objective and step, in objective order.

Force-majeure shocks, rare large jumps, come from words of their own and add to either source: the ordinary
noise is the same with and without them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.core._jit import formula, kernel
from homeostasis_gym.errors import HomeostasisError

__all__ = [
    "NoiseShape",
    "check_path",
    "derived_keys",
    "level_noise",
    "path_from_keys",
    "published_path",
    "rows_from_keys",
]

# SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHOCKS = np.uint64(0x6A09E667F3BCC908)  # sets the shocks' words apart from the ordinary noise's
_ONE = np.uint64(1)
_U11, _U27, _U30, _U31, _U32 = (np.uint64(n) for n in (11, 27, 30, 31, 32))
_UNCOMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "0"
_LOWER_HALF = np.uint64(0xFFFFFFFF)


def _wraps() -> AbstractContextManager[Any]:
    """Unsigned words are meant to wrap around; only kernels that run uncompiled would warn of it."""
    return np.errstate(over="ignore") if _UNCOMPILED else nullcontext()


@dataclass(frozen=True)
class NoiseShape:
    """What the noise of a benchmark looks like.

    Args:
        low: Smallest ordinary noise of each channel, inclusive.
        high: Largest ordinary noise of each channel, inclusive.
        shock_probability: Chance of a shock per step and channel, 0 to 1.
        shock_size: Size of a shock in levels; its sign is a fair coin.
        shock_channels: Shocks meet the first so many channels.
    """

    low: tuple[int, ...] = ()
    high: tuple[int, ...] = ()
    shock_probability: float = 0.0
    shock_size: float = 0.0
    shock_channels: int = 0

    @property
    def channels(self) -> int:
        """Number of noise channels."""
        return len(self.low)

    @property
    def shocks(self) -> bool:
        """Whether shocks can happen."""
        return self.shock_probability > 0.0 and self.shock_size != 0.0 and self.shock_channels > 0


def level_noise(objectives: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The published ranges: objective i = 1, 2, ... meets whole numbers from -(5 + i) to 3 + i.

    Returns:
        Smallest and largest value of every objective, inclusive.
    """
    numbers = range(1, objectives + 1)
    return tuple(-(5 + i) for i in numbers), tuple(3 + i for i in numbers)


@formula
def random_word(key: np.uint64, index: np.uint64) -> np.uint64:
    """Word `index` of the SplitMix64 stream that starts at `key`."""
    z = key + (index + _ONE) * _GAMMA
    z = (z ^ (z >> _U30)) * _MIX_1
    z = (z ^ (z >> _U27)) * _MIX_2
    return z ^ (z >> _U31)


@kernel
def _draw_rows(
    keys: NDArray[np.uint64],
    clock: NDArray[np.int64],
    low: NDArray[np.float64],
    span: NDArray[np.uint64],
    rows: NDArray[np.float64],
) -> None:
    steps, channels, lanes = rows.shape
    pairs = (channels + 1) // 2
    for t in range(steps):
        for pair in range(pairs):
            first, second = 2 * pair, 2 * pair + 1
            both = second < channels
            low_1, span_1 = low[first], span[first]
            low_2, span_2 = low_1, span_1
            if both:
                low_2, span_2 = low[second], span[second]
            for k in range(lanes):
                word = random_word(keys[k], np.uint64((clock[k] + t) * pairs + pair))
                # Half a word scaled to the span (Lemire's multiplication instead of a division).
                rows[t, first, k] = low_1 + np.float64(((word >> _U32) * span_1) >> _U32)
                if both:
                    rows[t, second, k] = low_2 + np.float64(((word & _LOWER_HALF) * span_2) >> _U32)


@kernel
def _add_shocks(
    keys: NDArray[np.uint64],
    clock: NDArray[np.int64],
    probability: float,
    size: float,
    channels: int,
    rows: NDArray[np.float64],
) -> None:
    steps, _, lanes = rows.shape
    for t in range(steps):
        for i in range(channels):
            for k in range(lanes):
                index = np.uint64((clock[k] + t) * channels + i)
                word = random_word(keys[k] ^ _SHOCKS, index)
                # 2**53 values in [0, 1); the lowest bit, not used by them, is the coin.
                if np.float64(word >> _U11) * 2.0**-53 < probability:
                    rows[t, i, k] += size if word & _ONE else -size


@kernel
def _derive(keys: NDArray[np.uint64], numbers: NDArray[np.int64], derived: NDArray[np.uint64]) -> None:
    for k in range(len(keys)):
        derived[k] = random_word(keys[k], np.uint64(numbers[k]))


def derived_keys(keys: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The key of each lane's episode: word `numbers` of the stream that starts at each lane's key.

    Args:
        keys: Shape (lanes,), uint64.
        numbers: Shape (lanes,), int64, the episodes' numbers from 0.
    """
    derived = np.empty_like(keys)
    with _wraps():
        _derive.call(keys, numbers, derived)
    return derived


def rows_from_keys(
    keys: NDArray[np.uint64], clock: NDArray[np.int64], steps: int, shape: NoiseShape
) -> NDArray[np.float64]:
    """Some consecutive rows of the noise paths that belong to keys.

    Args:
        keys: One key per path, shape (lanes,), uint64.
        clock: First row wanted of each path, shape (lanes,), int64.
        steps: Number of rows.
        shape: What the noise looks like.

    Returns:
        Array of shape (steps, channels, lanes), float64. The ordinary noise is uniform over the whole
        numbers of its range, but for less than (high - low + 1) / 2**32.
    """
    rows = np.empty((steps, shape.channels, len(keys)))
    if not shape.channels:
        return rows
    low, span = _columns(shape)
    with _wraps():
        _draw_rows.call(keys, clock, low, span, rows)
    if shape.shocks:
        add_shocks(rows, keys, clock, shape)
    return rows


def add_shocks(
    rows: NDArray[np.float64],
    keys: NDArray[np.uint64],
    clock: NDArray[np.int64],
    shape: NoiseShape,
) -> None:
    """Add the shocks that belong to keys to rows of noise, in place.

    Args:
        rows: Shape (steps, channels, lanes), float64.
        keys: Shape (lanes,), uint64.
        clock: Number of each path's first row, shape (lanes,), int64.
        shape: What the noise looks like.
    """
    with _wraps():
        _add_shocks.call(
            keys,
            clock,
            float(shape.shock_probability),
            float(shape.shock_size),
            shape.shock_channels,
            rows,
        )


_columns_of: dict[NoiseShape, tuple[NDArray[np.float64], NDArray[np.uint64]]] = {}


def _columns(shape: NoiseShape) -> tuple[NDArray[np.float64], NDArray[np.uint64]]:
    """Lower end and number of values of every channel, as the kernel wants them."""
    found = _columns_of.get(shape)
    if found is None:
        low = np.asarray(shape.low, dtype=np.int64)
        span = (np.asarray(shape.high, dtype=np.int64) - low + 1).astype(np.uint64)
        found = _columns_of[shape] = (low.astype(np.float64), span)
    return found


def path_from_keys(
    keys: NDArray[np.uint64],
    steps: int,
    low: Sequence[int],
    high: Sequence[int],
    shock_probability: float = 0.0,
    shock_size: float = 0.0,
) -> NDArray[np.float64]:
    """Spread keys over whole noise paths; shocks meet every channel.

    Args:
        keys: One key per path, shape (batch,), uint64.
        steps: Length of a path.
        low: Smallest value of each channel, inclusive.
        high: Largest value of each channel, inclusive.
        shock_probability: Chance per step and channel of a force-majeure shock, 0 to 1.
        shock_size: Size of a shock in levels.

    Returns:
        Array of shape (steps, channels, batch), float64.
    """
    shape = NoiseShape(tuple(low), tuple(high), shock_probability, shock_size, len(low))
    return rows_from_keys(keys, np.zeros(len(keys), dtype=np.int64), steps, shape)


def published_path(
    generator: random.Random, steps: int, low: Sequence[int], high: Sequence[int]
) -> NDArray[np.float64]:
    """Draw a path as the published benchmark does: one `randint` per objective and step.

    Args:
        generator: Generator of its own for the environment, ``random.Random(seed)``.
        steps: Length of the path.
        low: Smallest value per objective, inclusive.
        high: Largest value per objective, inclusive.

    Returns:
        Array of shape (steps, objectives), float64.
    """
    draws = [
        [generator.randint(int(a), int(b)) for a, b in zip(low, high, strict=True)] for _ in range(steps)
    ]
    return np.asarray(draws, dtype=np.float64).reshape(steps, len(low))


def check_path(noise: ArrayLike, steps: int, channels: int) -> NDArray[np.float64]:
    """Check a scripted noise path and cut it to the episode's length.

    Args:
        noise: Array of shape (steps or more, channels), finite.
        steps: Steps of the episode.
        channels: Noise channels of the environment.

    Returns:
        A fresh array of shape (steps, channels), float64.

    Raises:
        HomeostasisError: Wrong shape, too short, or not finite.
    """
    try:
        path = np.array(noise, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise HomeostasisError(f"`options['noise']` must be an array of numbers ({error})") from error
    if path.ndim != 2 or path.shape[1] != channels:
        raise HomeostasisError(f"`options['noise']` must have shape (steps, {channels}), got {path.shape}")
    if path.shape[0] < steps:
        raise HomeostasisError(
            f"`options['noise']` must cover the episode's {steps} steps, got {path.shape[0]}"
        )
    if not np.isfinite(path).all():
        raise HomeostasisError("`options['noise']` must be finite, got NaN or infinity")
    return path[:steps]
