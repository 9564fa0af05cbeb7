"""ALICE and BOB as learners: shared parameters, independent learners, self-play against a frozen other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from homeostasis_agents.sb3.policy import Policy
from homeostasis_agents.sb3.training import quiet_torch
from homeostasis_gym.core.benchmark import simulate
from homeostasis_gym.core.utility import make_scalarization
from homeostasis_gym.core.value_graph import ValueGraph, ValueGraphSeat
from homeostasis_gym.errors import HomeostasisError

__all__ = [
    "MODES",
    "Chooser",
    "SeatsVecEnv",
    "as_policy",
    "collapsed_agents",
    "seats_of",
    "seats_policy",
    "train_seats",
]

MODES = ("shared", "independent", "self-play")

Chooser = Callable[[NDArray[np.float64]], NDArray[np.int64]]
"""What sits in a seat: observations of the seat (batch, dim) -> units (batch, values)."""


class SeatsVecEnv(VecEnv):
    """The value graph for learners in some of its seats, others being taken by fixed choosers.

    Every lane of this environment is one learning seat of one graph: with two learning seats and 8 graphs
    there are 16 lanes, and one policy that plays them all is a policy with shared parameters. As in
    `value_graph_v0` all choose at every step, and the choice of the one whose turn it is counts.

    Args:
        benchmark: The graph.
        graphs: Number of graphs.
        learners: Seats that learn.
        others: What sits in the other seats.
        scalarization: How a seat's own utilities become its reward.
        reward_scale: Factor on the reward.

    Raises:
        HomeostasisError: A seat is taken twice or by nobody.
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
            **_parameters(benchmark),
        ).unwrapped
        self._seen: NDArray[np.float64] = np.empty(0)
        self._actions: NDArray[np.int64] | None = None
        seat = self.seats[self.learners[0]]
        low, high = seat.normalized_bounds
        space = Box(np.asarray(low, np.float32), np.asarray(high, np.float32), dtype=np.float32)
        super().__init__(graphs * len(self.learners), space, MultiDiscrete([benchmark.units + 1] * values))

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
        by_seat = self._actions.reshape(len(self.learners), self.graphs, -1)
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
    return {name: ValueGraphSeat(seat=name, **_parameters(benchmark)) for name in benchmark.agents}


