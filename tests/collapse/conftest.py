from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from homeostasis_gym.core import benchmark_to_dict, simulate
from homeostasis_gym.core.benchmark import FORBIDDEN, Benchmark
from homeostasis_gym.trajectory import Header, Trajectory

BIOBLUE = Path(__file__).resolve().parents[3] / "shared" / "data" / "bioblue"


def played(
    benchmark: Benchmark,
    policy: Any,
    seeds: range = range(1),
    agent: str = "agent",
    noise: np.ndarray[Any, Any] | None = None,
) -> list[Trajectory]:
    """Episodes of a policy; where `policy` is a list, its rows are the actions."""
    if noise is None:
        keys = np.array(list(seeds), dtype=np.uint64)
        if benchmark.noise_channels:
            noise = benchmark.noise_paths(keys).transpose(2, 0, 1)
        else:
            noise = np.zeros((len(keys), benchmark.episode_length, 0))
    if not callable(policy):
        rows = np.asarray(policy)

        def policy(states: Any, step: int) -> Any:
            return np.broadcast_to(rows[step], (len(states), rows.shape[1]))

    run = simulate(benchmark, policy, noise)
    found = []
    for k, length in enumerate(run.lengths.tolist()):
        found.append(
            Trajectory(
                header=Header(
                    env_id=f"test-{benchmark.name}",
                    agent=agent,
                    seed=k,
                    episode=k,
                    benchmark=benchmark_to_dict(benchmark),
                    objective_names=benchmark.objective_names,
                    reward_names=benchmark.reward_names,
                ),
                observations=run.observations[k, : length + 1],
                states=run.states[k, : length + 1],
                actions=run.actions[k, :length],
                rewards=run.rewards[k, :length],
                noise=noise[k, :length],
                valid=np.ones(length, dtype=bool),
                forbidden=(run.flags[k, :length] & FORBIDDEN) > 0,
                seconds=np.full(length, np.nan),
                terminated=length < noise.shape[1],
            )
        )
    return found


@pytest.fixture
def play() -> Callable[..., list[Trajectory]]:
    return played


@pytest.fixture
def bioblue() -> Path:
    if not BIOBLUE.is_dir():
        pytest.skip(f"the recorded logs are not at {BIOBLUE}")
    return BIOBLUE
