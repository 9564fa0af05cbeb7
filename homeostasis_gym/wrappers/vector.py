"""Wrappers for vector environments; see `homeostasis_gym.wrappers` for what each does.

They work in every autoreset mode: ``info["final_obs"]`` is transformed as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from homeostasis_gym.core.utility import DriveReduction
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.wrappers import _common

__all__ = [
    "ContinuousActions",
    "DiscreteActions",
    "NormalizedObservation",
    "Scalarized",
    "TextObservation",
]


class _Wrapper(VectorWrapper):
    """Base: changes what a subclass says, and keeps the vector reward in the infos."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        # Lanes whose next step only starts them over; lanes without a last reward; the last rewards.
        self._waiting = np.zeros(env.num_envs, dtype=bool)
        self._fresh = np.ones(env.num_envs, dtype=bool)
        self._vectors: NDArray[np.float64] | None = None

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start the lanes' episodes, or those of ``options["reset_mask"]``; see the wrapped environment."""
        mask = (options or {}).get("reset_mask")  # looked up first: Gymnasium's own environments take it out
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        started = np.ones(self.num_envs, dtype=bool) if mask is None else np.array(mask, dtype=bool)
        self._waiting = self._waiting & ~started
        self._fresh = self._fresh | started
        return self._observations(observations, self._vectors, self._fresh), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Run one step of every lane; see the wrapped environment."""
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions(actions))
        waiting = self._waiting
        infos = dict(infos)
        same_step = self.env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP
        ended = np.logical_or(terminated, truncated)
        vectors = rewards
        if "vector_reward" in infos:
            vectors = infos["vector_reward"]
            if "final_info" in infos and "vector_reward" in infos["final_info"]:
                final = infos["final_info"]
                vectors = np.where(final["_vector_reward"][:, np.newaxis], final["vector_reward"], vectors)
        infos["vector_reward"] = np.array(vectors, dtype=np.float64)
        infos["_vector_reward"] = ~waiting
        self._vectors = infos["vector_reward"].copy()
        self._fresh = waiting | ended if same_step else waiting
        if "final_obs" in infos:
            infos["final_obs"] = self._finals(infos["final_obs"], infos["vector_reward"])
        scalar = self._rewards(rewards, waiting)
        seen = self._observations(observations, self._vectors, self._fresh)
        self._waiting = (
            ended
            if self.env.metadata.get("autoreset_mode") == AutoresetMode.NEXT_STEP
            else np.zeros_like(ended)
        )
        return seen, scalar, terminated, truncated, infos

    def _finals(self, finals: NDArray[Any], rewards: NDArray[np.float64]) -> NDArray[Any]:
        transformed = np.full(len(finals), None, dtype=object)
        for lane, final in enumerate(finals):
            if final is not None:
                transformed[lane] = self._observation(final, rewards[lane])
        return transformed

    def _observations(
        self, observations: Any, rewards: NDArray[np.float64] | None, fresh: NDArray[np.bool_]
    ) -> Any:
        """Transform all lanes' observations; `fresh` marks those that have just started."""
        return observations

    def _observation(self, observation: Any, reward: NDArray[np.float64]) -> Any:
        """Transform one lane's observation."""
        return observation

    def _actions(self, actions: Any) -> Any:
        return actions

    def _rewards(self, rewards: Any, waiting: NDArray[np.bool_]) -> Any:
        return rewards


