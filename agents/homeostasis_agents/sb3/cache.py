"""Policies that were trained on the spot, kept by a hash of everything that they depend on."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from homeostasis_agents.sb3.evaluation import BestPolicy
from homeostasis_agents.sb3.policy import Policy, load_policy, save_policy
from homeostasis_agents.sb3.spec import TrainingSpec
from homeostasis_agents.sb3.training import train
from homeostasis_gym.errors import HomeostasisError

__all__ = ["cache_folder", "cached_policy"]


def cache_folder() -> Path:
    """The folder named by ``HOMEOSTASIS_GYM_CACHE``, else the user's cache folder of this platform."""
    named = os.environ.get("HOMEOSTASIS_GYM_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "homeostasis-gym"


def cached_policy(spec: TrainingSpec, *, progress: Callable[[float], None] | None = None) -> Policy:
    """The policy of a training: from the cache, or trained now and put there.

    Two processes that want the same policy train it once: the second waits for the first. A process that is
    killed leaves nothing behind but an unlocked lock file.

    Args:
        spec: The training.
        progress: Called with the finished share, 0 to 1, while training.

    Raises:
        HomeostasisError: The cache folder is not writable.
    """
    folder = cache_folder() / "policies"
    path = folder / f"{spec.algorithm}-{spec.env_id}-{spec.digest}.zip"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    except OSError as error:
        raise HomeostasisError(
            f"`HOMEOSTASIS_GYM_CACHE` must be a writable folder, but {folder} is not: {error.strerror}"
        ) from error
    try:
        if not path.exists():
            started = time.perf_counter()
            best = BestPolicy(spec)
            model = train(spec, progress=progress, on_segment=best)
            best.put_into(model)
            save_policy(path, model, spec, steps=best.steps, seconds=time.perf_counter() - started)
        return load_policy(path)
    finally:
        lock.release()
