"""Trains Stable-Baselines3 algorithms in our vector environments; same seed, same weights."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecMonitor

import homeostasis_gym  # noqa: F401 (registers the environments)
from homeostasis_agents.sb3 import require
from homeostasis_agents.sb3.spec import ALGORITHMS, TrainingSpec
from homeostasis_agents.sb3.vec_env import HomeostasisVecEnv
from homeostasis_gym.errors import HomeostasisError

__all__ = ["algorithm_class", "build", "empty_policy", "make_vec_env", "train"]

_ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """The class of an algorithm.

    Raises:
        MissingExtraError: Its package is not installed.
    """
    module, attribute, _ = ALGORITHMS[name]
    require(module)
    found: type[BaseAlgorithm] = getattr(importlib.import_module(module), attribute)
    return found


def make_vec_env(
    spec: TrainingSpec, envs: int | None = None, *, reward_scale: float | None = None
) -> HomeostasisVecEnv:
    """The environment of a training.

    Args:
        spec: The training.
        envs: Number of lanes, by default the training's.
        reward_scale: Factor on the reward, by default the training's.

    Raises:
        HomeostasisError: No such environment, or it does not take these arguments.
    """
    try:
        env = gym.make_vec(
            spec.env_id,
            num_envs=spec.envs if envs is None else envs,
            vectorization_mode="vector_entry_point",
            scalarization=spec.scalarization,
            actions=spec.actions,
            autoreset_mode="SameStep",
            **spec.env_kwargs,
        )
    except (gym.error.Error, TypeError) as error:
        raise HomeostasisError(f"`env_id` {spec.env_id!r} with {dict(spec.env_kwargs)}: {error}") from error
    return HomeostasisVecEnv(
        env.unwrapped,  # type: ignore[arg-type] # checked inside
        normalize=True,
        reward_scale=spec.reward_scale if reward_scale is None else reward_scale,
    )


def build(spec: TrainingSpec, *, tensorboard: str | None = None) -> BaseAlgorithm:
    """An untrained algorithm in its training environment. Seeds the global generators (see `quiet_torch`)."""
    start, end = spec.learning_rate, spec.final_learning_rate
    env = VecMonitor(make_vec_env(spec))
    try:
        return algorithm_class(spec.algorithm)(
            _policy_name(spec),
            env,
            learning_rate=lambda remaining: end + (start - end) * remaining,
            policy_kwargs=_policy_kwargs(spec),
            seed=spec.seed,
            device="cpu",
            tensorboard_log=tensorboard,
            **spec.arguments,
        )
    except TypeError as error:
        raise HomeostasisError(f"`arguments` of {spec.algorithm}: {error}") from error


def empty_policy(spec: TrainingSpec) -> BasePolicy:
    """The policy that a training trains, with fresh weights, for a trained one's weights to be put into."""
    env = make_vec_env(spec, 1)
    aliases = algorithm_class(spec.algorithm).policy_aliases
    policy: BasePolicy = aliases[_policy_name(spec)](
        env.observation_space, env.action_space, lambda remaining: 0.0, **_policy_kwargs(spec)
    )
    return policy


def train(
    spec: TrainingSpec,
    *,
    progress: Callable[[float], None] | None = None,
    callback: BaseCallback | None = None,
) -> BaseAlgorithm:
    """Train from the first step to the last.

    The global state of `random`, NumPy and PyTorch is the same afterwards as before, and PyTorch uses one
    thread meanwhile: results do not depend on the machine's number of cores, and other agents in
    the same process are not touched.

    Args:
        spec: The training.
        progress: Called with the finished share, 0 to 1.
        callback: A callback of Stable-Baselines3.
    """
    with quiet_torch():
        model = build(spec)
        callbacks = [c for c in (callback, _Progress(progress) if progress else None) if c is not None]
        model.learn(spec.steps, callback=CallbackList(callbacks))
    if progress is not None:
        progress(1.0)
    return model


@contextmanager
def quiet_torch() -> Iterator[None]:
    """One thread and deterministic kernels inside; afterwards all global state is as it was before."""
    python, numpy_, torch_ = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_)  # noqa: NPY002
        torch.set_rng_state(torch_)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


class _Progress(BaseCallback):
    """Tells a function how far the training is."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        super().__init__()
        self.tell = tell

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self.tell(min(1.0, self.model.num_timesteps / self.model._total_timesteps))


def _policy_name(spec: TrainingSpec) -> str:
    return "MlpLstmPolicy" if spec.algorithm == "RecurrentPPO" else "MlpPolicy"


def _policy_kwargs(spec: TrainingSpec) -> dict[str, Any]:
    return {"net_arch": list(spec.net_arch), "activation_fn": _ACTIVATIONS[spec.activation]}
