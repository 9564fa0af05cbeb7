"""Several episodes at once against one server, each a conversation of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import gymnasium as gym

from homeostasis_gym.agent import Agent, Task
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.rollout import rollout
from homeostasis_gym.trajectory import Trajectory

__all__ = ["play_at_once"]


def play_at_once(
    make_env: Callable[[], gym.Env[Any, Any]],
    make_agent: Callable[[Task], Agent],
    seeds: Sequence[int],
    at_once: int = 8,
    **recorded: Any,
) -> Iterator[Trajectory]:
    """Play an episode per seed, several at once, and give each as soon as it is finished.

    Every episode has an environment and an agent of its own, and waits for nobody else's replies. A server
    wants as many slots as there are episodes at once, or they take each other's prefix cache away.

    Args:
        make_env: Makes an environment.
        make_agent: Makes an agent; agents may share a client.
        seeds: Seeds; an episode's number is its place here.
        at_once: Episodes at once.
        **recorded: Passed on to `homeostasis_gym.rollout.rollout`.

    Yields:
        Trajectories, in the order in which they end.

    Raises:
        Exception: The first failure of any episode, once those that were under way have ended; what was
            finished before has been given by then.
    """
    if at_once < 1:
        raise HomeostasisError(f"`at_once` must be at least 1, got {at_once}")

    def play(episode: int, seed: int) -> Trajectory:
        env = make_env()
        try:
            agent = make_agent(Task.from_env(env))
            return rollout(env, agent, seed=seed, episode=episode, **recorded)
        finally:
            env.close()

    with ThreadPoolExecutor(at_once, thread_name_prefix="episode") as pool:
        futures = [pool.submit(play, episode, seed) for episode, seed in enumerate(seeds)]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()
