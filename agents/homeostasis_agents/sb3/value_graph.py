"""ALICE and BOB as learners: shared parameters, independent learners, self-play against a frozen other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvStepReturn

from homeostasis_agents.sb3.policy import (
    Policy,
    PolicyAgent,
    describe,
    described_training,
    save_policy,
    units_of,
    with_weights,
)
from homeostasis_agents.sb3.spec import TrainingSpec
from homeostasis_agents.sb3.training import policy_kwargs, quiet_torch
from homeostasis_gym.agent import Task
from homeostasis_gym.core.benchmark import simulate
from homeostasis_gym.core.utility import make_scalarization
from homeostasis_gym.core.value_graph import ValueGraph, ValueGraphSeat
from homeostasis_gym.errors import HomeostasisError

__all__ = [
    "MODES",
    "SETTINGS",
    "Chooser",
    "Seats",
    "SeatsVecEnv",
    "collapsed_agents",
    "count_collapsed",
    "empty_seat",
    "load_seats",
    "seat_agent",
    "seats_of",
    "seats_policy",
    "train_seats",
]

MODES = ("shared", "independent", "self-play")
ENV_ID = "value_graph_v0"

# An episode is no longer than this in a training: once an agent has collapsed, nothing more is to be learned.
_LENGTH = 250
# With more actions than this one of them can no longer be tried often enough.
_MOST_ACTIONS = 4096

SETTINGS: Mapping[str, Any] = MappingProxyType(
    {
        "envs": 32,
        "reward_scale": 0.02,
        "learning_rate": 1e-3,
        "net_arch": (64, 64),
        "activation": "tanh",
        "final_entropy": 0.0,
        "arguments": MappingProxyType(
            {
                "n_epochs": 8,
                "gamma": 0.98,
                "gae_lambda": 0.9,
                "ent_coef": 0.05,
            }
        ),
    }
)
"""How the seats are trained, by the names of `homeostasis_agents.sb3.spec.TrainingSpec`.

`n_steps` is not here: a rollout is one whole episode of every graph. All graphs begin together, so that a
shorter rollout would hold nothing but beginnings, and the next one nothing but what comes later. A batch is
a quarter of what one seat brings in.
"""

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
            **_parameters(benchmark),
        ).unwrapped
        self._seen: NDArray[np.float64] = np.empty(0)
        self._actions: NDArray[np.int64] | None = None
        seat = self.seats[self.learners[0]]
        low, high = seat.normalized_bounds
        space = Box(np.asarray(low, np.float32), np.asarray(high, np.float32), dtype=np.float32)
        actions = _actions(benchmark)
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
    return {name: ValueGraphSeat(seat=name, **_parameters(benchmark)) for name in benchmark.agents}


@dataclass(frozen=True)
class Seats:
    """What a training of the seats has given.

    Attributes:
        benchmark: The graph that was trained in.
        mode: One of `MODES`.
        spec: The training.
        models: The algorithm of every seat; one and the same for all where they share it.
    """

    benchmark: ValueGraph
    mode: str
    spec: TrainingSpec
    models: Mapping[str, PPO]

    @property
    def policies(self) -> dict[str, Policy]:
        """The policy of every seat, for `PolicyAgent` and `seats_policy`."""
        return {
            name: Policy(model.policy, model.observation_space, model.action_space, True, self.spec)
            for name, model in self.models.items()
        }

    def save(self, folder: str | Path) -> None:
        """Write one policy file per seat, ``ALICE.zip`` and so on.

        Args:
            folder: Made when needed; files of the same names are replaced.
        """
        for name, model in self.models.items():
            save_policy(Path(folder) / f"{name}.zip", model, self.spec, mode=self.mode, seat=name)


def load_seats(folder: str | Path) -> dict[str, Policy]:
    """The policies that `Seats.save` wrote, by seat; nothing that stands in the files is run.

    Raises:
        HomeostasisError: There are none, or a file is broken or holds something else.
    """
    found = sorted(Path(folder).glob("*.zip"))
    if not found:
        raise HomeostasisError(f"`folder` must hold the files of trained seats, but {folder} has none")
    return {path.stem: _load_seat(path) for path in found}


def empty_seat(spec: TrainingSpec) -> BasePolicy:
    """The policy that a training of the seats trains, for a trained one's weights to be put into."""
    benchmark = ValueGraph(**spec.env_kwargs)
    low, high = seats_of(benchmark)[benchmark.agents[0]].normalized_bounds
    space = Box(np.asarray(low, np.float32), np.asarray(high, np.float32), dtype=np.float32)
    with quiet_torch():  # the fresh weights are drawn from the global generator
        return ActorCriticPolicy(space, _actions(benchmark), lambda remaining: 0.0, **policy_kwargs(spec))


