"""A trained policy: how it is kept in a file, how it is loaded, and how it acts as an agent."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from homeostasis_agents.sb3._warnings import warn
from homeostasis_agents.sb3.spec import ALGORITHMS, TrainingSpec, versions
from homeostasis_agents.sb3.training import algorithm_class, empty_policy
from homeostasis_agents.sb3.vec_env import normalized_space, normalizer
from homeostasis_gym.agent import Decision, Task
from homeostasis_gym.core.benchmark import NO_LIMIT, Benchmark
from homeostasis_gym.core.value_graph import ValueGraph, ValueGraphSeat
from homeostasis_gym.errors import HomeostasisError

__all__ = [
    "Policy",
    "PolicyAgent",
    "UntrustedFileWarning",
    "described_training",
    "is_seat",
    "load_any",
    "load_policy",
    "policy_of",
    "save_policy",
    "with_weights",
]

_MEMBER = "homeostasis_gym.json"
_FORMAT = 1
_VALUE_GRAPHS = ("Homeostasis-ValueGraph-v0", "value_graph_v0")


class UntrustedFileWarning(UserWarning):
    """A file is being loaded that can run code of its author's."""


@dataclass(frozen=True)
class Policy:
    """A trained policy with all that is known of it.

    Attributes:
        network: The policy of Stable-Baselines3.
        observation_space: What it sees.
        action_space: What it chooses from.
        normalized: Whether it sees ``benchmark.normalize(observation)``.
        spec: How it was trained; None for a file that we did not write.
        notes: Versions and whatever else was written into the file.
        sha256: Hash of its weights.
    """

    network: BasePolicy
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    normalized: bool
    spec: TrainingSpec | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Hash of the weights: two policies with the same hash act the same."""
        return weights_hash(self.network)


class PolicyAgent:
    """Acts by a trained policy, always with its most probable action.

    Args:
        policy: The policy.
        task: The seat.

    Raises:
        HomeostasisError: The policy was made for other spaces, or in the value graph for other units.
    """

    def __init__(self, policy: Policy, task: Task) -> None:
        self.policy = policy
        self._task = task
        if not isinstance(task.benchmark, Benchmark):
            raise HomeostasisError(
                f"agent 'sb3' plays environments of homeostasis-gym only, got a task in {task.env_id!r}"
            )
        normal, plain = normalized_space(task.benchmark), task.observation_space
        # Numbers of another meaning have the same shape: a policy that was shown normalised levels would
        # play nonsense on plain ones without any error.
        seen = policy.observation_space
        if seen == normal or (policy.normalized and seen.shape == normal.shape):
            self._see = normalizer(task.benchmark)
        elif seen == plain and not policy.normalized:
            self._see = _as_seen
        else:
            raise HomeostasisError(
                f"the policy was trained on observations {seen}, but {task.env_id} "
                f"with these arguments has {plain}, or {normal} with NormalizedObservation"
            )
        _check_units(policy, task)
        self._units = units_of(policy.action_space, task.benchmark.objectives)
        self._memory: Any = None
        self._first = True
        spec = policy.spec
        self.record = {
            "policy": policy.sha256,
            "algorithm": spec.algorithm if spec else type(policy.network).__name__,
            "training": spec.to_dict() if spec else {},
            "versions": dict(policy.notes.get("versions", {})),
        }

    def reset(self, seed: int) -> None:
        """Forget the last episode. The policy draws nothing at random."""
        self._memory, self._first = None, True

    def act(self, observation: NDArray[np.float64], info: Mapping[str, Any]) -> Decision:
        """Choose the most probable action."""
        seen = self._see(np.asarray(observation, dtype=np.float64))
        action, self._memory = self.policy.network.predict(
            seen, state=self._memory, episode_start=np.array([self._first]), deterministic=True
        )
        self._first = False
        return Decision(self._task.action(self._units(action)))


def _check_units(policy: Policy, task: Task) -> None:
    """In the value graph so many units make a whole correction: elsewhere the same count is another size.

    Raises:
        HomeostasisError: The policy was trained with other units than the task has.
    """
    graph, spec, space = task.benchmark, policy.spec, policy.action_space
    if not isinstance(graph, ValueGraph):
        return
    if spec is not None and spec.env_id in _VALUE_GRAPHS:
        trained = ValueGraph(**spec.env_kwargs).units
    else:
        most = int(np.max(units_of(space, graph.objectives)(_greatest(space))))
        trained = ValueGraph(max_consumption=None if most >= NO_LIMIT else most).units
    if trained != graph.units:
        argument = "units" if isinstance(graph, ValueGraphSeat) else "max_consumption"
        raise HomeostasisError(
            f"the policy was trained with {argument}={trained}, but {task.env_id} has {graph.units}: what it "
            f"chooses would be {trained / graph.units:g} times the correction that it learned; make the "
            f"environment with {argument}={trained}"
        )


def _greatest(space: gym.Space[Any]) -> Any:
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.nvec - 1
    return space.high if isinstance(space, gym.spaces.Box) else int(getattr(space, "n", 1)) - 1


def save_policy(path: Path, model: BaseAlgorithm, spec: TrainingSpec, **notes: Any) -> None:
    """Write a trained policy with everything needed to know what it is; aside first, then renamed.

    The file is an ordinary zip of Stable-Baselines3 with one more member, ``homeostasis_gym.json``.

    Args:
        path: The file to make; an existing one is replaced.
        model: The trained algorithm.
        spec: How it was trained.
        **notes: Further plain data for the file (how long it took, how it was evaluated, ...).
    """
    description = {
        "format": _FORMAT,
        "spec": spec.to_dict(),
        "versions": versions(),
        "weights": weights_hash(model.policy),
        **notes,
    }
    buffer = io.BytesIO()
    model.save(buffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(_MEMBER, json.dumps(description, indent=2))
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as sink:
            sink.write(buffer.getbuffer())
            sink.flush()
            os.fsync(sink.fileno())
        aside.replace(path)
    except OSError as error:
        raise HomeostasisError(f"`path` must be writable, but {path} is not: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)


def load_policy(path: Path) -> Policy:
    """Load a policy that `save_policy` wrote, without running anything that stands in the file.

    The network is built from the plain description; from the archive come its weights alone, which PyTorch
    reads without unpickling objects.

    Raises:
        HomeostasisError: The file is missing, broken, or not ours.
    """
    notes = describe(path)
    if notes is None:
        raise HomeostasisError(f"{path} was not written by homeostasis-gym: it has no {_MEMBER}")
    spec = described_training(path, notes)
    # An id of the form module:name would make Gymnasium import that module.
    if ":" in spec.env_id or spec.env_id not in gym.registry:
        raise HomeostasisError(
            f"{path} was trained in {spec.env_id!r}, which is no environment of this version"
        )
    return with_weights(path, empty_policy(spec), spec, notes)


def described_training(path: Path, notes: Mapping[str, Any]) -> TrainingSpec:
    """The training that a policy file of ours describes.

    Raises:
        HomeostasisError: The description is damaged, or of another major version of Stable-Baselines3.
    """
    missing = [name for name in ("spec", "weights") if name not in notes]
    if missing:
        raise HomeostasisError(f"{path} is damaged: its {_MEMBER} lacks {' and '.join(missing)}")
    _check_version(path, str(dict(notes.get("versions", {})).get("stable-baselines3", "unknown")))
    return TrainingSpec.from_dict(notes["spec"])


def with_weights(path: Path, network: BasePolicy, spec: TrainingSpec, notes: Mapping[str, Any]) -> Policy:
    """A fresh network with the weights of a policy file of ours, which are read as tensors alone.

    Raises:
        HomeostasisError: The weights are damaged or those of another network.
    """
    with zipfile.ZipFile(path) as archive:
        weights = torch.load(io.BytesIO(archive.read("policy.pth")), map_location="cpu", weights_only=True)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise HomeostasisError(f"{path} does not hold the network that it describes: {error}") from error
    network.set_training_mode(False)
    policy = Policy(network, network.observation_space, network.action_space, True, spec, notes)
    if policy.sha256 != notes["weights"]:
        raise HomeostasisError(f"{path} is damaged: its weights do not match their hash")
    return policy


def policy_of(model: BaseAlgorithm, spec: TrainingSpec) -> Policy:
    """The policy of an algorithm as it is now; it changes when the training goes on."""
    return Policy(model.policy, model.policy.observation_space, model.policy.action_space, True, spec)


def describe(path: Path) -> dict[str, Any] | None:
    """What a policy file says of itself, None for a zip file that we did not write.

    Raises:
        HomeostasisError: The file is missing or broken, or written in a newer format.
    """
    if not path.is_file():
        raise HomeostasisError(f"`sb3:PATH` must name a policy file, but {_what_is_at(path)}")
    try:
        with zipfile.ZipFile(path) as archive:
            if _MEMBER not in archive.namelist():
                return None
            notes: dict[str, Any] = json.loads(archive.read(_MEMBER))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise HomeostasisError(f"`sb3:PATH` must name a policy file, but {path}: {error}") from error
    if notes.get("format") != _FORMAT:
        raise HomeostasisError(
            f"{path} has policy format {notes.get('format')!r}, this version reads {_FORMAT}"
        )
    return notes


def _what_is_at(path: Path) -> str:
    """What stands where a policy file should, and which files may have been meant."""
    if path.is_dir():
        what, first = "a folder", [path / "policy.zip", path / "best.zip"]
        candidates = [*first, *sorted(set(path.glob("*.zip")) - set(first))]
    else:
        what, candidates = "no file", [Path(f"{path}.zip")]
    meant = [str(file) for file in candidates if file.is_file()]
    return f"{path} is {what}" + (f"; is {' or '.join(meant)} meant?" if meant else "")


def is_seat(path: str | Path) -> bool:
    """Whether a policy file holds a trained seat of `value_graph_v0`.

    Raises:
        HomeostasisError: The file is missing or broken.
    """
    notes = describe(Path(path).expanduser())
    return notes is not None and dict(notes.get("spec") or {}).get("env_id") == "value_graph_v0"


def load_any(path: str | Path, task: Task, algorithm: str | None = None) -> Policy:
    """Load a policy file, ours or any of Stable-Baselines3.

    Args:
        path: The zip file.
        task: The seat it is wanted for.
        algorithm: Name of the algorithm, for a zip file that does not say it.

    Raises:
        HomeostasisError: The file is missing, broken, of another major version, or made for other spaces.
    """
    path = Path(path).expanduser()
    if is_seat(path):
        raise HomeostasisError(
            f"{path} is a trained seat of value_graph_v0; the task is {task.env_id}, which is none"
        )
    if describe(path) is not None:
        policy = load_policy(path)
        assert policy.spec is not None
        if policy.spec.env_id != task.env_id:
            raise HomeostasisError(
                f"{path} was trained in {policy.spec.env_id}, but the task is {task.env_id}"
            )
        return policy
    return _load_foreign(path, algorithm)


def _load_foreign(path: Path, algorithm: str | None) -> Policy:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "data" not in names or "policy.pth" not in names:
            raise HomeostasisError(
                f"{path} is no model of Stable-Baselines3: it has no `data` and `policy.pth`"
            )
        keys = json.loads(archive.read("data"))
        saved = (
            archive.read("_stable_baselines3_version").decode().strip()
            if "_stable_baselines3_version" in names
            else "unknown"
        )
    _check_version(path, saved)
    name = algorithm or _guess_algorithm(keys)
    if name not in ALGORITHMS:
        raise HomeostasisError(
            f"`algorithm` must be one of {', '.join(ALGORITHMS)}, got {name!r} ({path} does not say it)"
        )
    warn(
        f"{path} was not written by homeostasis-gym. Files of Stable-Baselines3 are pickles, and loading one "
        "can run any code that its author put inside: load only files that you trust",
        UntrustedFileWarning,
    )
    try:
        model = algorithm_class(name).load(path, device="cpu")
    except Exception as error:  # whatever an unpickled file may raise
        raise HomeostasisError(f"{path} cannot be loaded as {name}: {error}") from error
    return Policy(
        model.policy,
        model.observation_space,
        model.action_space,
        False,
        notes={"versions": {"stable-baselines3": saved}},
    )


def _check_version(path: Path, saved: str) -> None:
    here = versions()["stable-baselines3"]
    if saved.split(".")[0] != here.split(".")[0]:
        raise HomeostasisError(
            f"{path} was saved with Stable-Baselines3 {saved}, which {here} does not read reliably; "
            f"install stable-baselines3 {saved} or train again"
        )


def _guess_algorithm(keys: Mapping[str, Any]) -> str | None:
    """Tell the algorithm from the names of the settings that its file holds."""
    if "exploration_fraction" in keys:
        return "DQN"
    if "target_entropy" in keys:
        return "SAC"
    if "clip_range" in keys:
        recurrent = "_last_lstm_states" in keys or "lstm" in str(keys.get("policy_class", "")).lower()
        return "RecurrentPPO" if recurrent else "PPO"
    return "A2C" if "gae_lambda" in keys else None


def weights_hash(network: torch.nn.Module) -> str:
    """SHA-256 over names and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
    return digest.hexdigest()


def _as_seen(observation: NDArray[np.float64]) -> NDArray[Any]:
    return observation


def units_of(space: gym.Space[Any], objectives: int) -> Any:
    """The function from (a batch of) actions of a policy's space to counts of units per objective.

    Raises:
        HomeostasisError: The space does not stand for counts.
    """
    if isinstance(space, gym.spaces.MultiDiscrete) and space.shape == (objectives,):
        return lambda action: np.asarray(action, dtype=np.int64)
    if isinstance(space, gym.spaces.Box) and space.shape == (objectives,):
        return lambda action: np.rint(np.clip(action, space.low, space.high)).astype(np.int64)
    if isinstance(space, gym.spaces.Discrete):
        base = round(int(space.n) ** (1 / objectives))
        if base**objectives == space.n:
            place = base ** np.arange(objectives - 1, -1, -1)
            return lambda action: np.asarray(action)[..., np.newaxis] // place % base
    raise HomeostasisError(
        f"the policy chooses from {space}, which does not stand for counts of {objectives} objectives"
    )
