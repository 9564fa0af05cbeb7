"""Where an environment's noise paths come from; the paths themselves are made in `core.noise`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.core.benchmark import Benchmark
from homeostasis_gym.core.noise import published_path
from homeostasis_gym.errors import HomeostasisError

__all__ = ["NoiseSource"]

SOURCES = ("gymnasium", "bioblue")


class NoiseSource:
    """The noise of one or many lanes, episode after episode.

    Args:
        benchmark: The dynamics, whose noise channels and shocks are drawn.
        kind: ``gymnasium`` draws from the environment's own generator; ``bioblue`` is the published
            stream of ``random.Random(seed)``.
        lanes: Number of environments.
        keys_at_once: How many episodes' keys are drawn from a generator at a time. Any number gives the
            same stream; more is faster for a vector environment.

    Raises:
        HomeostasisError: Unknown kind.
    """

    def __init__(
        self, benchmark: Benchmark, kind: str, lanes: int = 1, keys_at_once: int = 1
    ) -> None:
        if kind not in SOURCES:
            raise HomeostasisError(f"`noise` must be one of {', '.join(SOURCES)}, got {kind!r}")
        self.benchmark = benchmark
        self.kind = kind
        self._published: list[random.Random | None] = [None] * lanes
        self._keys = np.zeros((lanes, keys_at_once), dtype=np.uint64)
        self._used = np.full(lanes, keys_at_once, dtype=np.int64)

    def seed(self, lane: int, seed: int) -> None:
        """Start a lane over from a seed, as its own generator just has."""
        self._published[lane] = random.Random(seed)
        self._used[lane] = self._keys.shape[1]

    def draw(
        self,
        lanes: Sequence[int] | NDArray[np.int64],
        generator: Callable[[int], np.random.Generator],
    ) -> NDArray[np.float64]:
        """Draw the next episode's path of some lanes.

        Args:
            lanes: Indices of the lanes.
            generator: Gives a lane's own generator.

        Returns:
            Array of shape (steps, channels, len(lanes)), float64.
        """
        b = self.benchmark
        if not b.noise_channels:
            return np.zeros((b.episode_length, 0, len(lanes)))
        if self.kind == "bioblue":
            paths = []
            for lane in lanes:
                published = self._published[lane]
                if published is None:  # never seeded
                    published = random.Random(int(generator(lane).integers(2**63)))
                    self._published[lane] = published
                paths.append(published_path(published, b.episode_length, b.noise_low, b.noise_high))
            return np.stack(paths, axis=-1)
        at_once = self._keys.shape[1]
        indices = np.asarray(lanes, dtype=np.int64)
        for lane in indices[self._used[indices] == at_once]:
            drawn = generator(int(lane)).integers(2**64, size=at_once, dtype=np.uint64)
            self._keys[lane] = drawn
            self._used[lane] = 0
        keys = self._keys[indices, self._used[indices]]
        self._used[indices] += 1
        return b.noise_paths(keys)
