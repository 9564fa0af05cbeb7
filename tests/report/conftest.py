"""Runs that the tests of the page share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from homeostasis_gym.agent import Attempt
from homeostasis_gym.core import MOHoN, benchmark_to_dict, simulate
from homeostasis_gym.core.benchmark import FORBIDDEN
from homeostasis_gym.trajectory import Header, Trajectory

EVIL = "</script><script>window.hacked = true</script><img src=x onerror='window.hacked = true'>\u2028"


def run_of(benchmark: Any, policy: Any, agent: str, count: int = 3, talks: bool = False) -> list[Trajectory]:
    keys = np.arange(count, dtype=np.uint64)
    steps = benchmark.episode_length
    noise = np.zeros((count, steps, 0))
    if benchmark.noise_channels:
        noise = benchmark.noise_paths(keys).transpose(2, 0, 1)
    run = simulate(benchmark, policy, noise)
    attempts = ()
    if talks:
        attempts = tuple(
            (
                Attempt(f"prompt {k + 1} {EVIL}", f"refused {k + 1}", error="no numbers"),
                Attempt("", f"reply {k + 1} {EVIL}"),
            )
            for k in range(steps)
        )
    return [
        Trajectory(
            Header(
                f"Homeostasis-{benchmark.name}",
                agent,
                seed=k,
                episode=k,
                benchmark=benchmark_to_dict(benchmark),
                objective_names=benchmark.objective_names,
                reward_names=benchmark.reward_names,
            ),
            run.observations[k],
            run.states[k],
            run.actions[k],
            run.rewards[k],
            noise[k],
            np.ones(steps, bool),
            (run.flags[k] & FORBIDDEN) > 0,
            np.full(steps, 0.01),
            attempts,
        )
        for k in range(count)
    ]


def maximise(states: Any, step: int) -> Any:
    actions = np.zeros((len(states), 2), dtype=np.int64)
    actions[:, 1] = 10
    return actions


def comparison() -> list[Trajectory]:
    """Three agents, one of which is a language model that tries to break out of the page."""
    benchmark = MOHoN()
    return [
        *run_of(benchmark, benchmark.policy("restore"), "restore"),
        *run_of(benchmark, lambda states, step: np.zeros((len(states), 2), np.int64), "no-op"),
        *run_of(benchmark, maximise, f"model {EVIL}", talks=True),
    ]


@pytest.fixture
def evil() -> str:
    """What a model might say to break out of the page."""
    return EVIL


@pytest.fixture
def compared() -> list[Trajectory]:
    return comparison()


@pytest.fixture
def played() -> Callable[..., list[Trajectory]]:
    return run_of


@pytest.fixture
def maximiser() -> Callable[[Any, int], Any]:
    return maximise