class Scalarized(_Wrapper):
    """`homeostasis_gym.wrappers.Scalarized`, many at once.

    Args:
        env: Any vector environment with vector rewards and the `reward_space` of one lane.
        scalarization: See there. ``drive-reduction`` needs the states before the lanes start over, which
            `AutoresetMode.SAME_STEP` does not show: give it to the environment's own ``scalarization``.

    Raises:
        HomeostasisError: The environment has no vector reward, or the scalarisation does not fit it.
    """

    scalarizes = True
    """Marks a wrapper that leaves no vector reward to the next one."""

    def __init__(
        self, env: VectorEnv[Any, Any, Any], scalarization: str | Mapping[str, Any] = "linear"
    ) -> None:
        super().__init__(env)
        inner: Any = env.unwrapped
        space: Any = getattr(inner, "reward_space", None)
        self._utility = _common.utility_of(env, space, scalarization)
        self._reward_shape = (env.num_envs, *space.shape)
        if isinstance(self._utility, DriveReduction):
            if env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
                raise HomeostasisError(
                    "`scalarization` 'drive-reduction' cannot wrap AutoresetMode.SAME_STEP; give it to "
                    "the environment as scalarization="
                )
            self._inner = inner

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Run one step of every lane; rewards have shape (num_envs,)."""
        if isinstance(self._utility, DriveReduction):
            self._before = self._inner.state
        return super().step(actions)

    def _rewards(self, rewards: Any, waiting: NDArray[np.bool_]) -> Any:
        _common.check_vector(rewards, self._reward_shape)
        if isinstance(self._utility, DriveReduction):
            numbers = self._utility(self._before, self._inner.state)
        else:
            numbers = self._utility(rewards)
        numbers[waiting] = 0.0  # a lane that has only started over is paid nothing
        return numbers


class NormalizedObservation(_Wrapper):
    """`homeostasis_gym.wrappers.NormalizedObservation`, many at once.

    Args:
        env: A vector environment of ours.
        dtype: Floating type of the observations; most learners want float32.

    Raises:
        HomeostasisError: The environment is not ours, or another wrapper has changed its observations.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], dtype: str = "float32") -> None:
        super().__init__(env)
        self._benchmark = _common.observed_benchmark(env, type(self).__name__)
        self.single_observation_space = _common.normalized_space(self._benchmark, dtype)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)
        self._dtype = self.single_observation_space.dtype

    def _observations(
        self, observations: Any, rewards: NDArray[np.float64] | None, fresh: NDArray[np.bool_]
    ) -> Any:
        return self._benchmark.normalize(observations).astype(self._dtype)

    def _observation(self, observation: Any, reward: NDArray[np.float64]) -> Any:
        return self._benchmark.normalize(observation).astype(self._dtype)


class TextObservation(_Wrapper):
    """`homeostasis_gym.wrappers.TextObservation`, many at once: a tuple of texts.

    Args:
        env: A vector environment of ours.
        rewards: Whether the rewards of the last step are told.

    Raises:
        HomeostasisError: The environment is not ours, or another wrapper has changed its observations.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], rewards: bool = True) -> None:
        super().__init__(env)
        self._benchmark = _common.observed_benchmark(env, type(self).__name__)
        self._told = rewards
        self.single_observation_space: gym.Space[Any] = _common.TEXT_SPACE
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def _observations(
        self, observations: Any, rewards: NDArray[np.float64] | None, fresh: NDArray[np.bool_]
    ) -> Any:
        return tuple(
            self._observation(o, None if rewards is None or fresh[lane] else rewards[lane])
            for lane, o in enumerate(observations)
        )

    def _observation(self, observation: Any, reward: NDArray[np.float64] | None) -> str:
        told = reward if self._told else None
        return _common.describe(self._benchmark, observation, told, self._benchmark.reward_names)


class DiscreteActions(_Wrapper):
    """`homeostasis_gym.wrappers.DiscreteActions`, many at once.

    Args:
        env: A vector environment of ours that takes one count per objective.
        most: See there.

    Raises:
        HomeostasisError: The environment does not fit, or the flattened space would be too large.
    """

    _mode = "discrete"

    def __init__(self, env: VectorEnv[Any, Any, Any], most: int | None = None) -> None:
        super().__init__(env)
        self._codec = _common.codec_of(env, env.single_action_space, type(self).__name__, self._mode, most)
        self.single_action_space = self._codec.space
        self.action_space = batch_space(self._codec.space, env.num_envs)

    def _actions(self, actions: Any) -> Any:
        return self._codec.units(actions, self.num_envs)


class ContinuousActions(DiscreteActions):
    """`homeostasis_gym.wrappers.ContinuousActions`, many at once.

    Args:
        env: A vector environment of ours that takes one count per objective.
        most: See there.

    Raises:
        HomeostasisError: The environment does not fit.
    """

    _mode = "box"
