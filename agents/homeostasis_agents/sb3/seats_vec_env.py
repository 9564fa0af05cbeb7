"""The value graph for learners in some of its seats, as a Stable-Baselines3 `VecEnv`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from homeostasis_agents.sb3.policy import units_of
from homeostasis_gym.core.utility import make_scalarization
from homeostasis_gym.core.value_graph import ValueGraph, ValueGraphSeat
from homeostasis_gym.errors import HomeostasisError

__all__ = ["Chooser", "SeatsVecEnv", "parameters_of", "seat_actions", "seat_space", "seats_of"]

# With more actions than this one of them can no longer be tried often enough.
_MOST_ACTIONS = 4096

Chooser = Callable[[NDArray[np.float64]], NDArray[np.int64]]
"""What sits in a seat: observations of the seat (batch, dim) -> units (batch, values)."""


class SeatsVecEnv(VecEnv):
    """The value graph for learners in some of its seats, others being taken by fixed choosers.

    Every lane of this environment is one learning seat of one graph: with two learning seats and 8 graphs
    there are 16 lanes, and one policy that plays them all is a policy with shared parameters. As in
    `value_graph_v0` all choose at every step, and the choice of the one whose turn it is counts. An action
    is one number for the units of all values together, as in the environments with ``actions="discrete"``:
    chosen one by one, the units would often be more than are allowed in all, and the turn wasted.

    Args:
        benchmark: The graph.
        graphs: Number of graphs.
        learners: Seats that learn.
        others: What sits in the other seats.
        scalarization: How a seat's own utilities become its reward.
        reward_scale: Factor on the reward.

    Raises:
        HomeostasisError: A seat is taken twice or by nobody, or the units can be shared out in too many ways.
    """

    def __init__(
        self,
        benchmark: ValueGraph,
        graphs: int,
        learners: Sequence[str],
        others: Mapping[str, Chooser] | None = None,
        *,
        scalarization: str | Mapping[str, Any] = "linear",
        reward_scale: float = 1.0,
    ) -> None:
        self.others = dict(others or {})
        if sorted([*learners, *self.others]) != sorted(benchmark.agents):
            raise HomeostasisError(
                f"`learners` and `others` must take each of {', '.join(benchmark.agents)} once, "
                f"got {', '.join(learners) or 'none'} and {', '.join(self.others) or 'none'}"
            )
        self.benchmark = benchmark
        self.learners = tuple(learners)
        self.graphs = graphs
        self.reward_scale = reward_scale
        self.seats = seats_of(benchmark)
        values = benchmark.objectives
        self._scalarize = make_scalarization(scalarization, values)
        self._env = gym.make_vec(
            "Homeostasis-ValueGraph-v0",
            num_envs=graphs,
            vectorization_mode="vector_entry_point",
            autoreset_mode="SameStep",
            **parameters_of(benchmark),
        ).unwrapped
        self._seen: NDArray[np.float64] = np.empty(0)
        self._actions: NDArray[np.int64] | None = None
        space = seat_space(self.seats[self.learners[0]])
        actions = seat_actions(benchmark)
        self._units = units_of(actions, values)
        super().__init__(graphs * len(self.learners), space, actions)

    def reset(self) -> NDArray[np.float32]:
        """Start every graph over; lane i takes the seed of its graph."""
        first = self._seeds[: self.graphs]
        seeds = None if all(seed is None for seed in first) else list(first)
        self._seen, _ = self._env.reset(seed=seeds)  # type: ignore[arg-type] # a seed per graph is fine
        self._reset_seeds()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return self._view(self._seen)

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take every learner's choice."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Carry out the choices of those whose turn it is."""
        assert self._actions is not None
        by_seat = self._units(self._actions).reshape(len(self.learners), self.graphs, -1)
        turns = np.rint(self.benchmark.acting(self._seen)).astype(np.int64)
        units = np.zeros((self.graphs, self.benchmark.objectives), dtype=np.int64)
        for place, name in enumerate(self.benchmark.agents):
            mine = turns == place
            if name in self.others:
                if mine.any():
                    units[mine] = self.others[name](self.seats[name].seen(self._seen[mine]))
            else:
                units[mine] = by_seat[self.learners.index(name)][mine]
        observation, reward, terminated, truncated, info = self._env.step(units)
        self._seen = observation
        values = self.benchmark.objectives
        dones = np.tile(terminated | truncated, len(self.learners))
        vectors = np.concatenate(
            [reward[:, self.benchmark.agents.index(name) * values :][:, :values] for name in self.learners]
        )
        infos: list[dict[str, Any]] = [
            {"vector_reward": vector, "TimeLimit.truncated": False} for vector in vectors
        ]
        if dones.any():
            last = np.array(observation)
            ended = np.flatnonzero(terminated | truncated)
            last[ended] = np.stack(info["final_obs"][ended])
            views = self._view(last)
            for lane in np.flatnonzero(dones).tolist():
                infos[lane]["terminal_observation"] = views[lane]
                infos[lane]["TimeLimit.truncated"] = bool(truncated[lane % self.graphs])
        paid = (self._scalarize(vectors) * self.reward_scale).astype(np.float32)
        return self._view(observation), paid, dones, infos

    def close(self) -> None:
        """Release the environment."""
        self._env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the vector environment, once per lane."""
        value = getattr(self._env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not offered: the lanes share one environment."""
        raise HomeostasisError("`set_attr` is not offered: the lanes share one environment")

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Not offered: the lanes share one environment."""
        raise HomeostasisError("`env_method` is not offered: the lanes share one environment")

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Always False."""
        return [False for _ in self._get_indices(indices)]

    def _view(self, states: NDArray[np.float64]) -> NDArray[np.float32]:
        parts = [self.seats[name].normalize(self.seats[name].seen(states)) for name in self.learners]
        return np.concatenate(parts).astype(np.float32)


def seats_of(benchmark: ValueGraph) -> dict[str, ValueGraphSeat]:
    """The graph as each of its agents sees it."""
    return {name: ValueGraphSeat(seat=name, **parameters_of(benchmark)) for name in benchmark.agents}


def seat_space(seat: ValueGraphSeat) -> Box:
    """The space of what a learner in a seat is shown."""
    low, high = seat.normalized_bounds
    return Box(np.asarray(low, np.float32), np.asarray(high, np.float32), dtype=np.float32)


def seat_actions(benchmark: ValueGraph) -> Discrete:
    """Every way to share out the units of a turn, and to leave some of them, is an action.

    Raises:
        HomeostasisError: There are too many of them.
    """
    count = (benchmark.units + 1) ** benchmark.objectives
    if count > _MOST_ACTIONS:
        raise HomeostasisError(
            f"`max_consumption` must leave at most {_MOST_ACTIONS} ways to share out the units, "
            f"got {count} with {benchmark.units} units and {benchmark.objectives} values; "
            "1 is enough to correct one value at a time"
        )
    return Discrete(count)


def parameters_of(benchmark: ValueGraph) -> dict[str, Any]:
    """The arguments that make this graph, or the environment of it."""
    return {f.name: getattr(benchmark, f.name) for f in fields(ValueGraph) if f.init}
