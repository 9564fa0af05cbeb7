"""The scalar environment that all benchmarks share: a batch of one around the kernel in `core`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from numpy.typing import NDArray

from homeostasis_gym.core.benchmark import (
    FORBIDDEN,
    OUT_OF_RANGE,
    TERMINATED,
    Benchmark,
    as_array,
    out_of_range,
)
from homeostasis_gym.core.noise import check_path
from homeostasis_gym.core.utility import DriveReduction, Scalarization, make_utility
from homeostasis_gym.envs import _rendering
from homeostasis_gym.envs._actions import ActionCodec
from homeostasis_gym.envs._noise import NoiseSource
from homeostasis_gym.errors import HomeostasisError

__all__ = ["HomeostasisEnv", "check_options", "spaces"]

_INT64 = np.dtype(np.int64)
_LANE = np.zeros(1, dtype=np.int64)  # the one lane of a scalar environment


class HomeostasisEnv(gym.Env[NDArray[np.float64], Any]):
    """Base of the Gymnasium environments; a subclass names its benchmark and describes it.

    Args:
        actions: ``multidiscrete``, ``discrete`` (flattened) or ``box``; see `ActionCodec`.
        noise: ``gymnasium`` (from the environment's own generator) or ``bioblue`` (the published stream).
        scalarization: None for the vector reward; a name or a mapping for `make_utility` turns it
            into one number, and the vector goes to ``info["vector_reward"]``.
        render_mode: None, ``ansi`` or ``rgb_array``.
        **parameters: Fields of the benchmark's dataclass.

    Attributes:
        benchmark: The parameters and dynamics, frozen.
        reward_space: Box that holds every vector reward.
        reward_dim: Number of components of the vector reward.
        reward_names: Their names, in order.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # type: ignore[misc]
    benchmark_class: ClassVar[type[Benchmark]]

    def __init__(
        self,
        *,
        actions: str | None = None,
        noise: str = "gymnasium",
        scalarization: str | Mapping[str, Any] | None = None,
        render_mode: str | None = None,
        **parameters: Any,
    ) -> None:
        self.benchmark = self.benchmark_class(**parameters)
        self._codec = ActionCodec(self.benchmark, actions)
        self.action_space = self._codec.space
        self.observation_space, self.reward_space = spaces(self.benchmark)
        self.reward_dim = self.benchmark.reward_dim
        self.reward_names = self.benchmark.reward_names
        self.scalarization = scalarization
        self._utility: Scalarization | None = None
        self._drive: DriveReduction | None = None
        if scalarization is not None:
            utility = make_utility(scalarization, self.reward_dim, self.benchmark)
            if isinstance(utility, DriveReduction):
                self._drive = utility
            else:
                self._utility = utility
        self._source = NoiseSource(self.benchmark, noise, self._own_generator)
        self._generator: np.random.Generator | None = None
        _rendering.check_mode(render_mode, self.metadata)
        self.render_mode = render_mode
        self._history: list[NDArray[np.float64]] = []

        self._length = self.benchmark.episode_length
        self._fully_observed = self.benchmark.fully_observed
        self._advance = self.benchmark.advance
        self._shape = (self.benchmark.objectives,)
        self._reward_shape = (self.reward_dim, 1)
        self._direct = self._codec.mode != "discrete"  # the action space holds int64 counts as they are
        self._levels = np.empty(len(self.benchmark.initial_state))
        self._state = self._levels.reshape(-1, 1)  # the same memory as a batch of one
        self._path = np.empty((self._length, self.benchmark.noise_channels, 1))
        self._told = self._path[:, :, 0].copy()
        self._flags = np.zeros(1, dtype=np.uint8)
        self._step = -1  # no episode is running

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Starts the generators over; without it they go on.
            options: ``{"noise": array}`` replays a given noise path, shape (steps, channels), at least
                as long as the episode. The path that would have been drawn is drawn all the same, so
                that later episodes do not depend on this option.

        Raises:
            HomeostasisError: Unknown option, or a noise path of the wrong shape.
        """
        check_options(options, ("noise",))
        scripted = None
        if options is not None and options.get("noise") is not None:
            scripted = check_path(options["noise"], self._length, self.benchmark.noise_channels)
        super().reset(seed=seed)
        if seed is not None:
            self._source.seed(0, seed)
        if self.np_random is not self._generator:
            self._generator = self.np_random
            self._source.forget(0)
        self._source.start(_LANE, None if scripted is None else scripted[:, :, np.newaxis])
        self._path = self._source.path()
        # What infos give away, row by row: nobody who writes into it touches the path itself.
        self._told = self._path[:, :, 0].copy()
        self._levels[:] = self.benchmark.initial_state
        self._step = 0
        observation = self.benchmark.observe(self._levels)
        if self.render_mode is not None:
            self._history = [self._levels.copy()]
        return observation, {} if self.benchmark.fully_observed else {"state": self.state}

    def step(self, action: Any) -> tuple[NDArray[np.float64], SupportsFloat, bool, bool, dict[str, Any]]:
        """Run one step.

        Returns:
            Observation (observation_dim,), reward (reward_dim,) float64 (or a float under
            ``scalarization``), terminated, truncated, and info with ``noise`` (channels,) and
            ``invalid_action``.

        Raises:
            ResetNeeded: No episode is running.
            HomeostasisError: The action is not in the action space. Nothing has changed then.
        """
        step = self._step
        if step < 0:
            raise ResetNeeded("`step` was called while no episode is running; call `reset` first")
        if (
            type(action) is np.ndarray
            and action.dtype is _INT64
            and action.shape == self._shape
            and self._direct
            and action.flags.carray
        ):
            units = action[None]  # the common case, without a detour
        else:
            units = self._codec.units(as_array(action)[np.newaxis], 1)
        before = self._levels.copy() if self._drive is not None else None
        column = np.empty(self._reward_shape)
        flags = self._advance(self._state, units, self._path[step], column, self._flags)
        terminated = forbidden = False
        if flags:
            if flags & OUT_OF_RANGE:
                raise out_of_range(units, self._flags, self._codec.limit)
            terminated, forbidden = bool(flags & TERMINATED), bool(flags & FORBIDDEN)
        reward = column.ravel()  # a view
        info: dict[str, Any] = {"noise": self._told[step], "invalid_action": forbidden}
        step += 1
        truncated = step >= self._length
        self._step = -1 if terminated or truncated else step
        if self.render_mode is not None:
            self._history.append(self._levels.copy())
        observation = self._levels.copy()
        if not self._fully_observed:
            info["state"] = observation
            observation = self.benchmark.observe(observation)
        if self.scalarization is None:
            return observation, reward, terminated, truncated, info
        info["vector_reward"] = reward
        if before is not None and self._drive is not None:
            number = self._drive(before, self._levels)
        else:
            assert self._utility is not None
            number = self._utility(reward)
        return observation, float(number), terminated, truncated, info

    @property
    def state(self) -> NDArray[np.float64]:
        """A copy of the state behind the observation, shape (state_dim,)."""
        return self._levels.copy()

    @property
    def noise_path(self) -> NDArray[np.float64]:
        """A copy of the running episode's whole noise path, shape (steps, channels)."""
        return self._path[:, :, 0].copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled or copied environment."""
        self.__dict__.update(state)
        self._state = self._levels.reshape(-1, 1)  # two views of one memory, which came back as two

    def _own_generator(self, lane: int) -> np.random.Generator:
        return self.np_random

    def units(self, action: Any) -> NDArray[np.int64]:
        """An action of this environment's space as counts per objective, shape (objectives,)."""
        return np.array(self._codec.units(as_array(action)[np.newaxis], 1)[0])

    def render(self) -> Any:
        """Draw the episode so far: text for ``ansi``, an array (height, width, 3) uint8 for ``rgb_array``."""
        return _rendering.render(self.render_mode, self.benchmark, self._history, self.spec)


def spaces(benchmark: Benchmark) -> tuple[gym.Space[Any], Box]:
    """The observation space and the reward space of a benchmark, both float64."""
    low, high = benchmark.observation_bounds
    reward_low, reward_high = benchmark.reward_bounds
    return (
        Box(np.asarray(low), np.asarray(high), dtype=np.float64),
        Box(np.asarray(reward_low), np.asarray(reward_high), dtype=np.float64),
    )


def check_options(options: dict[str, Any] | None, known: tuple[str, ...]) -> None:
    """Refuse reset options that would otherwise be ignored in silence.

    Raises:
        HomeostasisError: An option is not known.
    """
    for name in options or ():
        if name not in known:
            raise HomeostasisError(f"`options` must hold only {', '.join(known)}, got {name!r}")
