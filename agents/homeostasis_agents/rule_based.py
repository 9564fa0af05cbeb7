"""Agents that follow a fixed rule: the handwritten policies, and controls without any sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.agent import Decision, Task, no_op
from homeostasis_gym.core.benchmark import Benchmark
from homeostasis_gym.errors import HomeostasisError

__all__ = [
    "CopyLast",
    "Maximiser",
    "NoOp",
    "Rule",
    "anticipate",
    "base_stock",
    "cap_first",
    "handwritten",
    "keep_stock",
    "restore",
    "rule",
    "water_filling",
]


class Rule:
    """One of a benchmark's handwritten policies as an agent.

    Args:
        task: The seat; its benchmark must know the policy.
        policy: Name of the policy.

    Raises:
        UnknownNameError: The benchmark has no policy of that name.
        HomeostasisError: The task has no benchmark of ours.
    """

    def __init__(self, task: Task, policy: str) -> None:
        self._task = task
        self._policy = _benchmark(task, f"policy {policy!r}").policy(policy)
        self._step = 0

    def reset(self, seed: int) -> None:
        """Start over; a rule draws nothing."""
        self._step = 0

    def act(self, observation: NDArray[np.float64], info: Mapping[str, Any]) -> Decision:
        """Apply the rule to the state behind the observation, as the published policies do."""
        state = info.get("state", observation)
        units = self._policy(np.asarray(state, dtype=np.float64), self._step)
        self._step += 1
        return Decision(self._task.action(units))


def rule(task: Task, argument: str = "") -> Rule:
    """The policy named behind the colon: ``rule:restore``.

    Raises:
        HomeostasisError: No policy is named.
    """
    if not argument:
        known = ", ".join(_benchmark(task, "agent 'rule'").policies)
        raise HomeostasisError(f"agent 'rule' must be given as rule:POLICY, with POLICY one of {known}")
    return Rule(task, argument)


def handwritten(task: Task) -> Rule:
    """The strongest handwritten policy of the benchmark, against which regret is measured."""
    return Rule(task, _benchmark(task, "agent 'handwritten'").reference_policy)


def _named(policy: str) -> Callable[[Task], Rule]:
    """A factory for one policy, so that it can be an entry point of its own."""

    def factory(task: Task) -> Rule:
        return Rule(task, policy)

    factory.__doc__ = f"The handwritten policy {policy!r}."
    return factory


restore = _named("restore")
base_stock = _named("base-stock")
anticipate = _named("anticipate")
water_filling = _named("water-filling")
keep_stock = _named("keep-stock")
cap_first = _named("cap-first")


class NoOp:
    """Does nothing, ever: the other end of the scale.

    Args:
        task: The seat.

    Raises:
        HomeostasisError: The action space holds no action of zeros.
    """

    def __init__(self, task: Task) -> None:
        self._action = no_op(task.action_space)

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> Decision:
        """Do nothing."""
        return Decision(self._action)


class Maximiser:
    """Feeds one objective for ever and nothing else: the positive control of every flip detector.

    Args:
        task: The seat.
        objective: Index of the objective that is fed.
        units: Units at every step; the most that the action space holds, if that is less.

    Raises:
        HomeostasisError: The task has no such objective.
    """

    def __init__(self, task: Task, objective: int = 0, units: int = 10) -> None:
        benchmark = _benchmark(task, "agent 'maximiser'")
        if not 0 <= objective < benchmark.objectives:
            raise HomeostasisError(
                f"`objective` must be in [0, {benchmark.objectives - 1}], got {objective!r}"
            )
        counts = np.zeros(benchmark.objectives, dtype=np.int64)
        counts[objective] = min(units, benchmark.action_limit)
        self._action = task.action(counts)

    def reset(self, seed: int) -> None:
        """Nothing to forget."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> Decision:
        """Feed the one objective."""
        return Decision(self._action)


class CopyLast:
    """Draws an action at the first step and repeats it for ever: the control for self-imitation.

    Args:
        task: The seat.
        units: Largest count drawn; the most that the action space holds, if that is less.
    """

    def __init__(self, task: Task, units: int = 10) -> None:
        self._task = task
        self._benchmark = _benchmark(task, "agent 'copy-last'")
        self._units = min(units, self._benchmark.action_limit)
        self._generator = np.random.default_rng()
        self._action: NDArray[Any] | int | None = None

    def reset(self, seed: int) -> None:
        """Forget the action."""
        self._generator = np.random.default_rng(seed)
        self._action = None

    def act(self, observation: NDArray[np.float64], info: Mapping[str, Any]) -> Decision:
        """Repeat the action, drawn first where there is none."""
        if self._action is None:
            while True:
                counts = self._generator.integers(0, self._units + 1, self._benchmark.objectives)
                if not self._benchmark.why_forbidden(np.asarray(observation), counts):
                    break
            self._action = self._task.action(counts)
        return Decision(self._action)


def _benchmark(task: Task, who: str) -> Benchmark:
    if not isinstance(task.benchmark, Benchmark):
        raise HomeostasisError(f"{who} needs an environment of homeostasis-gym, got {task.env_id!r}")
    return task.benchmark
