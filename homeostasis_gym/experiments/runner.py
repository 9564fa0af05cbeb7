"""Runs an experiment: one process per agent, batches of episodes to the run folder as they finish."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Protocol

from homeostasis_gym.agent import Task, agent_factory, make_agent
from homeostasis_gym.errors import MissingExtraError
from homeostasis_gym.experiments.folder import RunFolder
from homeostasis_gym.experiments.spec import AgentSpec, Experiment, make_env
from homeostasis_gym.rollout import rollout
from homeostasis_gym.trajectory import Trajectory

__all__ = ["Event", "run_agent", "run_experiment"]

# Episodes that take longer than this are written one by one; quicker ones are gathered until this much
# work (in seconds) stands to be lost.
_AT_RISK = 0.25
_MOST_IN_A_BATCH = 200


@dataclass(frozen=True)
class Event:
    """News of one agent: how much of its work is done.

    Attributes:
        agent: The agent's name.
        done: Finished episodes, the running one as a fraction.
        total: Episodes wanted.
        note: What is going on, where that is not playing (``training 40 %``).
    """

    agent: str
    done: float
    total: int
    note: str = ""


class _Queue(Protocol):
    def put(self, item: Any) -> None: ...


def run_experiment(
    experiment: Experiment,
    folder: RunFolder,
    *,
    workers: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> None:
    """Play every episode of an experiment that the folder does not hold yet.

    Every agent plays in a process of its own, several at once. The processes end when this one does,
    however it ends.

    Args:
        experiment: What to run.
        folder: Where results go.
        workers: How many processes at once; by default as many as there are cores.
        on_event: Told of progress.

    Raises:
        HomeostasisError: The folder holds another experiment, or an agent or environment cannot be made.
            What was finished before is in the folder.
    """
    folder.open(experiment)
    tell = on_event or (lambda event: None)
    pending = []
    for spec in experiment.agents:
        done = len(folder.finished(spec.name) & set(range(spec.episodes)))
        tell(Event(spec.name, done, spec.episodes))
        if done < spec.episodes:
            agent_factory(spec.name)  # a wrong name is told before any work is done
            pending.append(spec)
    if not pending:
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        queue = manager.Queue()
        listener = threading.Thread(target=_forward, args=(queue, tell), daemon=True)
        listener.start()
        pool = ProcessPoolExecutor(
            max_workers=min(workers or os.cpu_count() or 1, len(pending)),
            mp_context=context,
            initializer=_die_with_parent,
        )
        try:
            futures: list[Future[None]] = [
                pool.submit(run_agent, experiment, spec, folder, queue)
                # Lists of agents conventionally end with the costly ones; these had better begin first.
                for spec in reversed(pending)
            ]
            for future in as_completed(futures):
                future.result()
        except BaseException:
            # What the others are in the middle of is lost, what they finished is on disk.
            for process in list(pool._processes.values()):  # no public way before 3.14
                process.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            queue.put(None)
            listener.join(timeout=5)


def run_agent(
    experiment: Experiment, spec: AgentSpec, folder: RunFolder, queue: _Queue | None = None
) -> None:
    """Play one agent's missing episodes.

    Args:
        experiment: The experiment.
        spec: The agent.
        folder: Where results go.
        queue: Gets `Event` objects.
    """
    tell = queue.put if queue is not None else (lambda event: None)
    records = folder.records(spec.name)
    records.mkdir(parents=True, exist_ok=True)
    # A process that was killed a moment ago may still be on its way out.
    with _lock(records):
        done = folder.finished(spec.name)
        missing = [k for k in range(spec.episodes) if k not in done]
        if not missing:
            return
        env = make_env(experiment.env_id, experiment.env_kwargs)
        count = spec.episodes - len(missing)
        settings = dict(spec.settings)
        if "progress" in inspect.signature(agent_factory(spec.name)[0]).parameters:
            # Agents that prepare themselves (training) say how far they are.
            settings["progress"] = lambda share: tell(
                Event(spec.name, count, spec.episodes, f"training {100 * share:.0f} %")
            )
        agent = make_agent(spec.name, Task.from_env(env), **settings)
        extra = dict(getattr(agent, "record", {}))
        length = getattr(getattr(env.unwrapped, "benchmark", None), "episode_length", None)
        batch: list[Trajectory] = []
        began = told = time.monotonic()

        def on_step(steps: int) -> None:
            nonlocal told
            if length is not None and time.monotonic() - told > 0.2:
                told = time.monotonic()
                tell(Event(spec.name, count + steps / length, spec.episodes))

        for k in missing:
            if batch and k != batch[-1].header.episode + 1:
                folder.add(spec.name, batch)
                batch, began = [], time.monotonic()
            batch.append(
                rollout(
                    env,
                    agent,
                    seed=experiment.seed + k,
                    agent_name=spec.name,
                    episode=k,
                    env_kwargs=experiment.env_kwargs,
                    agent_settings=spec.settings,
                    extra=extra,
                    progress=on_step,
                )
            )
            count += 1
            if time.monotonic() - began > _AT_RISK or len(batch) >= _MOST_IN_A_BATCH:
                folder.add(spec.name, batch)
                batch, began = [], time.monotonic()
                tell(Event(spec.name, count, spec.episodes))
        if batch:
            folder.add(spec.name, batch)
        tell(Event(spec.name, count, spec.episodes))
        env.close()


def _lock(records: Any) -> Any:
    try:
        from filelock import FileLock
    except ImportError as error:
        raise MissingExtraError("filelock", "pip install 'homeostasis-gym[report]'") from error
    return FileLock(records / ".lock")


def _forward(queue: Any, tell: Callable[[Event], None]) -> None:
    while (event := queue.get()) is not None:
        tell(event)


def _die_with_parent() -> None:
    """End this process as soon as its parent is gone, even when that was killed without warning.

    An orphan would go on writing to the folder in which the next start continues.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
