"""Noise paths: what happens to the levels whatever the agent does.

A path is an array of shape (steps, channels), drawn at the start of an episode. Two sources exist:

* ``gymnasium``: one 64-bit key per episode is drawn from the environment's own generator and spread
  over the path by SplitMix64. A scalar environment seeded with ``s + i`` and lane ``i`` of a vector
  environment seeded with ``s`` see the same path, and thousands of lanes cost no thousands of generators.
* ``bioblue``: the stream of the published recordings, CPython's ``random.Random(seed)`` with one
  ``randint`` per objective and step, in objective order.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.errors import HomeostasisError

__all__ = ["check_path", "path_from_keys", "published_path"]

# SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def random_words(keys: NDArray[np.uint64], first: int, count: int) -> NDArray[np.uint64]:
    """Words `first` .. ``first + count - 1`` of the SplitMix64 stream that starts at each key.

    Args:
        keys: Array of shape (batch,), uint64.
        first: Index of the first word wanted.
        count: Number of words.

    Returns:
        Array of shape (count, batch), uint64, independent of how the stream is cut into calls.
    """
    counters = np.arange(first + 1, first + count + 1, dtype=np.uint64) * _GAMMA
    z = counters[:, np.newaxis] + keys[np.newaxis, :]
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed


def path_from_keys(
    keys: NDArray[np.uint64],
    steps: int,
    low: Sequence[int],
    high: Sequence[int],
    shock_probability: float = 0.0,
    shock_size: float = 0.0,
) -> NDArray[np.float64]:
    """Spread keys over noise paths of uniform integers, with rare large jumps where asked for.

    Args:
        keys: One key per path, shape (batch,), uint64.
        steps: Length of a path.
        low: Smallest value of each channel, inclusive.
        high: Largest value of each channel, inclusive.
        shock_probability: Chance per step and channel of a force-majeure shock, 0 to 1.
        shock_size: Size of a shock in levels; its sign is a fair coin. It adds to the ordinary noise,
            which is the same with and without shocks.

    Returns:
        Array of shape (steps, channels, batch), float64. A value's probability differs from uniform by
        less than (high - low + 1) / 2**32.
    """
    channels = len(low)
    low_column = np.asarray(low, dtype=np.float64).reshape(1, channels, 1)
    span = (np.asarray(high, dtype=np.uint64) - np.asarray(low, dtype=np.int64)).astype(np.uint64)
    span = span.reshape(1, channels, 1) + np.uint64(1)
    words = random_words(keys, 0, steps * channels).reshape(steps, channels, len(keys))
    # The upper 32 bits, scaled to the span (Lemire's multiplication instead of a division).
    path = (((words >> np.uint64(32)) * span) >> np.uint64(32)).astype(np.float64) + low_column
    if shock_probability > 0.0 and shock_size != 0.0:
        words = random_words(keys, steps * channels, steps * channels).reshape(path.shape)
        # 2**53 values in [0, 1); the lowest bit, not used by them, is the coin.
        uniform = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
        sign = np.where(words & np.uint64(1), 1.0, -1.0)
        path += np.where(uniform < shock_probability, sign * shock_size, 0.0)
    return path


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
        [generator.randint(int(a), int(b)) for a, b in zip(low, high, strict=True)]
        for _ in range(steps)
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
        raise HomeostasisError(
            f"`options['noise']` must be an array of numbers ({error})"
        ) from error
    if path.ndim != 2 or path.shape[1] != channels:
        raise HomeostasisError(
            f"`options['noise']` must have shape (steps, {channels}), got {path.shape}"
        )
    if path.shape[0] < steps:
        raise HomeostasisError(
            f"`options['noise']` must cover the episode's {steps} steps, got {path.shape[0]}"
        )
    if not np.isfinite(path).all():
        raise HomeostasisError("`options['noise']` must be finite, got NaN or infinity")
    return path[:steps]
