"""Our native vector environment as a Stable-Baselines3 `VecEnv`: all lanes in one call of the kernel.

Stable-Baselines3 does not take Gymnasium's vector environments. This thin adapter makes one of ours fit:
seeding reaches every lane, ``terminal_observation`` and ``TimeLimit.truncated`` stand where the algorithms
look for them, and the vector reward stays in every lane's info.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from homeostasis_gym.core.benchmark import Benchmark
from homeostasis_gym.core.utility import DriveReduction, Scalarization, make_utility
from homeostasis_gym.envs.vector import HomeostasisVectorEnv
from homeostasis_gym.errors import HomeostasisError

__all__ = ["HomeostasisVecEnv", "damped"]

_SINGLE = {
    "action_space": "single_action_space",
    "reward_space": "single_reward_space",
}
# What `gymnasium.make_vec` is told and `gymnasium.make` is not.
_VECTOR = ("num_envs", "vectorization_mode", "autoreset_mode")


class HomeostasisVecEnv(VecEnv):
    """A native vector environment for Stable-Baselines3.

    Args:
        env: Native vector environment, made with ``scalarization`` and ``autoreset_mode="SameStep"``.
        normalize: Show the agent ``benchmark.normalize(observation)`` in place of the raw observation:
            float32 numbers of about unit size.
        reward_scale: Factor on the scalarised reward, for learners that want rewards of about unit size.
        component_limit: Every component of the vector reward is cut to [-limit, limit] before it is
            scalarised. A level that noise has carried far out of its band costs hundreds a step whatever
            is done; uncut, its ups and downs drown the consequences of actions.
        component_leak: How much of what is beyond the limit counts all the same, as a factor, 0 to 1. With 0
            nothing is lost by carrying a level that is far out still farther.
        scalarization: The environment's own, again; needed together with `component_limit`, and must
            then be one of the vector reward.

    Attributes:
        env: The native vector environment.

    Every lane's info holds ``vector_reward`` (the environment's own, neither cut nor scaled), ``noise``,
    ``invalid_action``, ``TimeLimit.truncated``, and ``terminal_observation`` where an episode ended.

    Raises:
        HomeostasisError: The environment is none of ours, has vector rewards or resets in another way, or a
            number is out of range.
    """

    def __init__(
        self,
        env: HomeostasisVectorEnv,
        *,
        normalize: bool = False,
        reward_scale: float = 1.0,
        component_limit: float | None = None,
        component_leak: float = 0.0,
        scalarization: str | Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(env, HomeostasisVectorEnv):
            raise HomeostasisError(
                f"`env` must be a native vector environment of homeostasis-gym, got {env!r}"
            )
        if env.scalarization is None:
            raise HomeostasisError(
                "`env` must be made with `scalarization`, got None: Stable-Baselines3 learns from one number"
            )
        if env.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise HomeostasisError(
                f"`env` must be made with autoreset_mode='SameStep', got {env.autoreset_mode.value!r}"
            )
        for name, value in (("reward_scale", reward_scale), ("component_limit", component_limit)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise HomeostasisError(f"`{name}` must be finite and above 0, got {value!r}")
        if not 0.0 <= component_leak <= 1.0:
            raise HomeostasisError(f"`component_leak` must be from 0 to 1, got {component_leak!r}")
        self.env = env
        self.reward_scale = float(reward_scale)
        self.component_limit = component_limit
        self.component_leak = float(component_leak)
        self._scalarize: Scalarization | None = None
        if component_limit is not None:
            if scalarization is None:
                raise HomeostasisError("`scalarization` must be given with `component_limit`, got None")
            utility = make_utility(scalarization, env.reward_dim, env.benchmark)
            if isinstance(utility, DriveReduction):
                raise HomeostasisError(
                    "`component_limit` must be null with drive-reduction, which pays for levels and not for "
                    f"components, got {component_limit!r}"
                )
            self._scalarize = utility
        self._see: Callable[[NDArray[np.float64]], NDArray[Any]] = np.ascontiguousarray
        space: gym.Space[Any] = env.single_observation_space
        if normalize:
            space = normalized_space(env.benchmark)
            self._see = normalizer(env.benchmark)
        self._actions: NDArray[Any] | None = None
        self._seeded: list[int | None] = [None] * env.num_envs
        super().__init__(env.num_envs, space, env.single_action_space)

    def reset(self) -> NDArray[Any]:
        """Start every lane over, with the seeds given to `seed` and the options given to `set_options`."""
        seeds = None if all(s is None for s in self._seeds) else list(self._seeds)
        observation, _ = self.env.reset(seed=seeds, options=self._merged_options())
        self.reset_infos = [{} for _ in range(self.num_envs)]
        for lane, seed in enumerate(self._seeds):
            self._seeded[lane] = self._seeded[lane] if seed is None else seed
        self._reset_seeds()
        self._reset_options()
        return self._see(observation)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Take the actions of all lanes; `step_wait` executes them."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Run one step of every lane; a lane whose episode ends starts over in the same step."""
        observation, reward, terminated, truncated, info = self.env.step(self._actions)
        vectors, noise, invalid = info["vector_reward"], info["noise"], info["invalid_action"]
        dones = terminated | truncated
        if dones.any():
            # What the ended lanes reported has moved to `final_info`.
            final, lane = info["final_info"], dones[:, np.newaxis]
            vectors = np.where(lane, final["vector_reward"], vectors)
            noise = np.where(lane, final["noise"], noise)
            invalid = np.where(dones, final["invalid_action"], invalid)
        infos: list[dict[str, Any]] = [
            {"vector_reward": v, "noise": n, "invalid_action": i, "TimeLimit.truncated": False}
            for v, n, i in zip(
                np.ascontiguousarray(vectors),
                np.ascontiguousarray(noise),
                invalid.tolist(),
                strict=True,
            )
        ]
        lanes = np.flatnonzero(dones)
        if len(lanes):
            last = self._see(np.stack(info["final_obs"][lanes]))
            for lane, seen in zip(lanes.tolist(), last, strict=True):
                infos[lane]["terminal_observation"] = seen
                infos[lane]["TimeLimit.truncated"] = bool(truncated[lane] and not terminated[lane])
        if self._scalarize is not None and self.component_limit is not None:
            reward = self._scalarize(damped(vectors, self.component_limit, self.component_leak))
        scaled = (reward * self.reward_scale).astype(np.float32)
        return self._see(observation), scaled, dones, infos

    def close(self) -> None:
        """Release the environment."""
        self.env.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """One picture per lane, None without ``render_mode="rgb_array"``."""
        if self.render_mode != "rgb_array":
            return [None] * self.num_envs
        return list(self.env.render() or ())

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute as each lane's own environment, made by `gymnasium.make`, would give it.

        The parameters of the dynamics (``max_consumption``, ``episode_length``, ...) are given as well,
        which an environment by itself has in ``benchmark`` alone.

        Raises:
            AttributeError: A lane has no such attribute.
        """
        own = self._own(attr_name)
        if own is None:
            own = [self._shared(attr_name)] * self.num_envs
        return [own[lane] for lane in self._get_indices(indices)]

    def _own(self, name: str) -> Sequence[Any] | None:
        """What every lane has of its own; None for what they share."""
        env = self.env
        if name == "state":
            return list(env.state)
        if name == "noise_path":
            return list(np.ascontiguousarray(env._source.path().transpose(2, 0, 1)))
        if name == "np_random":
            return [env._generator(lane) for lane in range(self.num_envs)]
        if name == "np_random_seed":
            return [env.np_random_seed if seed is None else seed for seed in self._seeded]
        return None

    def _shared(self, name: str) -> Any:
        """What is one and the same for all lanes."""
        env = self.env
        if name == "observation_space":
            return self.observation_space
        if name in _SINGLE:
            return getattr(env, _SINGLE[name])
        if name == "metadata":
            return {key: value for key, value in env.metadata.items() if key != "autoreset_mode"}
        if name == "spec" and env.spec is not None:
            kwargs = {key: value for key, value in env.spec.kwargs.items() if key not in _VECTOR}
            return replace(env.spec, kwargs=kwargs)
        parameters = {one.name for one in fields(env.benchmark)}
        return getattr(env.benchmark if name in parameters and not hasattr(env, name) else env, name)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all lanes; a lane has none of its own.

        Raises:
            HomeostasisError: `indices` leaves lanes out.
        """
        self._all_lanes(indices)
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment once; every lane gets the same answer.

        Raises:
            HomeostasisError: `indices` leaves lanes out.
        """
        self._all_lanes(indices)
        answer = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [answer] * self.num_envs

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Always False: the lanes are no environments that could be wrapped one by one."""
        return [False for _ in self._get_indices(indices)]

    def _all_lanes(self, indices: VecEnvIndices) -> None:
        chosen = sorted(self._get_indices(indices))
        if chosen != list(range(self.num_envs)):
            raise HomeostasisError(
                f"`indices` must name all {self.num_envs} lanes, which share one object, got {chosen}"
            )

    def _merged_options(self) -> dict[str, Any] | None:
        names = {name for options in self._options for name in options}
        if not names:
            return None
        if names != {"noise"} or any("noise" not in options for options in self._options):
            raise HomeostasisError(
                f"`options` must give every lane a `noise` path and nothing else, got {sorted(names)}"
            )
        return {"noise": np.stack([np.asarray(options["noise"]) for options in self._options])}


def damped(reward: NDArray[np.float64], limit: float, leak: float) -> NDArray[np.float64]:
    """Components cut to [-limit, limit], of what is beyond it the share `leak` left: (..., reward_dim)."""
    cut = np.clip(reward, -limit, limit)
    return cut + leak * (reward - cut)


def normalized_space(benchmark: Benchmark) -> Box:
    """The space of what an agent with ``normalize=True`` sees."""
    low, high = benchmark.normalized_bounds
    return Box(np.asarray(low, np.float32), np.asarray(high, np.float32), dtype=np.float32)


def normalizer(benchmark: Benchmark) -> Callable[[NDArray[np.float64]], NDArray[np.float32]]:
    """The function from observations (..., observation_dim) to what a learner sees (..., features)."""
    return lambda observation: np.ascontiguousarray(benchmark.normalize(observation), dtype=np.float32)
