"""Trains Stable-Baselines3 algorithms in our vector environments; same seed, same weights."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.envs.registration import load_env_creator
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_zip_file, recursive_setattr
from stable_baselines3.common.vec_env import VecMonitor

import homeostasis_gym  # noqa: F401 (registers the environments)
from homeostasis_agents.sb3 import require
from homeostasis_agents.sb3._rules import TAKEN
from homeostasis_agents.sb3.networks import Grid
from homeostasis_agents.sb3.spec import ALGORITHMS, TrainingSpec
from homeostasis_agents.sb3.vec_env import HomeostasisVecEnv
from homeostasis_gym.envs.vector import HomeostasisVectorEnv
from homeostasis_gym.errors import HomeostasisError, UnknownNameError
from homeostasis_gym.registration import ENVIRONMENTS

__all__ = [
    "Checkpoint",
    "algorithm_class",
    "argument_names",
    "build",
    "empty_policy",
    "make_vec_env",
    "policy_kwargs",
    "quiet_torch",
    "require_tensorboard",
    "train",
]

_ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}
# What an algorithm counts besides its weights and the environment's steps.
_COUNTERS = (
    "num_timesteps",
    "_n_updates",
    "_n_calls",
    "_episode_num",
    "_current_progress_remaining",
    "exploration_rate",
)
_REPLAY = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def algorithm_class(name: str) -> type[BaseAlgorithm]:
    """The class of an algorithm.

    Raises:
        MissingExtraError: Its package is not installed.
    """
    module, attribute, _ = ALGORITHMS[name]
    require(module)
    found: type[BaseAlgorithm] = getattr(importlib.import_module(module), attribute)
    return found


def argument_names(algorithm: str) -> list[str]:
    """What ``arguments`` of a training may hold: what the algorithm's constructor takes and no setting gives.

    Raises:
        MissingExtraError: The algorithm's package is not installed.
    """
    names = inspect.signature(algorithm_class(algorithm)).parameters
    return [name for name in names if name not in TAKEN and not name.startswith("_")]


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
    # Not `gymnasium.spec`, which imports the module that an id may name and takes a missing version for any.
    known = gym.registry.get(spec.env_id)
    if known is None or known.vector_entry_point is None:
        raise _none_of_ours(spec.env_id)
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
        if spec.env_id not in ENVIRONMENTS:
            raise _none_of_ours(spec.env_id) from error
        possible = _env_argument_names(spec.env_id)
        for name in spec.env_kwargs:
            if name not in possible:
                raise HomeostasisError(
                    f"`env_kwargs` (--env-arg) of {spec.env_id} must be among {', '.join(possible)}, "
                    f"got {name!r}"
                ) from error
        raise HomeostasisError(f"`env_id` {spec.env_id!r} with {dict(spec.env_kwargs)}: {error}") from error
    if not isinstance(env.unwrapped, HomeostasisVectorEnv):
        raise _none_of_ours(spec.env_id)
    return HomeostasisVecEnv(
        env.unwrapped,
        normalize=True,
        reward_scale=spec.reward_scale if reward_scale is None else reward_scale,
        component_limit=spec.component_limit,
        component_leak=spec.component_leak,
        scalarization=spec.scalarization,
    )


def _env_argument_names(env_id: str) -> list[str]:
    """What one of our environments takes from a training."""
    vector_env: type[HomeostasisVectorEnv] = load_env_creator(ENVIRONMENTS[env_id][1])  # type: ignore[assignment]
    return [
        *(one.name for one in fields(vector_env.benchmark_class) if one.init),
        "noise",
        "max_episode_steps",
    ]


def _none_of_ours(env_id: str) -> UnknownNameError:
    return UnknownNameError(f"`env_id` must be one of {', '.join(ENVIRONMENTS)}, got {env_id!r}")


def build(spec: TrainingSpec, *, tensorboard: str | None = None) -> BaseAlgorithm:
    """An untrained algorithm in its training environment. Seeds the global generators (see `quiet_torch`).

    Raises:
        HomeostasisError: The algorithm does not take these arguments.
    """
    start, end = spec.learning_rate, spec.final_learning_rate
    env = VecMonitor(make_vec_env(spec))
    possible = argument_names(spec.algorithm)
    for name in spec.arguments:
        if name not in possible:
            raise HomeostasisError(
                f"`arguments` of {spec.algorithm} must be among {', '.join(possible)}, got {name!r}"
            )
    try:
        return algorithm_class(spec.algorithm)(
            _policy_name(spec),
            env,
            learning_rate=lambda remaining: end + (start - end) * max(0.0, remaining),
            policy_kwargs=policy_kwargs(spec),
            seed=spec.seed,
            device="cpu",
            tensorboard_log=tensorboard,
            **spec.arguments,
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise HomeostasisError(f"`arguments` of {spec.algorithm}: {error}") from error


def empty_policy(spec: TrainingSpec) -> BasePolicy:
    """The policy that a training trains, with fresh weights, for a trained one's weights to be put into."""
    env = make_vec_env(spec, 1)
    aliases = algorithm_class(spec.algorithm).policy_aliases
    with quiet_torch():  # the fresh weights are drawn from the global generator
        policy: BasePolicy = aliases[_policy_name(spec)](
            env.observation_space, env.action_space, lambda remaining: 0.0, **policy_kwargs(spec)
        )
    return policy