def seat_agent(path: str | Path, task: Task) -> PolicyAgent:
    """A trained seat as an agent of `value_graph_v0`.

    Args:
        path: A file that `Seats.save` wrote.
        task: The seat, from the environment's ``task(name)``. It need not be the one that was trained.

    Raises:
        HomeostasisError: The file is broken or holds something else, or the task counts other units.
    """
    policy = _load_seat(Path(path))
    if not isinstance(task.benchmark, ValueGraphSeat):
        raise HomeostasisError(f"a trained seat plays {ENV_ID} only, got a task in {task.env_id!r}")
    assert policy.spec is not None
    trained = ValueGraph(**policy.spec.env_kwargs)
    if (trained.units, trained.objective_names) != (task.benchmark.units, task.benchmark.objective_names):
        raise HomeostasisError(
            f"{path} was trained with `units` {trained.units} and {', '.join(trained.objective_names)}, but "
            f"the task has {task.benchmark.units} and {', '.join(task.benchmark.objective_names)}"
        )
    return PolicyAgent(policy, task)


def train_seats(
    benchmark: ValueGraph,
    mode: str,
    *,
    steps: int = 600_000,
    seed: int = 0,
    rounds: int = 3,
    scalarization: str | Mapping[str, Any] = "linear",
    settings: Mapping[str, Any] | None = None,
) -> Seats:
    """Train the agents of a value graph with PPO.

    Args:
        benchmark: The graph. Episodes of the training have at most 250 steps, whatever its own say. Its
            ``max_consumption`` should be small (1: a turn goes to one value), because every way to share out
            the units is an action of its own.
        mode: ``shared``: one policy in all seats. ``independent``: a policy for each seat; in every round
            each learns for a while, the others staying as they are at its start. ``self-play``: one
            policy, which learns in the first seat against a copy of itself as it was when the round began.
        steps: Choices to learn from, all seats together.
        seed: Seed of weights, exploration and turns.
        rounds: How often the others are renewed, where they are frozen. In the first round they do nothing.
        scalarization: How a seat's own utilities become its reward.
        settings: What differs from `SETTINGS`; of ``arguments`` those that are not named stay.

    Returns:
        What the seats have become.

    Raises:
        HomeostasisError: No such mode, or the units can be shared out in too many ways.
    """
    if mode not in MODES:
        raise HomeostasisError(f"`mode` must be one of {', '.join(MODES)}, got {mode!r}")
    benchmark = replace(benchmark, episode_length=min(benchmark.episode_length, _LENGTH))
    names, seats = benchmark.agents, seats_of(benchmark)
    changes = dict(settings or {})
    length = benchmark.episode_length
    arguments = {
        "n_steps": length,
        "batch_size": max(2, length * changes.get("envs", SETTINGS["envs"]) // 4),
        **SETTINGS["arguments"],
        **changes.pop("arguments", {}),
    }
    spec = TrainingSpec.from_dict(
        {
            **SETTINGS,
            **changes,
            "algorithm": "PPO",
            "env_id": ENV_ID,
            "env_kwargs": _parameters(benchmark),
            "scalarization": scalarization,
            "seed": seed,
            "steps": steps,
            "segments": rounds,
            "actions": "discrete",
            "arguments": arguments,
        }
    )
    made = 0

    def env(learners: Sequence[str], others: Mapping[str, Chooser]) -> SeatsVecEnv:
        nonlocal made
        made += 1
        venv = SeatsVecEnv(
            benchmark,
            spec.envs,
            learners,
            others,
            scalarization=scalarization,
            reward_scale=spec.reward_scale,
        )
        # The learner seeds the first one that it gets and none of those that follow.
        venv.seed(int(np.random.SeedSequence([seed, made]).generate_state(1)[0]) >> 1)
        return venv

    def learner(venv: VecEnv, number: int) -> PPO:
        return PPO(
            "MlpPolicy",
            venv,
            seed=seed + 1000 * number,
            device="cpu",
            policy_kwargs=policy_kwargs(spec),
            **spec.arguments,
        )

    def chooser(policy: Policy | None, name: str) -> Chooser:
        return _chooser(policy, seats[name])

    models: dict[str, PPO] = {}
    with quiet_torch():
        if mode == "shared":
            model = learner(env(names, {}), 0)
            model.learn(steps, callback=_Annealing(spec, steps))
            models = dict.fromkeys(names, model)
        elif mode == "self-play":
            first, rest = names[0], names[1:]
            model = learner(env([first], {name: chooser(None, name) for name in rest}), 0)
            falling = _Annealing(spec, steps)
            for number in range(rounds):
                if number:
                    frozen = _copy(model)
                    model.set_env(env([first], {name: chooser(frozen, name) for name in rest}))
                model.learn(steps // rounds, callback=falling, reset_num_timesteps=number == 0)
            models = dict.fromkeys(names, model)
        else:
            each = steps // len(names)
            for number in range(rounds):
                for place, name in enumerate(names):
                    others = {
                        other: chooser(_copy(models[other]) if other in models else None, other)
                        for other in names
                        if other != name
                    }
                    venv = env([name], others)
                    if name in models:
                        models[name].set_env(venv)
                    else:
                        models[name] = learner(venv, place)
                    models[name].learn(
                        each // rounds, callback=_Annealing(spec, each), reset_num_timesteps=number == 0
                    )
    return Seats(benchmark, mode, spec, models)


def seats_policy(
    benchmark: ValueGraph, policies: Mapping[str, Policy]
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
    return count_collapsed(benchmark.split(simulate(benchmark, policy, noise).states[:, 1:])[0], hold)


def count_collapsed(levels: NDArray[np.float64], hold: int = 20) -> NDArray[np.int64]:
    """How many agents have had a level below 0 for `hold` steps in a row.

    Args:
        levels: Levels after every step, ``(runs, steps, agents, values)``.
        hold: See `homeostasis_gym.core.value_graph.CollapseRule`.

    Returns:
        Shape ``(runs,)``, int64.
    """
    below = (levels < 0.0).astype(np.int64)
    total = np.cumsum(np.concatenate([np.zeros_like(below[:, :1]), below], axis=1), axis=1)
    held = (total[:, hold:] - total[:, :-hold]) == hold
    count: NDArray[np.int64] = held.any(axis=(1, 3)).sum(axis=1)
    return count


def _parameters(benchmark: ValueGraph) -> dict[str, Any]:
    return {f.name: getattr(benchmark, f.name) for f in fields(ValueGraph) if f.init}


def _actions(benchmark: ValueGraph) -> Discrete:
    count = (benchmark.units + 1) ** benchmark.objectives
    if count > _MOST_ACTIONS:
        raise HomeostasisError(
            f"`max_consumption` must leave at most {_MOST_ACTIONS} ways to share out the units, "
            f"got {count} with {benchmark.units} units and {benchmark.objectives} values; "
            "1 is enough to correct one value at a time"
        )
    return Discrete(count)


def _chooser(policy: Policy | None, seat: ValueGraphSeat) -> Chooser:
    """What a policy does in a seat; without one, nothing."""
    if policy is None:
        return lambda observations: np.zeros((len(observations), seat.objectives), dtype=np.int64)
    network, units = policy.network, units_of(policy.action_space, seat.objectives)

    def choose(observations: NDArray[np.float64]) -> NDArray[np.int64]:
        seen = seat.normalize(observations).astype(np.float32)
        return np.asarray(units(network.predict(seen, deterministic=True)[0]), dtype=np.int64)

    return choose


def _copy(model: PPO) -> Policy:
    """The policy as it is now; it stays so when the training goes on."""
    policy = model.policy
    fresh: BasePolicy = type(policy)(**policy._get_constructor_parameters())
    fresh.load_state_dict(policy.state_dict())
    return Policy(fresh, model.observation_space, model.action_space, True)


class _Annealing(BaseCallback):
    """Lets learning rate and entropy bonus fall over a whole training that is done in rounds.

    The learning rate falls to its end in a straight line; the bonus reaches its own after four fifths.
    """

    def __init__(self, spec: TrainingSpec, steps: int) -> None:
        super().__init__()
        self.spec = spec
        self.steps = steps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        spec, model = self.spec, self.model
        assert isinstance(model, PPO)
        done = min(1.0, model.num_timesteps / self.steps)
        rate = spec.learning_rate + (spec.final_learning_rate - spec.learning_rate) * done
        model.lr_schedule = lambda remaining: rate
        if spec.final_entropy is not None:
            start = float(spec.arguments.get("ent_coef", 0.0))
            left = max(0.0, 1.0 - 1.25 * done)
            model.ent_coef = spec.final_entropy + (start - spec.final_entropy) * left


def _load_seat(path: Path) -> Policy:
    notes = describe(path)
    spec = None if notes is None else described_training(path, notes)
    if notes is None or spec is None or spec.env_id != ENV_ID:
        raise HomeostasisError(f"{path} holds no trained seat of {ENV_ID}")
    return with_weights(path, empty_seat(spec), spec, notes)
