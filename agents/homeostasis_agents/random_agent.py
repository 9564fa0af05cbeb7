"""An agent that acts at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from homeostasis_gym.agent import Decision, Task
from homeostasis_gym.core.benchmark import Benchmark

__all__ = ["RandomAgent"]


class RandomAgent:
    """Draws every action uniformly, from 0 to `units` of each objective.

    Over the published action space without an upper limit a uniform draw would be a billion units; the
    range that the reinforcement learners have is used instead. In an environment that is not ours the
    action space itself is sampled.

    Args:
        task: The seat.
        units: Largest count drawn; the most that the action space holds, if that is less.
    """

    def __init__(self, task: Task, units: int = 10) -> None:
        self._task = task
        self._units = units
        self._generator = np.random.default_rng()

    def reset(self, seed: int) -> None:
        """Start the generator over."""
        # Apart from the environment's stream, which may have been made from the same seed.
        self._generator = np.random.default_rng([seed, 0x5EED])
        self._task.action_space.seed(seed)

    def act(self, observation: Any, info: Mapping[str, Any]) -> Decision:
        """Draw an action."""
        benchmark = self._task.benchmark
        if not isinstance(benchmark, Benchmark):
            return Decision(self._task.action_space.sample())
        most = min(self._units, benchmark.action_limit)
        counts = self._generator.integers(0, most + 1, benchmark.objectives)
        return Decision(self._task.action(counts))