def train(
    spec: TrainingSpec,
    *,
    progress: Callable[[float], None] | None = None,
    on_segment: Callable[[BaseAlgorithm, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
    tensorboard: str | None = None,
) -> BaseAlgorithm:
    """Train to the last step, from the first or from a checkpoint.

    The global state of `random`, NumPy and PyTorch is the same afterwards as before, and PyTorch uses one
    thread meanwhile: results do not depend on the machine's number of cores, and other agents in
    the same process are not touched.

    Args:
        spec: The training.
        progress: Called with the finished share, 0 to 1.
        on_segment: Called with the algorithm and the number of steps done, before the first segment and
            after each.
        checkpoint: Where to go on from and to write to between segments.
        tensorboard: Folder for TensorBoard's files, None for none.

    Raises:
        HomeostasisError: The settings do not fit the algorithm.
        MissingExtraError: TensorBoard is asked for and not installed.
    """
    if tensorboard is not None:
        require_tensorboard()
    with quiet_torch():
        model = build(spec, tensorboard=tensorboard)
        done = checkpoint.restore(model) if checkpoint is not None else 0
        if done < spec.steps:
            model.learn(
                spec.steps - done,
                callback=_Segments(spec, done, progress, on_segment, checkpoint),
                reset_num_timesteps=done == 0,
            )
            if on_segment is not None:
                on_segment(model, model.num_timesteps)
            if checkpoint is not None:
                checkpoint.save(model)
    if progress is not None:
        progress(1.0)
    return model


def require_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises:
        MissingExtraError: It is not.
    """
    require("tensorboard", "pip install 'homeostasis-gym[tensorboard]'")


class Checkpoint:
    """Everything that a training needs to go on between two segments, in one folder.

    Weights and optimisers are read as plain tensors and counters as JSON: going on runs no code from a file.

    Args:
        folder: The folder; made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def steps(self) -> int:
        """Steps done at the last checkpoint, 0 without one."""
        newest = self._newest()
        return 0 if newest is None else int(newest.stem.split("-")[1])

    def save(self, model: BaseAlgorithm) -> None:
        """Write the state; the one before is kept until this one is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        before = sorted(self.folder.glob("state-*.zip"))
        name = f"state-{model.num_timesteps:012d}"
        if isinstance(model, OffPolicyAlgorithm):
            buffer = model.replay_buffer
            assert buffer is not None
            arrays = {key: getattr(buffer, key) for key in _REPLAY if hasattr(buffer, key)}
            aside = self.folder / f".{name}.{os.getpid()}.part.npz"
            np.savez(aside, **arrays, place=np.array([buffer.pos, int(buffer.full)]))
            aside.replace(self.folder / f"{name}.npz")
        counters = {key: getattr(model, key) for key in _COUNTERS if hasattr(model, key)}
        aside = self.folder / f".{name}.{os.getpid()}.part.json"
        aside.write_text(json.dumps(counters), encoding="utf-8")
        aside.replace(self.folder / f"{name}.json")
        aside = self.folder / f".{name}.{os.getpid()}.part.zip"
        model.save(aside)
        aside.replace(self.folder / f"{name}.zip")  # last: with it the checkpoint is whole
        for old in before:
            if old.stem != name:
                for suffix in (".zip", ".json", ".npz"):
                    old.with_suffix(suffix).unlink(missing_ok=True)

    def restore(self, model: BaseAlgorithm) -> int:
        """Put the newest state into a freshly built algorithm.

        Returns:
            The number of steps done; 0 where there is no checkpoint.

        Raises:
            HomeostasisError: The checkpoint is of another network.
        """
        newest = self._newest()
        if newest is None:
            return 0
        _, weights, variables = load_from_zip_file(newest, device="cpu", load_data=False)
        try:
            model.set_parameters(weights or {}, exact_match=True, device="cpu")
        except (RuntimeError, ValueError) as error:
            raise HomeostasisError(f"{newest} does not fit these settings: {error}") from error
        for name, value in (variables or {}).items():
            recursive_setattr(model, f"{name}.data", value.data)
        for key, value in json.loads(newest.with_suffix(".json").read_text(encoding="utf-8")).items():
            setattr(model, key, value)
        if isinstance(model, OffPolicyAlgorithm):
            buffer = model.replay_buffer
            assert buffer is not None
            with np.load(newest.with_suffix(".npz"), allow_pickle=False) as arrays:
                for key in _REPLAY:
                    if key in arrays:
                        getattr(buffer, key)[...] = arrays[key]
                buffer.pos, buffer.full = int(arrays["place"][0]), bool(arrays["place"][1])
        return model.num_timesteps

    def _newest(self) -> Path | None:
        states = sorted(self.folder.glob("state-*.zip"))
        return states[-1] if states else None


class _Segments(BaseCallback):
    """Cuts a training into segments, each with fresh seeds and episodes; news and a checkpoint between."""

    def __init__(
        self,
        spec: TrainingSpec,
        done: int,
        progress: Callable[[float], None] | None,
        on_segment: Callable[[BaseAlgorithm, int], None] | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.done = done
        self.progress = progress
        self.on_segment = on_segment
        self.checkpoint = checkpoint
        self.next = 0  # the first rollout begins a segment
        self.told = 0.0

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        # Algorithms of the replay kind run one long loop of short rollouts.
        spec, steps = self.spec, self.model.num_timesteps
        if steps >= self.next:
            fresh = steps == self.done and self.next == 0
            if not fresh or steps == 0:
                if self.on_segment is not None:
                    self.on_segment(self.model, steps)
                if self.checkpoint is not None and steps:
                    self.checkpoint.save(self.model)
            self._begin(steps)
            index = steps * spec.segments // spec.steps + 1
            self.next = -(-index * spec.steps // spec.segments)
        if spec.final_entropy is not None:
            start = float(spec.arguments.get("ent_coef", 0.0))
            left = max(0.0, 1.0 - 1.25 * steps / spec.steps)
            setattr(self.model, "ent_coef", spec.final_entropy + (start - spec.final_entropy) * left)  # noqa: B010
        if self.progress is not None and time.monotonic() - self.told > 0.2:
            self.told = time.monotonic()
            self.progress(min(1.0, steps / spec.steps))

    def _begin(self, steps: int) -> None:
        """Start a segment: seeds that depend on the training's seed and on the place in it alone."""
        seed = int(np.random.SeedSequence([self.spec.seed, steps]).generate_state(1)[0]) >> 1
        model = self.model
        model.set_random_seed(seed)
        env = model.env
        assert env is not None
        observation = env.reset()
        model._last_obs = observation  # type: ignore[assignment] # a vector environment gives an array
        model._last_episode_starts = np.ones(env.num_envs, dtype=bool)
        if hasattr(model, "_last_lstm_states"):
            pair = model._last_lstm_states
            for tensor in (*pair.pi, *pair.vf):
                tensor.zero_()


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


def _policy_name(spec: TrainingSpec) -> str:
    return "MlpLstmPolicy" if spec.algorithm == "RecurrentPPO" else "MlpPolicy"


def policy_kwargs(spec: TrainingSpec) -> dict[str, Any]:
    """Arguments of the policy's class, from what a training says of its network."""
    chosen: dict[str, Any] = {
        "net_arch": list(spec.net_arch),
        "activation_fn": _ACTIVATIONS[spec.activation],
    }
    if spec.algorithm == "RecurrentPPO":
        chosen["lstm_hidden_size"] = spec.net_arch[0]
    if spec.grid is not None:
        chosen["features_extractor_class"] = Grid
        chosen["features_extractor_kwargs"] = dict(spec.grid)
    return chosen
