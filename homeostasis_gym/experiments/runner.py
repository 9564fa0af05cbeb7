"""Runs an experiment: several processes, batches of episodes to the run folder as they finish."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeostasis_gym.agent import Task, agent_factory, agent_traits, make_agent
from homeostasis_gym.errors import BudgetError, HomeostasisError
from homeostasis_gym.experiments.folder import RunFolder
from homeostasis_gym.experiments.payments import (
    Account,
    Payments,
    basis_of,
    check_limit,
    costs_of,
    paid_so_far,
)
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
    max_cost: float | None = None,
    prices: Path | None = None,
    say: Callable[[str], None] | None = None,
) -> None:
    """Play every episode of an experiment that the folder does not hold yet.

    Agents play in processes of their own, several at once. The processes end when this one does,
    however it ends.

    Args:
        experiment: What to run.
        folder: Where results go.
        workers: How many processes at once; by default as many as there are cores.
        on_event: Told of progress.
        max_cost: Dollars after which no further request is made, all processes and all starts in this folder
            together. What is under way then is finished and paid: at most a request per process.
        prices: Price file for agents that cost money, None for the one that comes with them.
        say: Told in one line, before the first request, what an agent that asks a hosted model is expected
            to take, and with `max_cost` what was spent before and in the end; by default it is printed to
            standard error.

    Raises:
        BudgetError: `max_cost` is spent. What costs nothing was played to its end, and whatever was finished
            or paid for is in the folder.
        HomeostasisError: The folder holds another experiment or is in use, or an agent or environment
            cannot be made, or `max_cost` is given and a cost cannot be known. What was finished before is
            in the folder.
    """
    check_limit(max_cost)
    for spec in experiment.agents:
        agent_factory(spec.name)  # a wrong name is told before anything is written
        if max_cost is not None:
            costs_of(spec.name, spec.settings, prices)
    folder.open(experiment)
    with folder.lock():
        say = say or (lambda text: print(text, file=sys.stderr, flush=True))
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
                _say_estimate(experiment, spec, len(missing), prices, say)
        spent, basis = 0.0, ""
        if max_cost is not None:
            spent, basis = paid_so_far(folder, prices), basis_of(prices)
            say(f"max-cost: ${max_cost:.4f}, of which this run folder has spent ${spent:.4f}, {basis}")
        money = _Money(max_cost, spent, prices, basis)
        if not shares:
            return
        # The first share of every agent comes before the second of any, so that what an agent prepares
        # once (a trained policy) is there by then. Lists of agents conventionally end with the costly
        # ones, which had better begin first.
        order = {spec.name: -i for i, spec in enumerate(experiment.agents)}
        shares.sort(key=lambda share: (share.rank, order[share.spec.name]))
        _run_shares(experiment, folder, shares, processes, _Progress(done, tell), money)
        if max_cost is not None:
            spent = paid_so_far(folder, prices)
            say(f"done: this run folder has spent ${spent:.4f} of the allowed ${max_cost:.4f}, {basis}")


def _say_estimate(
    experiment: Experiment, spec: AgentSpec, episodes: int, prices: Path | None, say: Callable[[str], None]
) -> None:
    """Tell what the episodes that are missing are expected to take, for an agent that can say it."""
    estimate = agent_traits(spec.name).estimate
    if estimate is None:
        return
    env = make_env(experiment.env_id, experiment.env_kwargs)
    try:
        settings = {**agent_factory(spec.name)[1], **spec.settings}
        say(f"{spec.name}: {estimate(Task.from_env(env), episodes=episodes, prices=prices, **settings)}")
    finally:
        env.close()


@dataclass(frozen=True)
class _Money:
    """What may be spent and what was, in dollars."""

    limit: float | None
    spent: float
    prices: Path | None
    basis: str


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
    money: _Money,
) -> None:
    stopped: BudgetError | None = None
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        queue = manager.Queue()
        account = None if money.limit is None else Account(manager, money.limit, money.spent, money.basis)
        listener = threading.Thread(target=_forward, args=(queue, progress), daemon=True)
        listener.start()
        pool = ProcessPoolExecutor(
            max_workers=min(processes, len(shares)), mp_context=context, initializer=_die_with_parent
        )
        try:
            futures = [
                pool.submit(_play_share, experiment, share, folder, queue, account, money.prices)
                for share in shares
            ]
            for future in as_completed(futures):
                try:
                    future.result()
                except BudgetError as error:
                    # The others stop by themselves before their next request, and what is free goes on.
                    stopped = error
        except BaseException:
            # What the others are in the middle of is lost, what they finished is on disk.
            for process in list(pool._processes.values()):  # no public way before 3.14
                process.kill()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            queue.put(None)
            listener.join(timeout=5)
    if stopped is not None:
        raise stopped


def _play_share(
    experiment: Experiment,
    share: _Share,
    folder: RunFolder,
    queue: Any,
    account: Account | None,
    prices: Path | None,
) -> None:
    """Play a share of an agent's episodes and write them as they finish; runs in a worker process."""
    spec = share.spec

    def tell(done: float, note: str = "") -> None:
        queue.put((spec, share.rank, done, note))

    with folder.worker_lock(os.getpid()):
        env = make_env(experiment.env_id, experiment.env_kwargs)
        settings = dict(spec.settings)
        taken = inspect.signature(agent_factory(spec.name)[0]).parameters
        payments = None
        if "payments" in taken:
            payments = settings["payments"] = _payments(spec, folder, account, prices)
        if "progress" in taken:
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

        def write() -> None:
            nonlocal batch, began
            if batch:
                folder.add(spec.name, batch)
            batch, began = [], time.monotonic()

        try:
            for k in share.episodes:
                if batch and k != batch[-1].header.episode + 1:
                    write()
                if payments is not None:
                    payments.begin(k)
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
                    write()
                    tell(count)
        finally:
            write()  # what was finished before a failure is kept
        tell(count)
        env.close()


def _payments(spec: AgentSpec, folder: RunFolder, account: Account | None, prices: Path | None) -> Payments:
    """What an agent that costs money asks and tells; without a limit its price need not be known."""
    try:
        costs = costs_of(spec.name, spec.settings, prices)
    except HomeostasisError:
        if account is not None:
            raise
        return Payments(folder, spec.name)
    return Payments(folder, spec.name, free=costs is None, costs=costs, account=account)


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
