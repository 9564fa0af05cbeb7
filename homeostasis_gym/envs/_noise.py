"""Where an environment's noise comes from; the numbers themselves are made in `core.noise`."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.core.benchmark import Benchmark
from homeostasis_gym.core.noise import (
    add_shocks,
    derived_keys,
    published_path,
    rows_from_keys,
)
from homeostasis_gym.errors import HomeostasisError

__all__ = ["NoiseSource"]

SOURCES = ("gymnasium", "bioblue")


class NoiseSource:
    """The noise of one or many lanes, episode after episode.

    A lane draws one key from its generator; the key of its n-th episode is the n-th word of that key's
    stream. So an episode costs no call of a generator, and the path follows from the key alone.

    Args:
        benchmark: The dynamics, whose noise channels and shocks are drawn.
        kind: ``gymnasium`` draws from the environment's own generator; ``bioblue`` is the published
            stream of ``random.Random(seed)`` (shocks, which were never published, still come from the key).
        generator: Gives a lane's own generator.
        lanes: Number of environments.

    Raises:
        HomeostasisError: Unknown kind.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        kind: str,
        generator: Callable[[int], np.random.Generator],
        lanes: int = 1,
    ) -> None:
        if not isinstance(kind, str):
            raise HomeostasisError(
                f"`noise` must be one of {', '.join(SOURCES)}; a path is given to "
                f"reset(options={{'noise': path}}), got {kind!r}"
            )
        if kind not in SOURCES:
            raise HomeostasisError(f"`noise` must be one of {', '.join(SOURCES)}, got {kind!r}")
        self.benchmark = benchmark
        self.kind = kind
        self._generator = generator
        self._shape = benchmark.noise_shape
        self._published: list[random.Random | None] = [None] * lanes
        self._roots = np.zeros(lanes, dtype=np.uint64)
        self._rooted = np.zeros(lanes, dtype=bool)
        self._episodes = np.zeros(lanes, dtype=np.int64)
        self._keys = np.zeros(lanes, dtype=np.uint64)
        # Paths that are not computed row by row: published and scripted ones.
        self._paths: NDArray[np.float64] | None = None
        self._has_path = np.zeros(lanes, dtype=bool)

    def seed(self, lane: int, seed: int) -> None:
        """Start a lane over from a seed, as its own generator just has."""
        self._published[lane] = random.Random(seed)
        self._rooted[lane] = False

    def forget(self, lane: int) -> None:
        """Draw a lane's key anew: its generator has been exchanged for another."""
        self._rooted[lane] = False

    def start(self, lanes: NDArray[np.int64], scripted: NDArray[np.float64] | None = None) -> None:
        """Go on to the next episode in some lanes.

        Args:
            lanes: Indices of the lanes.
            scripted: Paths of all lanes to follow instead, shape (steps, channels, all lanes). What would
                have been drawn is drawn all the same, so that later episodes do not depend on it.
        """
        for lane in lanes[~self._rooted[lanes]].tolist():
            self._roots[lane] = self._generator(lane).integers(2**64, dtype=np.uint64)
            self._rooted[lane] = True
            self._episodes[lane] = 0
        self._keys[lanes] = derived_keys(self._roots[lanes], self._episodes[lanes])
        self._episodes[lanes] += 1
        b = self.benchmark
        if not b.noise_channels:
            return
        drawn = self._published_paths(lanes) if self.kind == "bioblue" else None
        chosen = drawn if scripted is None else scripted[:, :, lanes]
        self._has_path[lanes] = chosen is not None
        if chosen is not None:
            if self._paths is None:
                shape = (b.episode_length, b.noise_channels, len(self._keys))
                self._paths = np.zeros(shape)
            self._paths[:, :, lanes] = chosen
        elif self._paths is not None and not self._has_path.any():
            self._paths = None

    def path(self) -> NDArray[np.float64]:
        """The whole paths of the running episodes, fresh, shape (steps, channels, lanes)."""
        if self._paths is not None and self._has_path.all():
            return self._paths.copy()
        drawn = self.benchmark.noise_paths(self._keys)
        if self._paths is not None:
            drawn[:, :, self._has_path] = self._paths[:, :, self._has_path]
        return drawn

    def row(self, clock: NDArray[np.int64]) -> NDArray[np.float64]:
        """What every lane meets at its step of `clock`, fresh, shape (channels, lanes)."""
        if self._paths is None:
            drawn: NDArray[np.float64] = rows_from_keys(self._keys, clock, 1, self._shape)[0]
            return drawn
        lanes = np.arange(len(clock))
        scripted: NDArray[np.float64] = np.ascontiguousarray(self._paths[clock, :, lanes].T)
        if self._has_path.all():
            return scripted
        drawn = rows_from_keys(self._keys, clock, 1, self._shape)[0]
        return np.asarray(np.where(self._has_path, scripted, drawn))

    def _published_paths(self, lanes: NDArray[np.int64]) -> NDArray[np.float64]:
        b = self.benchmark
        paths = []
        for lane in lanes.tolist():
            published = self._published[lane]
            if published is None:  # never seeded
                published = random.Random(int(self._generator(lane).integers(2**63)))
                self._published[lane] = published
            paths.append(published_path(published, b.episode_length, b.noise_low, b.noise_high))
        stacked = np.stack(paths, axis=-1)
        if self._shape.shocks:
            add_shocks(stacked, self._keys[lanes], np.zeros(len(lanes), np.int64), self._shape)
        return stacked
