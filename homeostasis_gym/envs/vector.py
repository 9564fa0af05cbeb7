"""The native vector environment that all benchmarks share: all lanes in one call of the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from homeostasis_gym.core.benchmark import (
    FORBIDDEN,
    OUT_OF_RANGE,
    TERMINATED,
    Benchmark,
    check_integer,
    out_of_range,
)
from homeostasis_gym.core.noise import check_path
from homeostasis_gym.core.utility import DriveReduction, make_utility
from homeostasis_gym.envs import _rendering
from homeostasis_gym.envs._actions import ActionCodec
from homeostasis_gym.envs._noise import NoiseSource
from homeostasis_gym.envs.base import check_options, spaces
from homeostasis_gym.errors import HomeostasisError

__all__ = ["HomeostasisVectorEnv"]


class HomeostasisVectorEnv(VectorEnv[NDArray[np.float64], Any, NDArray[Any]]):
    """Base of the native vector environments; lane i seeded with s equals a scalar one seeded with s + i.

    Args:
        num_envs: Number of lanes.
        actions: See `HomeostasisEnv`.
        noise: See `HomeostasisEnv`.
        scalarization: See `HomeostasisEnv`.
        autoreset_mode: Any of Gymnasium's `AutoresetMode`, or its value as a string.
        max_episode_steps: Cuts the episode, as `gymnasium.make` does with a scalar environment.
        render_mode: See `HomeostasisEnv`.
        **parameters: Fields of the benchmark's dataclass.

    Attributes:
        benchmark: The parameters and dynamics, frozen.
        reward_space: Box that holds one lane's vector reward (MO-Gymnasium's convention).
        single_reward_space: The same.
        reward_dim: Number of components of the vector reward.
        reward_names: Their names, in order.
    """

    benchmark_class: ClassVar[type[Benchmark]]

    def __init__(
        self,
        num_envs: int = 1,
        *,
        actions: str | None = None,
        noise: str = "gymnasium",
        scalarization: str | Mapping[str, Any] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        **parameters: Any,
    ) -> None:
        check_integer("num_envs", num_envs, 1)
        benchmark = self.benchmark_class(**parameters)
        if max_episode_steps is not None:
            check_integer("max_episode_steps", max_episode_steps, 1)
            if max_episode_steps < benchmark.episode_length:
                benchmark = self.benchmark_class(**{**parameters, "episode_length": max_episode_steps})
        self.benchmark = benchmark
        self.num_envs = num_envs
        self.autoreset_mode = _autoreset(autoreset_mode)
        self.metadata = {
            "render_modes": ["ansi", "rgb_array"],
            "render_fps": 10,
            "autoreset_mode": self.autoreset_mode,
        }
        _rendering.check_mode(render_mode, self.metadata)
        self.render_mode = render_mode
        self._codec = ActionCodec(benchmark, actions)
        self.single_action_space = self._codec.space
        self.single_observation_space, self.reward_space = spaces(benchmark)
        self.single_reward_space = self.reward_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.reward_dim = benchmark.reward_dim
        self.reward_names = benchmark.reward_names
        self.scalarization = scalarization
        self._utility = (
            None if scalarization is None else make_utility(scalarization, self.reward_dim, benchmark)
        )

        self._source = NoiseSource(benchmark, noise, self._generator, num_envs)
        self._generators: list[np.random.Generator | None] = [None] * num_envs
        self._state = np.empty((len(benchmark.initial_state), num_envs))
        self._clock = np.zeros(num_envs, dtype=np.int64)
        self._flags = np.zeros(num_envs, dtype=np.uint8)
        self._ended = np.ones(num_envs, dtype=bool)  # no episode is running yet
        self._any_ended = True
        self._started = False
        self._history: list[list[NDArray[np.float64]]] = [[] for _ in range(num_envs)]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start the lanes' episodes.

        Args:
            seed: An integer s seeds lane i with s + i; or one seed (or None) per lane.
            options: ``noise``: paths of shape (num_envs, steps, channels), or one (steps, channels) for
                all lanes. ``reset_mask``: bool array (num_envs,); only these lanes start over.

        Raises:
            HomeostasisError: Unknown option, or wrong shape of a seed list, mask or noise.
        """
        check_options(options, ("noise", "reset_mask"))
        mask = self._reset_mask((options or {}).get("reset_mask"))
        scripted = self._scripted((options or {}).get("noise"))
        if seed is None or (isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)):
            super().reset(seed=None if seed is None else int(seed))
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = _seeds(seed)
            if len(seeds) != self.num_envs:
                raise HomeostasisError(
                    f"`seed` must hold one seed per environment ({self.num_envs}), got {len(seeds)}"
                )
        lanes = np.flatnonzero(mask)
        for lane in lanes:
            lane_seed = seeds[lane]
            if lane_seed is not None:
                self._generators[lane], _ = seeding.np_random(lane_seed)
                self._source.seed(int(lane), lane_seed)
        self._start(lanes, scripted)
        self._started = True
        info = {}
        if not self.benchmark.fully_observed:
            info = {"state": self.state, "_state": mask.copy()}
            info["state"][~mask] = 0.0
        return self.benchmark.observe(self._state).T, info

    def step(
        self, actions: Any
    ) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Run one step of every lane.

        Returns:
            Observations (num_envs, observation_dim), rewards (num_envs, reward_dim) float64 (or
            (num_envs,) under ``scalarization``), terminations and truncations (num_envs,) bool, and infos
            in Gymnasium's form (a key stays, masked, where no lane has it). All arrays are fresh; rewards
            and observations are stored component by component (Fortran order), which the compiled loop and
            most consumers are fastest with.

        Raises:
            ResetNeeded: `reset` was never called, or a lane has ended under ``AutoresetMode.DISABLED``.
            HomeostasisError: An action is not in the action space. No lane has moved then.
        """
        if not self._started:
            raise ResetNeeded("`step` was called before `reset`")
        units = self._codec.units(actions, self.num_envs)
        waiting = self._ended.copy() if self._any_ended else None
        if waiting is not None:
            if self.autoreset_mode is AutoresetMode.DISABLED:
                raise ResetNeeded(
                    f"environments {np.flatnonzero(waiting)[:8].tolist()} have ended; reset them with "
                    f"options={{'reset_mask': mask}}"
                )
            units = np.where(waiting[:, np.newaxis], 0, units)
            self._clock[waiting] = 0  # their step is thrown away below; any row of noise will do
        before = self.state if isinstance(self._utility, DriveReduction) else None
        rewards = np.empty((self.reward_dim, self.num_envs))
        noise = self._source.row(self._clock)
        flags = self.benchmark.advance(self._state, units, noise, rewards, self._flags)
        if flags & OUT_OF_RANGE:
            raise out_of_range(units, self._flags, self._codec.limit)
        # The flags of all lanes at once spare the per-lane look in the common case.
        terminated = (self._flags & TERMINATED) != 0 if flags & TERMINATED else np.zeros(self.num_envs, bool)
        info: dict[str, Any] = {
            "noise": noise.T,
            "invalid_action": (self._flags & FORBIDDEN) != 0
            if flags & FORBIDDEN
            else np.zeros(self.num_envs, bool),
        }
        self._clock += 1
        truncated = self._clock >= self.benchmark.episode_length
        present = np.ones(self.num_envs, dtype=bool)
        reward = rewards.T
        if isinstance(self._utility, DriveReduction):
            assert before is not None
            reward = self._utility(before, self._state.T)
        elif self._utility is not None:
            reward = self._utility(reward)
        if waiting is not None:
            self._start(np.flatnonzero(waiting), None)
            rewards[:, waiting] = 0.0
            for array in (reward, terminated, truncated, info["noise"], info["invalid_action"]):
                array[waiting] = 0
            present = ~waiting
        if self._utility is not None:
            info["vector_reward"] = rewards.T
        for name in list(info):
            info[f"_{name}"] = present.copy()
        if not self.benchmark.fully_observed:
            info["state"], info["_state"] = self.state, np.ones(self.num_envs, dtype=bool)
        self._ended = terminated | truncated
        self._any_ended = bool(self._ended.any())
        if self.render_mode is not None:
            self._remember(present)
        observation = self.benchmark.observe(self._state).T
        if self._any_ended and self.autoreset_mode is AutoresetMode.SAME_STEP:
            info = self._with_finals(info, observation)
            self._start(np.flatnonzero(self._ended), None)
            observation = self.benchmark.observe(self._state).T
            if not self.benchmark.fully_observed:
                info["state"], info["_state"] = self.state, np.ones(self.num_envs, dtype=bool)
        return observation, reward, terminated, truncated, info

    def render(self) -> tuple[Any, ...] | None:
        """Draw every lane's episode so far."""
        if self.render_mode is None:
            return None
        return tuple(
            _rendering.render(self.render_mode, self.benchmark, history, self.spec)
            for history in self._history
        )

    @property
    def state(self) -> NDArray[np.float64]:
        """A copy of the states behind the observations, shape (num_envs, state_dim)."""
        return self._state.T.copy()

    def _start(self, lanes: NDArray[np.int64], scripted: NDArray[np.float64] | None) -> None:
        """Start new episodes in some lanes; the noise drawn for them gives way to a scripted one."""
        self._source.start(lanes, scripted)
        self._state[:, lanes] = np.asarray(self.benchmark.initial_state)[:, np.newaxis]
        self._clock[lanes] = 0
        self._ended[lanes] = False
        self._any_ended = bool(self._ended.any())
        if self.render_mode is not None:
            for lane in lanes:
                self._history[lane] = [self._state[:, lane].copy()]

    def _generator(self, lane: int) -> np.random.Generator:
        """A lane's own generator; a lane that was never seeded shares the environment's."""
        own = self._generators[lane]
        return self.np_random if own is None else own

    def _remember(self, present: NDArray[np.bool_]) -> None:
        for lane in np.flatnonzero(present):
            self._history[lane].append(self._state[:, lane].copy())

    def _with_finals(self, info: dict[str, Any], observation: NDArray[np.float64]) -> dict[str, Any]:
        """Move what the ended lanes reported to ``final_info``, as Gymnasium's own vector env does."""
        ended = self._ended.copy()
        final = np.full(self.num_envs, None, dtype=object)
        for lane in np.flatnonzero(ended):
            final[lane] = observation[lane].copy()
        final_info: dict[str, Any] = {}
        for name in [name for name in info if not name.startswith("_")]:
            mask = info[f"_{name}"]
            kept = np.where(ended.reshape(-1, *[1] * (info[name].ndim - 1)), info[name], 0)
            final_info[name] = kept.astype(info[name].dtype)
            final_info[f"_{name}"] = mask & ended
            info[name] = info[name].copy()
            info[name][ended] = 0
            info[f"_{name}"] = mask & ~ended
        return {
            **info,
            "final_obs": final,
            "_final_obs": ended,
            "final_info": final_info,
            "_final_info": ended.copy(),
        }

    def _reset_mask(self, mask: Any) -> NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        array = np.asarray(mask)
        if array.shape != (self.num_envs,) or array.dtype != np.bool_ or not array.any():
            raise HomeostasisError(
                f"`options['reset_mask']` must be a bool array of shape ({self.num_envs},) with at "
                f"least one True, got {mask!r}"
            )
        if not self._started and not array.all():
            raise ResetNeeded("the first `reset` must start every environment")
        return array

    def _scripted(self, noise: Any) -> NDArray[np.float64] | None:
        if noise is None:
            return None
        try:
            paths = np.asarray(noise, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise HomeostasisError(f"`options['noise']` must be an array of numbers ({error})") from error
        if paths.ndim == 2:
            paths = np.broadcast_to(paths, (self.num_envs, *paths.shape))
        if paths.ndim != 3 or len(paths) != self.num_envs:
            raise HomeostasisError(
                f"`options['noise']` must have shape ({self.num_envs}, steps, "
                f"{self.benchmark.noise_channels}) or (steps, {self.benchmark.noise_channels}), "
                f"got {paths.shape}"
            )
        length, channels = self.benchmark.episode_length, self.benchmark.noise_channels
        return np.stack([check_path(path, length, channels) for path in paths], axis=-1)


def _autoreset(mode: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        known = ", ".join(m.value for m in AutoresetMode)
        raise HomeostasisError(f"`autoreset_mode` must be one of {known}, got {mode!r}") from None


def _seeds(seed: Any) -> list[int | None]:
    """One seed or None per lane."""
    seeds = list(seed) if isinstance(seed, Iterable) and not isinstance(seed, (str, bytes)) else [seed]
    if not all(s is None or (isinstance(s, (int, np.integer)) and not isinstance(s, bool)) for s in seeds):
        raise HomeostasisError(f"`seed` must be None, an integer, or one of these per lane, got {seed!r}")
    return [None if s is None else int(s) for s in seeds]
