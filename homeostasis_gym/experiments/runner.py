"""Runs an experiment: several processes, batches of episodes to the run folder as they finish."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from homeostasis_gym.agent import Task, agent_factory, make_agent
from homeostasis_gym.experiments.folder import RunFolder
from homeostasis_gym.experiments.spec import AgentSpec, Experiment, make_env
from homeostasis_gym.rollout import rollout
from homeostasis_gym.trajectory import Trajectory

__all__ = ["Event", "run_experiment"]

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


def run_experiment(
    experiment: Experiment,
    folder: RunFolder,
    *,
    workers: int | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> None:
    """Play every episode of an experiment that the folder does not hold yet.

    Agents play in processes of their own, several at once. The processes end when this one does,
    however it ends.

    Args:
        experiment: What to run.
        folder: Where results go.
        workers: How many processes at once; by default as many as there are cores.
        on_event: Told of progress.

    Raises:
        HomeostasisError: The folder holds another experiment or is in use, or an agent or environment
            cannot be made. What was finished before is in the folder.
    """
    for spec in experiment.agents:
        agent_factory(spec.name)  # a wrong name is told before anything is written
    folder.open(experiment)
    with folder.lock():
        tell = on_event or (lambda event: None)
        processes = workers or os.cpu_count() or 1
        shares: list[_Share] = []
        done: dict[str, float] = {}
        for spec in experiment.agents:
            finished = folder.finished(spec.name)
            missing = [k for k in range(spec.episodes) if k not in finished]
            done[spec.name] = spec.episodes - len(missing)
            tell(Event(spec.name, done[spec.name], spec.episodes))
            if missing:
                shares += _shares(spec, missing, processes)
        if not shares:
            return
        # The first share of every agent comes before the second of any, so that what an agent prepares
        # once (a trained policy) is there by then. Lists of agents conventionally end with the costly
        # ones, which had better begin first.
        order = {spec.name: -i for i, spec in enumerate(experiment.agents)}
        shares.sort(key=lambda share: (share.rank, order[share.spec.name]))
        _run_shares(experiment, folder, shares, processes, _Progress(done, tell))


@dataclass(frozen=True)
class _Share:
    """Episodes of one agent that one process plays; `rank` counts the agent's shares."""

    spec: AgentSpec
    episodes: tuple[int, ...]
    rank: int


def _shares(spec: AgentSpec, missing: Sequence[int], processes: int) -> list[_Share]:
    size = -(-len(missing) // processes)
    return [
        _Share(spec, tuple(missing[i : i + size]), rank)
        for rank, i in enumerate(range(0, len(missing), size))
    ]


class _Progress:
    """Adds up what the shares of each agent report."""

    def __init__(self, done: Mapping[str, float], tell: Callable[[Event], None]) -> None:
        self._done = {agent: {-1: count} for agent, count in done.items()}
        self._tell = tell

    def __call__(self, spec: AgentSpec, rank: int, done: float, note: str) -> None:
        self._done[spec.name][rank] = done
        self._tell(Event(spec.name, sum(self._done[spec.name].values()), spec.episodes, note))


def _run_shares(
    experiment: Experiment,
    folder: RunFolder,
    shares: Sequence[_Share],
    processes: int,
    progress: _Progress,
) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        queue = manager.Queue()
        listener = threading.Thread(target=_forward, args=(queue, progress), daemon=True)
        listener.start()
        pool = ProcessPoolExecutor(
            max_workers=min(processes, len(shares)), mp_context=context, initializer=_die_with_parent
        )
        try:
            futures = [pool.submit(_play_share, experiment, share, folder, queue) for share in shares]
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


def _play_share(experiment: Experiment, share: _Share, folder: RunFolder, queue: Any) -> None:
    """Play a share of an agent's episodes and write them as they finish; runs in a worker process."""
    spec = share.spec

    def tell(done: float, note: str = "") -> None:
        queue.put((spec, share.rank, done, note))

    with folder.worker_lock(os.getpid()):
        env = make_env(experiment.env_id, experiment.env_kwargs)
        settings = dict(spec.settings)
        if "progress" in inspect.signature(agent_factory(spec.name)[0]).parameters:
            # Agents that prepare themselves (training) say how far they are.
            settings["progress"] = lambda part: tell(0, f"training {100 * part:.0f} %")
        agent = make_agent(spec.name, Task.from_env(env), **settings)
        extra = dict(getattr(agent, "record", {}))
        length = getattr(getattr(env.unwrapped, "benchmark", None), "episode_length", None)
        count = 0
        batch: list[Trajectory] = []
        began = told = time.monotonic()

        def on_step(steps: int) -> None:
            nonlocal told
            if length is not None and time.monotonic() - told > 0.2:
                told = time.monotonic()
                tell(count + steps / length)

        for k in share.episodes:
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
                tell(count)
        if batch:
            folder.add(spec.name, batch)
        tell(count)
        env.close()


def _forward(queue: Any, progress: _Progress) -> None:
    while (news := queue.get()) is not None:
        progress(*news)


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
