"""What a training is, as plain data: everything that the resulting weights depend on, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from homeostasis_agents.sb3._rules import check
from homeostasis_gym.agent import Task
from homeostasis_gym.core.benchmark import Benchmark
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

__all__ = [
    "ALGORITHMS",
    "DEFAULT_ENV",
    "TrainingSpec",
    "has_settings",
    "make_spec",
    "settings_for",
    "spec_for_task",
    "versions",
]

ALGORITHMS: dict[str, tuple[str, str, str]] = {
    "PPO": ("stable_baselines3", "PPO", "multidiscrete"),
    "A2C": ("stable_baselines3", "A2C", "multidiscrete"),
    "DQN": ("stable_baselines3", "DQN", "discrete"),
    "SAC": ("stable_baselines3", "SAC", "box"),
    "RecurrentPPO": ("sb3_contrib", "RecurrentPPO", "multidiscrete"),
}
"""Name -> module, class, and the kind of action space that suits the algorithm."""

MOST_UNITS = 10
"""Agents that need a finite set of actions train and choose within 0..MOST_UNITS."""

DEFAULT_ENV = "Homeostasis-MOHoN-v0"
"""The environment in which the defaults of ``settings.json`` were chosen."""

_LIBRARIES = ("stable-baselines3", "sb3-contrib", "torch", "gymnasium", "numpy", "homeostasis-gym")


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """One training: the same specification with the same library versions gives the same weights.

    Args:
        algorithm: One of `ALGORITHMS`.
        env_id: Gymnasium id of one of our environments.
        env_kwargs: Arguments of the environment.
        scalarization: What is maximised, see `homeostasis_gym.core.make_scalarization`.
        seed: Seed of weights, exploration and noise.
        steps: Environment steps, all lanes together.
        envs: Number of lanes.
        reward_scale: Factor on the scalarised reward.
        component_limit: Where each component of the reward is cut before it is scalarised, see
            `HomeostasisVecEnv`; None for nowhere.
        component_leak: How much of what is beyond that limit counts all the same.
        learning_rate: Learning rate at the start.
        final_learning_rate: Learning rate at the end; it falls in a straight line.
        net_arch: Sizes of the hidden layers.
        activation: ``relu`` or ``tanh``.
        grid: Arguments of `Grid` in front of the layers, None for none.
        final_entropy: Value to which the constructor's ``ent_coef`` falls during the first four fifths of the
            training, None to keep it.
        actions: The kind of action space: ``multidiscrete``, ``discrete`` (every combination is an action) or
            ``box``; by default what suits the algorithm.
        segments: In how many parts the steps are done. Each begins with fresh episodes and with random
            numbers of its own, so that a training that was interrupted between two of them ends as if it
            had not been.
        arguments: Further arguments of the algorithm's constructor.
        tuned_by: Where the settings come from; no part of what decides the weights.

    Raises:
        HomeostasisError: A setting cannot be, or does not fit another.
    """

    algorithm: str
    env_id: str
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    scalarization: str | Mapping[str, Any] = "linear"
    seed: int = 0
    steps: int = 1_000_000
    envs: int = 256
    reward_scale: float = 1.0
    component_limit: float | None = None
    component_leak: float = 0.0
    learning_rate: float = 3e-4
    final_learning_rate: float = 0.0
    net_arch: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    grid: Mapping[str, Any] | None = None
    final_entropy: float | None = None
    actions: str = ""
    segments: int = 10
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tuned_by: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.algorithm, str) or self.algorithm not in ALGORITHMS:
            raise UnknownNameError(
                f"`algorithm` must be one of {', '.join(ALGORITHMS)}, got {self.algorithm!r}"
            )
        check(self)
        object.__setattr__(self, "net_arch", tuple(self.net_arch))
        object.__setattr__(self, "actions", self.actions or ALGORITHMS[self.algorithm][2])

    def to_dict(self) -> dict[str, Any]:
        """As plain data that JSON holds."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainingSpec:
        """The specification that `to_dict` described.

        Raises:
            HomeostasisError: It does not know an entry.
        """
        names = [one.name for one in fields(cls)]
        for name in data:
            if name not in names:
                raise HomeostasisError(f"`training settings` must be among {', '.join(names)}, got {name!r}")
        try:
            return cls(**data)
        except TypeError as error:
            raise HomeostasisError(f"`training settings`: {error}") from error

    @property
    def digest(self) -> str:
        """Hash of everything that the weights depend on, library versions and our own code included."""
        data = self.to_dict()
        del data["tuned_by"]
        text = json.dumps([data, versions(), _code()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def versions() -> dict[str, str]:
    """Versions of the libraries that decide what a training gives."""
    from importlib.metadata import PackageNotFoundError

    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


@cache
def _code() -> str:
    """Hash of our own files that a training runs through: dynamics, environments and this package."""
    digest = hashlib.sha256()
    for package, folders in (
        ("homeostasis_gym", ("core", "envs")),
        ("homeostasis_agents", ("sb3",)),
    ):
        for folder in folders:
            for file in sorted(files(package).joinpath(folder).iterdir(), key=lambda f: f.name):
                if file.name.endswith(".py"):
                    digest.update(file.name.encode())
                    digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _settings() -> dict[str, dict[str, dict[str, Any]]]:
    text = files("homeostasis_agents").joinpath("sb3/settings.json").read_text(encoding="utf-8")
    loaded: dict[str, dict[str, dict[str, Any]]] = json.loads(text)
    return loaded


def settings_for(algorithm: str, env_id: str) -> dict[str, Any]:
    """The training settings of an algorithm in an environment, from ``settings.json``.

    Raises:
        UnknownNameError: No such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise UnknownNameError(f"`algorithm` must be one of {', '.join(ALGORITHMS)}, got {algorithm!r}")
    table = _settings()[algorithm]
    return {**table["default"], **table.get(env_id, {})}


def has_settings(algorithm: str, env_id: str) -> bool:
    """Whether ``settings.json`` has settings for an algorithm in this very environment.

    The defaults of an algorithm are those of `DEFAULT_ENV`.
    """
    return env_id == DEFAULT_ENV or env_id in _settings()[algorithm]


def make_spec(
    algorithm: str,
    env_id: str,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    scalarization: str | Mapping[str, Any] = "linear",
    seed: int = 0,
    steps: int | None = None,
    **changes: Any,
) -> TrainingSpec:
    """A training with the settings of ``settings.json``.

    The settings were tuned for the published score. Its ``component_limit`` is part of them, and is left out
    for any other scalarisation, which it could turn into another one.

    Args:
        algorithm: One of `ALGORITHMS`.
        env_id: One of our environments.
        env_kwargs: Its arguments.
        scalarization: What is maximised.
        seed: Seed of the training.
        steps: Environment steps, by default those of the file.
        **changes: Settings that differ from the file; of ``arguments`` those that are not named stay.

    Raises:
        HomeostasisError: A setting is unknown or cannot be, see `TrainingSpec`.
    """
    settings = settings_for(algorithm, env_id)
    if scalarization not in ("linear", {"name": "linear"}):
        settings["component_limit"] = None
    arguments = changes.pop("arguments", {})
    if isinstance(arguments, Mapping):  # anything else is refused below
        arguments = {**settings["arguments"], **arguments}
    if steps is not None:
        settings["steps"] = steps
    return TrainingSpec.from_dict(
        {
            **settings,
            **changes,
            "arguments": arguments,
            "algorithm": algorithm,
            "env_id": env_id,
            "env_kwargs": dict(env_kwargs) if isinstance(env_kwargs, Mapping) else env_kwargs or {},
            "scalarization": scalarization,
            "seed": seed,
        }
    )


def spec_for_task(
    algorithm: str,
    task: Task,
    *,
    scalarization: str | Mapping[str, Any] = "linear",
    seed: int = 0,
    steps: int | None = None,
) -> TrainingSpec:
    """The training for the environment that a task describes, with actions within 0..`MOST_UNITS`.

    Raises:
        HomeostasisError: The task has no benchmark of ours.
    """
    if not isinstance(task.benchmark, Benchmark):
        raise HomeostasisError(
            f"agent {algorithm.lower()!r} trains in environments of homeostasis-gym only, "
            f"got a task in {task.env_id!r}"
        )
    return make_spec(
        algorithm,
        task.env_id,
        env_kwargs=training_kwargs(task.benchmark),
        scalarization=scalarization,
        seed=seed,
        steps=steps,
    )


def training_kwargs(benchmark: Benchmark) -> dict[str, Any]:
    """The arguments of an environment in which an agent with a finite set of actions trains."""
    parameters = asdict(benchmark)
    limit = parameters["max_consumption"]
    parameters["max_consumption"] = MOST_UNITS if limit is None else min(limit, MOST_UNITS)
    return parameters
