"""One training in one folder: evaluated as it goes, resumable, with the policies that come out of it."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from stable_baselines3.common.base_class import BaseAlgorithm

from homeostasis_agents.sb3._warnings import warn
from homeostasis_agents.sb3.evaluation import play, quality, training_return, unseen_noise
from homeostasis_agents.sb3.policy import describe, policy_of, save_policy
from homeostasis_agents.sb3.spec import TrainingSpec, versions
from homeostasis_agents.sb3.training import (
    Checkpoint,
    build,
    make_vec_env,
    quiet_torch,
    require_tensorboard,
    train,
)
from homeostasis_gym.errors import HomeostasisError

__all__ = ["TrainingRun"]


class TrainingRun:
    """A training whose results stand in a folder.

    Args:
        folder: The folder; it holds one training.
        spec: The training.
        episodes: How many noise paths each evaluation plays; always the same ones, never met in training.
    """

    def __init__(self, folder: Path, spec: TrainingSpec, *, episodes: int = 100) -> None:
        self.folder = Path(folder)
        self.spec = spec
        self.episodes = episodes

    @property
    def policy_path(self) -> Path:
        """The trained policy."""
        return self.folder / "policy.zip"

    @property
    def best_path(self) -> Path:
        """The policy that did best in an evaluation.

        Best is measured by the scalarised return without the cut of components and without the factor on the
        reward, see `training_return` of `homeostasis_agents.sb3.evaluation`.
        """
        return self.folder / "best.zip"

    @property
    def finished(self) -> bool:
        """Whether the training has ended."""
        try:
            return self.policy_path.exists()
        except OSError:  # there can be no such folder, or it may not be looked into: `run` tells
            return False

    def run(
        self, *, progress: Callable[[float], None] | None = None, tensorboard: str | None = None
    ) -> dict[str, Any]:
        """Train, or go on with what an interrupted call has left, or tell what a finished one gave.

        A finished training is told with other library versions too, with a warning; one that is not finished
        is not gone on with, because its weights would be neither version's.

        Args:
            progress: Called with the finished share, 0 to 1.
            tensorboard: Folder for TensorBoard's files.

        Returns:
            ``{"settings": ..., "policy": path, "best": {"policy": path, "steps": ..., "evaluation": ...} or
            None, "seconds": ..., "cpu_seconds": ..., "evaluations": [...], "finished_before": bool,
            "versions": ...}``; the first seconds are wall time, the second the process's processor time, of
            training alone. ``versions`` are those that it was trained with.

        Raises:
            HomeostasisError: The training cannot be, in which case nothing is written; or the folder holds
                another training, or the beginning of one by other library versions, or is not writable, or
                another process is training in it.
            MissingExtraError: TensorBoard is asked for and not installed.
        """
        if not self.finished:  # what cannot be trained must not take the folder
            if tensorboard is not None:
                require_tensorboard()
            with quiet_torch():
                build(self.spec)
        lock = FileLock(self.folder / ".lock")
        try:
            self._held()  # nor must it leave a lock in another training's
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise HomeostasisError(f"`out` {self.folder} is in use by another process") from error
        except OSError as error:
            for path in (self.folder, *self.folder.parents):
                if isinstance(error, (FileExistsError, NotADirectoryError)) and path.is_file():
                    raise HomeostasisError(f"`out` must be a folder, but {path} is a file") from error
            raise HomeostasisError(
                f"`out` must be a writable folder, got {self.folder} ({error.strerror})"
            ) from error
        try:
            finished = self.finished  # another process may have ended it meanwhile
            trained_with = self._claim()
            if not finished:
                self._train(progress, tensorboard)
            return {
                "settings": self.spec.to_dict(),
                "policy": str(self.policy_path),
                "best": self._best(),
                "seconds": sum(line["seconds"] for line in self.evaluations()),
                "cpu_seconds": sum(line["cpu_seconds"] for line in self.evaluations()),
                "evaluations": self.evaluations(),
                "finished_before": finished,
                "versions": trained_with,
            }
        finally:
            lock.release()

    def evaluations(self) -> list[dict[str, Any]]:
        """Every evaluation so far, with the seconds of training since the one before."""
        path = self.folder / "evaluations.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def _claim(self) -> dict[str, str]:
        """Write down what this folder is, or check that it is this.

        Returns:
            The library versions of the training.
        """
        then, here = self._held(), versions()
        if then is None:
            wanted = {"spec": self.spec.to_dict(), "evaluation_episodes": self.episodes, "versions": here}
            _write(self.folder / "training.json", json.dumps(wanted, indent=2) + "\n")
            return here
        changed = _changed(then, here)
        if changed:
            warn(f"{self.folder} was trained with {changed}; the same training here may give other weights")
        return then

    def _held(self) -> dict[str, str] | None:
        """Check that the folder holds no other training than this; nothing is written.

        Returns:
            The library versions that this training was begun with, None where there is none yet.
        """
        path = self.folder / "training.json"
        spec = self.spec.to_dict()
        if not path.exists():
            if self.finished:
                raise HomeostasisError(
                    f"`out` {self.folder} holds a {self.policy_path.name} of an unknown training; "
                    "name another folder"
                )
            return None
        held = json.loads(path.read_text(encoding="utf-8"))
        then: dict[str, str] = held["versions"]
        there = {**held["spec"], "evaluation_episodes": held["evaluation_episodes"]}
        asked = {**spec, "evaluation_episodes": self.episodes}
        different = [
            f"{key} ({there.get(key)!r} there, {asked[key]!r} here)"
            for key in asked
            if key != "tuned_by" and there.get(key) != asked[key]
        ]
        if different:
            raise HomeostasisError(
                f"`out` {self.folder} holds another training, which differs in {', '.join(different)}; "
                "name another folder"
            )
        changed = _changed(then, versions())
        if changed and not self.finished:
            raise HomeostasisError(
                f"`out` {self.folder} holds a training that was begun with {changed}; going on would mix "
                "versions: install those, or name another folder"
            )
        return then

    def _best(self) -> dict[str, Any] | None:
        """The best evaluation's policy, as its file tells."""
        notes = describe(self.best_path) if self.best_path.exists() else None
        if notes is None:
            return None
        return {
            "policy": str(self.best_path),
            "steps": notes.get("steps"),
            "evaluation": notes.get("evaluation"),
        }

    def _train(self, progress: Callable[[float], None] | None, tensorboard: str | None) -> None:
        benchmark = make_vec_env(self.spec, 1).env.benchmark
        noise = unseen_noise(benchmark, self.episodes)
        checkpoint = Checkpoint(self.folder / "checkpoint")
        # What was evaluated after the last checkpoint will be evaluated again.
        lines = [line for line in self.evaluations() if line["steps"] <= checkpoint.steps]
        if not checkpoint.steps:
            lines = []
        began, began_cpu = time.perf_counter(), time.process_time()

        def evaluate(model: BaseAlgorithm, steps: int) -> None:
            nonlocal began, began_cpu
            took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - began_cpu}
            played = play(policy_of(model, self.spec), benchmark, noise)
            found = asdict(quality(played))
            plain = {k: None if v is None or not math.isfinite(v) else v for k, v in found.items()}
            plain["training_return"] = training_return(played, self.spec, benchmark)
            if all(plain["training_return"] >= line["training_return"] for line in lines):
                save_policy(self.best_path, model, self.spec, steps=steps, evaluation=plain)
            lines.append({"steps": steps, **took, **plain})
            text = "".join(json.dumps(line) + "\n" for line in lines)
            _write(self.folder / "evaluations.jsonl", text)
            began, began_cpu = time.perf_counter(), time.process_time()

        model = train(
            self.spec,
            progress=progress,
            on_segment=evaluate,
            checkpoint=checkpoint,
            tensorboard=tensorboard,
        )
        save_policy(
            self.policy_path,
            model,
            self.spec,
            steps=model.num_timesteps,
            seconds=sum(line["seconds"] for line in lines),
            evaluation=lines[-1],
        )
        shutil.rmtree(checkpoint.folder, ignore_errors=True)


def _changed(then: Mapping[str, str], here: Mapping[str, str]) -> str:
    """The libraries whose versions differ, in words."""
    return ", ".join(
        f"{name} {then.get(name) or 'none'} (here {here.get(name) or 'none'})"
        for name in sorted({*then, *here})
        if (then.get(name) or "") != (here.get(name) or "")
    )


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
