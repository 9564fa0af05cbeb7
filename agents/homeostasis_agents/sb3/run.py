"""One training in one folder: evaluated as it goes, resumable, with the policies that come out of it."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from stable_baselines3.common.base_class import BaseAlgorithm

from homeostasis_agents.sb3.evaluation import play, quality, training_return, unseen_noise
from homeostasis_agents.sb3.policy import policy_of, save_policy
from homeostasis_agents.sb3.spec import TrainingSpec, versions
from homeostasis_agents.sb3.training import Checkpoint, build, make_vec_env, quiet_torch, train
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
        """The policy that did best in an evaluation, by what the training maximises."""
        return self.folder / "best.zip"

    def run(
        self, *, progress: Callable[[float], None] | None = None, tensorboard: str | None = None
    ) -> dict[str, Any]:
        """Train, or go on with what an interrupted call has left, or tell what a finished one gave.

        Args:
            progress: Called with the finished share, 0 to 1.
            tensorboard: Folder for TensorBoard's files.

        Returns:
            ``{"settings": ..., "policy": path, "seconds": ..., "cpu_seconds": ..., "evaluations": [...]}``;
            the first seconds are wall time, the second the process's processor time, of training alone.

        Raises:
            HomeostasisError: The folder holds another training, or is not writable, or another process
                is training in it.
        """
        lock = FileLock(self.folder / ".lock")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            raise HomeostasisError(f"`out` {self.folder} is in use by another process") from error
        except OSError as error:
            raise HomeostasisError(
                f"`out` must be a writable folder, got {self.folder} ({error.strerror})"
            ) from error
        try:
            if not self.policy_path.exists():
                with quiet_torch():  # what cannot be trained must not take the folder
                    build(self.spec)
            self._claim()
            if not self.policy_path.exists():
                self._train(progress, tensorboard)
            return {
                "settings": self.spec.to_dict(),
                "policy": str(self.policy_path),
                "seconds": sum(line["seconds"] for line in self.evaluations()),
                "cpu_seconds": sum(line["cpu_seconds"] for line in self.evaluations()),
                "evaluations": self.evaluations(),
            }
        finally:
            lock.release()

    def evaluations(self) -> list[dict[str, Any]]:
        """Every evaluation so far, with the seconds of training since the one before."""
        path = self.folder / "evaluations.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def _claim(self) -> None:
        """Write down what this folder is, or check that it is this."""
        path = self.folder / "training.json"
        spec = self.spec.to_dict()
        wanted = {"spec": spec, "evaluation_episodes": self.episodes, "versions": versions()}
        if path.exists():
            held = json.loads(path.read_text(encoding="utf-8"))
            decisive = [key for key in spec if key != "tuned_by"]
            different = [key for key in decisive if held["spec"].get(key) != spec[key]]
            different += [key for key in ("evaluation_episodes", "versions") if held[key] != wanted[key]]
            if different:
                raise HomeostasisError(
                    f"`out` {self.folder} holds another training, which differs in {', '.join(different)}; "
                    "name another folder"
                )
            return
        _write(path, json.dumps(wanted, indent=2) + "\n")

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


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside.write_text(text, encoding="utf-8")
    aside.replace(path)