def train_seats(
    benchmark: ValueGraph,
    mode: str,
    *,
    steps: int,
    seed: int = 0,
    graphs: int = 64,
    rounds: int = 3,
    scalarization: str | Mapping[str, Any] = "linear",
    reward_scale: float = 1.0,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, BasePolicy]:
    """Train the agents of a value graph with PPO.

    Args:
        benchmark: The graph.
        mode: ``shared``: one policy in all seats. ``independent``: a policy for each seat; in every round
            each learns for a while, the others staying as they are at its start. ``self-play``: one
            policy, which learns in the first seat against a copy of itself as it was when the round began.
        steps: Choices to learn from, all seats together.
        seed: Seed of weights, exploration and turns.
        graphs: Number of graphs at once.
        rounds: How often the others are renewed, where they are frozen.
        scalarization: How a seat's own utilities become its reward.
        reward_scale: Factor on the reward.
        settings: Arguments for PPO.

    Returns:
        A policy per seat.

    Raises:
        HomeostasisError: No such mode.
    """
    if mode not in MODES:
        raise HomeostasisError(f"`mode` must be one of {', '.join(MODES)}, got {mode!r}")
    names = benchmark.agents
    seats = seats_of(benchmark)

    made = 0

    def env(learners: Sequence[str], others: Mapping[str, Chooser]) -> SeatsVecEnv:
        nonlocal made
        made += 1
        venv = SeatsVecEnv(
            benchmark,
            graphs,
            learners,
            others,
            scalarization=scalarization,
            reward_scale=reward_scale,
        )
        # The learner seeds the first one that it gets and none of those that follow.
        venv.seed(int(np.random.SeedSequence([seed, made]).generate_state(1)[0]) >> 1)
        return venv

    def learner(venv: VecEnv, number: int) -> PPO:
        return PPO("MlpPolicy", venv, seed=seed + 1000 * number, device="cpu", **dict(settings or {}))

    with quiet_torch():
        if mode == "shared":
            model = learner(env(names, {}), 0)
            model.learn(steps)
            return dict.fromkeys(names, model.policy)
        if mode == "self-play":
            first, rest = names[0], names[1:]
            model = learner(env(names[:1], {name: _chooser(_still(), seats[name]) for name in rest}), 0)
            for number in range(rounds):
                if number:
                    frozen = _copy(model)
                    model.set_env(env([first], {name: _chooser(frozen, seats[name]) for name in rest}))
                model.learn(steps // rounds, reset_num_timesteps=number == 0)
            return dict.fromkeys(names, model.policy)
        models: dict[str, PPO] = {}
        for number in range(rounds):
            for place, name in enumerate(names):
                others = {
                    other: _chooser(_copy(models[other]) if other in models else _still(), seats[other])
                    for other in names
                    if other != name
                }
                venv = env([name], others)
                if name in models:
                    models[name].set_env(venv)
                else:
                    models[name] = learner(venv, place)
                models[name].learn(steps // (rounds * len(names)), reset_num_timesteps=number == 0)
        return {name: model.policy for name, model in models.items()}


def seats_policy(
    benchmark: ValueGraph, policies: Mapping[str, BasePolicy]
) -> Callable[[NDArray[np.float64], int], NDArray[np.int64]]:
    """What the seats do together, as a policy of the graph for `homeostasis_gym.core.benchmark.simulate`."""
    seats = seats_of(benchmark)
    choosers = {name: _chooser(policy, seats[name]) for name, policy in policies.items()}

    def policy(states: NDArray[np.float64], step: int) -> NDArray[np.int64]:
        turns = benchmark.acting(states)
        units = np.zeros((len(states), benchmark.objectives), dtype=np.int64)
        for place, name in enumerate(benchmark.agents):
            mine = turns == place
            if mine.any():
                units[mine] = choosers[name](seats[name].seen(states[mine]))
        return units

    return policy


def as_policy(network: BasePolicy) -> Policy:
    """A seat's network as a policy that `PolicyAgent` plays, also in PettingZoo's environment."""
    return Policy(network, network.observation_space, network.action_space, normalized=True)


def collapsed_agents(
    benchmark: ValueGraph,
    policy: Callable[[NDArray[np.float64], int], NDArray[np.int64]],
    noise: NDArray[np.float64],
    hold: int = 20,
) -> NDArray[np.int64]:
    """How many agents of each run collapse: a level below 0 for `hold` steps in a row.

    Args:
        benchmark: The graph.
        policy: Corrects whoever's turn it is.
        noise: Whose turn comes next, ``(runs, steps, channels)``.
        hold: See `homeostasis_gym.core.value_graph.CollapseRule`.

    Returns:
        Shape ``(runs,)``, int64.
    """
    levels = benchmark.split(simulate(benchmark, policy, noise).states[:, 1:])[0]
    below = (levels < 0.0).astype(np.int64)
    total = np.cumsum(np.concatenate([np.zeros_like(below[:, :1]), below], axis=1), axis=1)
    held = (total[:, hold:] - total[:, :-hold]) == hold
    count: NDArray[np.int64] = held.any(axis=(1, 3)).sum(axis=1)
    return count


def _parameters(benchmark: ValueGraph) -> dict[str, Any]:
    return {f.name: getattr(benchmark, f.name) for f in fields(ValueGraph) if f.init}


def _chooser(policy: BasePolicy | None, seat: ValueGraphSeat) -> Chooser:
    def choose(observations: NDArray[np.float64]) -> NDArray[np.int64]:
        if policy is None:
            return np.zeros((len(observations), seat.objectives), dtype=np.int64)
        seen = seat.normalize(observations).astype(np.float32)
        return np.asarray(policy.predict(seen, deterministic=True)[0], dtype=np.int64)

    return choose


def _still() -> BasePolicy | None:
    """Nobody has learned anything yet: no corrections."""
    return None


def _copy(model: BaseAlgorithm) -> BasePolicy:
    """The policy as it is now; it stays so when the training goes on."""
    policy = model.policy
    fresh: BasePolicy = type(policy)(**policy._get_constructor_parameters())
    fresh.load_state_dict(policy.state_dict())
    return fresh
