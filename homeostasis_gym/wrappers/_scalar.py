"""Wrappers for scalar environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from homeostasis_gym.core.utility import DriveReduction
from homeostasis_gym.wrappers import _common

__all__ = [
    "ContinuousActions",
    "DiscreteActions",
    "NormalizedObservation",
    "Scalarized",
    "TextObservation",
]


class _Wrapper(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Base: changes what a subclass says, and keeps the vector reward in the info."""

    def __init__(self, env: gym.Env[Any, Any], **arguments: Any) -> None:
        RecordConstructorArgs.__init__(self, **arguments)
        gym.Wrapper.__init__(self, env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the wrapped environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observation(observation, None), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Run one step; see the wrapped environment."""
        observation, reward, terminated, truncated, info = self.env.step(self._action(action))
        vector = info.get("vector_reward", reward)
        info = {**info, "vector_reward": np.array(vector, dtype=np.float64)}
        seen = self._observation(observation, info["vector_reward"])
        return seen, self._reward(reward), terminated, truncated, info

    def _observation(self, observation: Any, reward: NDArray[np.float64] | None) -> Any:
        return observation

    def _action(self, action: Any) -> Any:
        return action

    def _reward(self, reward: Any) -> Any:
        return reward


class Scalarized(_Wrapper):
    """One number for the vector reward; the vector stays in ``info["vector_reward"]``.

    Args:
        env: Any environment with a vector reward and a `reward_space`.
        scalarization: A name (``linear``, ``log``, ``sfella``, ``min``, ``chebyshev``,
            ``drive-reduction``), or a mapping with ``name`` and the arguments of that scalarisation; see
            `homeostasis_gym.core.utility`.

    Raises:
        HomeostasisError: The environment has no vector reward, or the scalarisation does not fit it.
    """

    scalarizes = True
    """Marks a wrapper that leaves no vector reward to the next one."""

    def __init__(self, env: gym.Env[Any, Any], scalarization: str | Mapping[str, Any] = "linear") -> None:
        super().__init__(env, scalarization=scalarization)
        space: Any = getattr(env.unwrapped, "reward_space", None)
        self._utility = _common.utility_of(env, space, scalarization)
        self._reward_shape = space.shape

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Run one step; the reward is a float."""
        if not isinstance(self._utility, DriveReduction):
            return super().step(action)
        inner: Any = self.env.unwrapped
        before = inner.state
        observation, _, terminated, truncated, info = super().step(action)
        return observation, float(self._utility(before, inner.state)), terminated, truncated, info

    def _reward(self, reward: Any) -> Any:
        _common.check_vector(reward, self._reward_shape)
        if isinstance(self._utility, DriveReduction):
            return reward
        return float(self._utility(np.asarray(reward, dtype=np.float64)))


class NormalizedObservation(_Wrapper):
    """Observations in units in which good play stays small, see `Benchmark.normalize`.

    A level becomes (level - set point) / half width, so that [-1, 1] is the band.

    Args:
        env: An environment of ours.
        dtype: Floating type of the observations; most learners want float32.

    Raises:
        HomeostasisError: The environment is not ours, or another wrapper has changed its observations.
    """

    def __init__(self, env: gym.Env[Any, Any], dtype: str = "float32") -> None:
        super().__init__(env, dtype=dtype)
        self._benchmark = _common.observed_benchmark(env, type(self).__name__)
        self.observation_space = _common.normalized_space(self._benchmark, dtype)
        self._dtype = self.observation_space.dtype

    def _observation(self, observation: Any, reward: NDArray[np.float64] | None) -> Any:
        return self._benchmark.normalize(observation).astype(self._dtype)


class TextObservation(_Wrapper):
    """Observations in words: every component with its name, its band, and the last rewards.

    Args:
        env: An environment of ours.
        rewards: Whether the rewards of the last step are told.

    Raises:
        HomeostasisError: The environment is not ours, or another wrapper has changed its observations.
    """

    def __init__(self, env: gym.Env[Any, Any], rewards: bool = True) -> None:
        super().__init__(env, rewards=rewards)
        self._benchmark = _common.observed_benchmark(env, type(self).__name__)
        self._rewards = rewards
        self.observation_space = _common.TEXT_SPACE

    def _observation(self, observation: Any, reward: NDArray[np.float64] | None) -> Any:
        told = reward if self._rewards else None
        return _common.describe(self._benchmark, observation, told, self._benchmark.reward_names)


class DiscreteActions(_Wrapper):
    """One number for all combinations of counts, the last objective counting fastest.

    Args:
        env: An environment of ours that takes one count per objective.
        most: Most units of one objective; by default the environment's own limit. Must be given where the
            environment has none.

    Raises:
        HomeostasisError: The environment does not fit, or the flattened space would be too large.
    """

    def __init__(self, env: gym.Env[Any, Any], most: int | None = None) -> None:
        super().__init__(env, most=most)
        name = type(self).__name__
        self._codec = _common.codec_of(env, env.action_space, name, "discrete", most)
        self.action_space = self._codec.space

    def _action(self, action: Any) -> Any:
        return self._codec.units(np.asarray(action)[np.newaxis], 1)[0]


class ContinuousActions(_Wrapper):
    """A box of amounts, rounded to the nearest counts (half to even).

    Args:
        env: An environment of ours that takes one count per objective.
        most: See `DiscreteActions`.

    Raises:
        HomeostasisError: The environment does not fit.
    """

    def __init__(self, env: gym.Env[Any, Any], most: int | None = None) -> None:
        super().__init__(env, most=most)
        name = type(self).__name__
        self._codec = _common.codec_of(env, env.action_space, name, "box", most)
        self.action_space = self._codec.space

    def _action(self, action: Any) -> Any:
        return self._codec.units(np.asarray(action)[np.newaxis], 1)[0]
