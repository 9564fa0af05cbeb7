"""ALICE and BOB as learners: shared parameters, independent learners, self-play against a frozen other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from homeostasis_agents.sb3.policy import (
    Policy,
    PolicyAgent,
    describe,
    described_training,
    save_policy,
    units_of,
    with_weights,
)
from homeostasis_agents.sb3.seats_vec_env import (
    Chooser,
    SeatsVecEnv,
    parameters_of,
    seat_actions,
    seat_space,
    seats_of,
)
from homeostasis_agents.sb3.spec import TrainingSpec
from homeostasis_agents.sb3.training import policy_kwargs, quiet_torch
from homeostasis_gym.agent import Task
from homeostasis_gym.core.benchmark import simulate
from homeostasis_gym.core.value_graph import ValueGraph, ValueGraphSeat
from homeostasis_gym.errors import HomeostasisError

__all__ = [
    "MODES",
    "SETTINGS",
    "Seats",
    "collapsed_agents",
    "count_collapsed",
    "empty_seat",
    "load_seats",
    "seat_agent",
    "seats_policy",
    "train_seats",
]

MODES = ("shared", "independent", "self-play")
ENV_ID = "value_graph_v0"

# An episode is no longer than this in a training: once an agent has collapsed, nothing more is to be learned.
_LENGTH = 250

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
    space = seat_space(seats_of(benchmark)[benchmark.agents[0]])
    with quiet_torch():  # the fresh weights are drawn from the global generator
        return ActorCriticPolicy(space, seat_actions(benchmark), lambda remaining: 0.0, **policy_kwargs(spec))


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
            "env_kwargs": parameters_of(benchmark),
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
