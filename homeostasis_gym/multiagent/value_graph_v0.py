"""ALICE and BOB as a PettingZoo environment: each corrects itself, when it is its turn.

``parallel_env()`` lets all choose at once and carries out the choice of the one whose turn it is;
``env()`` is the same turn by turn (AEC): every agent is asked once per step, in the order of the graph.
Both need PettingZoo and nothing else of ours but `homeostasis_gym.core`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from gymnasium.utils import seeding
from numpy.typing import NDArray
from pettingzoo import ParallelEnv  # type: ignore[import-untyped]
from pettingzoo.utils.conversions import parallel_to_aec_wrapper  # type: ignore[import-untyped]

from homeostasis_gym.agent import Task
from homeostasis_gym.core.benchmark import FORBIDDEN, OUT_OF_RANGE, as_units, out_of_range
from homeostasis_gym.core.noise import check_path
from homeostasis_gym.core.schedules import random as published_turns
from homeostasis_gym.core.utility import make_scalarization
from homeostasis_gym.core.value_graph.benchmark import ValueGraph, ValueGraphSeat
from homeostasis_gym.errors import HomeostasisError

__all__ = ["ValueGraphAEC", "ValueGraphParallel", "env", "parallel_env", "raw_env"]

Floats = NDArray[np.float64]


class ValueGraphParallel(ParallelEnv):  # type: ignore[misc]
    """The value graph with one decision maker per agent.

    ## Description
    Every agent holds the same values, which reinforce and oppose one another inside it and between the
    agents. In each step all agents choose a correction of their own values; only the choice of the one
    whose turn it is counts. Then all values act on each other.

    ## Observation Space
    `Box((3 * agents * values + 2,), float64)`, the agent itself first: levels, utilities, what the last
    interaction has added to each level, whose turn it is (0 its own, 1 the next agent's, ..., -1 nobody's),
    and how many steps have passed.

    ## Action Space
    `MultiDiscrete([units + 1] * values)`: units of correction towards the target for each of its own values.
    `units` of them make `max_step` and are the most in sum; more are forbidden, and the turn is wasted.

    ## Reward Space
    The agent's own utilities after the interaction, one per value, as float32 (MOMAland adds rewards up in
    that type, and compares); the observation has them in full.

    ## Starting State
    All levels 1 (0 with the homeostatic utilities), and it is nobody's turn in the first step.

    ## Dynamics and Noise
    See `homeostasis_gym.core.value_graph`. The noise is whose turn comes next.

    ## Episode End
    Truncation of all agents after `episode_length` steps; there is no termination.

    ## Info
    Per agent. `your_turn`: whether its next choice counts. After a step also `counted`: whether its choice
    counted in this step, `invalid_action`: whether it was forbidden, `noise`: whose turn comes next, (1,),
    and `vector_reward`, where `scalarization` is in use.

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `preset` | "reference" | settings to start from: `reference`, `article` or `circumplex` |
    | `schedule` | None | whose turn it is: `random` or a fixed schedule; None: the preset's |
    | `utility` | None | utility function; None: the preset's |
    | `rate` | None | interaction rate; None: the preset's |
    | `max_step` | None | greatest correction per step; None: the preset's |
    | `target` | None | lower and upper edge of the target band; None: the preset's |
    | `decay` | None | `none`, `constant` or `multiplicative`; None: the preset's |
    | `settings` | () | more numbers by name: `decay_rate`, `incentive:BOB:Power`, `schedule.share` ... |
    | `episode_length` | 1000 | steps until truncation |
    | `units` | 10 | units that make a whole correction |
    | `noise` | "gymnasium" | source of the turns: `gymnasium` or `bioblue` (the published stream) |
    | `scalarization` | None | name or mapping of a scalarisation; None: vector rewards |
    | `render_mode` | None | `ansi` |

    ## Version History
    * v0: Initial version (`value_graph_v0`).
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "value_graph_v0",
        "render_modes": ["ansi"],
        "is_parallelizable": True,
    }

    def __init__(
        self,
        *,
        preset: str = "reference",
        schedule: str | None = None,
        utility: str | None = None,
        rate: float | None = None,
        max_step: float | None = None,
        target: tuple[float, float] | None = None,
        decay: str | None = None,
        settings: Mapping[str, float] | tuple[tuple[str, float], ...] = (),
        episode_length: int = 1000,
        units: int = 10,
        noise: str = "gymnasium",
        scalarization: str | Mapping[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        if noise not in ("gymnasium", "bioblue"):
            raise HomeostasisError(f"`noise` must be one of gymnasium, bioblue, got {noise!r}")
        if render_mode not in (None, "ansi"):
            raise HomeostasisError(f"`render_mode` must be None or 'ansi', got {render_mode!r}")
        arguments: dict[str, Any] = {
            "preset": preset,
            "schedule": schedule,
            "utility": utility,
            "rate": rate,
            "max_step": max_step,
            "target": target,
            "decay": decay,
            "settings": settings,
            "episode_length": episode_length,
            "max_consumption": units,
        }
        self.benchmark = ValueGraph(**arguments)
        self.possible_agents = list(self.benchmark.agents)
        self.agents: list[str] = []
        #: What each agent sees of the graph, with the handwritten policies from its place.
        self.seats = {name: ValueGraphSeat(seat=name, **arguments) for name in self.possible_agents}
        self.observation_spaces: dict[str, Box] = {}
        self.action_spaces: dict[str, MultiDiscrete] = {}
        self.reward_spaces: dict[str, Box] = {}
        for name, seat in self.seats.items():
            low, high = (np.array(bound) for bound in seat.observation_bounds)
            self.observation_spaces[name] = Box(low, high, dtype=np.float64)
            low, high = (np.array(bound, dtype=np.float32) for bound in seat.reward_bounds)
            self.reward_spaces[name] = Box(low, high, dtype=np.float32)
            self.action_spaces[name] = MultiDiscrete([seat.units + 1] * seat.objectives)
        self._scalarize = (
            None if scalarization is None else make_scalarization(scalarization, seat.reward_dim)
        )
        self.noise = noise
        self.render_mode = render_mode
        self.np_random, _ = seeding.np_random()
        self._state = np.zeros((len(self.benchmark.initial_state), 1))
        self._path = np.zeros((episode_length, self.benchmark.noise_channels))
        self._step = 0
        #: Whether there has been a reset.
        self.begun = False

    def observation_space(self, agent: str) -> Box:
        """What `agent` observes; the same object every time."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> MultiDiscrete:
        """What `agent` can choose; the same object every time."""
        return self.action_spaces[agent]

    def reward_space(self, agent: str) -> Box:
        """Where `agent`'s vector rewards lie; the same object every time."""
        return self.reward_spaces[agent]

    def task(self, agent: str) -> Task:
        """What a decision maker may know of a seat; any agent of ours can be built for it."""
        return Task(
            env_id="value_graph_v0",
            observation_space=self.observation_space(agent),
            action_space=self.action_space(agent),
            reward_names=self.seats[agent].reward_names,
            benchmark=self.seats[agent],
            seat=agent,
        )

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Floats], dict[str, dict[str, Any]]]:
        """Start an episode.

        Args:
            seed: Starts the generator over; without it it goes on.
            options: ``{"noise": array}`` replays whose turn comes after each step, ``(steps, 1)``. What would
                have been drawn is drawn all the same, so that later episodes do not depend on it. Other
                options are ignored, as PettingZoo's tests expect.

        Raises:
            HomeostasisError: A path of the wrong shape.
        """
        if seed is not None:
            self.np_random, _ = seeding.np_random(seed)
        length, channels = self.benchmark.episode_length, self.benchmark.noise_channels
        key = self.np_random.integers(2**64, dtype=np.uint64)
        path = self.benchmark.noise_paths(np.array([key]))[:, :, 0]
        if self.noise == "bioblue" and channels:
            # The public code's stream for the seed; without a seed, for one that is drawn.
            number = int(key) >> 1 if seed is None else seed
            path = published_turns(number, length, len(self.possible_agents))[:, np.newaxis].astype(
                np.float64
            )
        scripted = (options or {}).get("noise")
        if scripted is not None:
            path = check_path(scripted, length, channels)
            if channels and not np.isin(path, np.arange(len(self.possible_agents))).all():
                raise HomeostasisError("`noise` must hold numbers of agents")
        self._path = path
        self._state = np.array(self.benchmark.initial_state)[:, np.newaxis].copy()
        self._step = 0
        self.begun = True
        self.agents = list(self.possible_agents)
        return self._observations(), {name: {"your_turn": self.turn == name} for name in self.agents}

    @property
    def turn(self) -> str | None:
        """Name of the agent whose next choice counts, None for nobody."""
        who = int(self._state[-2, 0])
        return None if who < 0 else self.possible_agents[who]

    def state(self) -> Floats:
        """The whole state, in the order of the graph. ``(state_dim,)``."""
        return self._state[:, 0].copy()

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[
        dict[str, Floats], dict[str, Any], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]
    ]:
        """Carry out the choice of the one whose turn it is, then let all values act on each other.

        Args:
            actions: Every agent's choice.

        Returns:
            Observations, vector rewards ``(values,)``, terminations, truncations and infos, per agent.

        Raises:
            HomeostasisError: No episode has begun, or a choice is missing, of nobody here or outside its
                action space. Nothing has changed then.
        """
        if not self.agents:
            if not self.begun:
                raise HomeostasisError("`step` was called while no episode is running; call `reset` first")
            return {}, {}, {}, {}, {}
        unknown = [str(name) for name in actions if name not in self.possible_agents]
        if unknown:
            raise HomeostasisError(
                f"`actions` must hold choices of {', '.join(self.possible_agents)}, got {', '.join(unknown)}"
            )
        turn = self.turn
        b = self.benchmark
        chosen: dict[str, NDArray[np.int64]] = {}
        for name in self.agents:
            if name not in actions:
                raise HomeostasisError(f"`actions` must hold a choice of {name}, got {sorted(actions)}")
            units = np.ascontiguousarray(as_units(actions[name])).reshape(1, -1)
            if units.shape[1] != b.objectives:
                raise HomeostasisError(
                    f"`actions` of {name} must have shape ({b.objectives},), got ({units.shape[1]},)"
                )
            if not self.action_space(name).contains(units[0]):
                raise out_of_range(units, np.full(1, OUT_OF_RANGE, dtype=np.uint8), b.action_limit)
            chosen[name] = units
        counted = np.zeros((1, b.objectives), dtype=np.int64) if turn is None else chosen[turn].copy()
        noise = self._path[self._step][:, np.newaxis].copy()
        reward = np.empty((b.reward_dim, 1))
        flags = np.zeros(1, dtype=np.uint8)
        b.advance(self._state, counted, noise, reward, flags)
        self._step += 1
        over = self._step >= b.episode_length
        names = list(self.agents)
        rewards: dict[str, Any] = {}
        infos: dict[str, dict[str, Any]] = {}
        for name, own in zip(names, reward[:, 0].reshape(len(names), -1), strict=True):
            rewards[name] = own.astype(np.float32)
            infos[name] = {
                "your_turn": self.turn == name and not over,
                "counted": turn == name and not flags[0] & FORBIDDEN,
                "invalid_action": int(chosen[name].sum()) > b.units,
                "noise": noise[:, 0].copy(),
            }
            if self._scalarize is not None:
                infos[name]["vector_reward"] = rewards[name]
                rewards[name] = float(self._scalarize(own))
        observations = self._observations()
        if over:
            self.agents = []
        return observations, rewards, dict.fromkeys(names, False), dict.fromkeys(names, over), infos

    def render(self) -> str | None:
        """The levels as text, in ``ansi`` mode."""
        if self.render_mode is None:
            return None
        levels = self.benchmark.split(self._state[:, 0])[0]
        lines = [f"step {self._step}, turn: {self.turn or 'nobody'}"]
        for name, row in zip(self.possible_agents, levels, strict=True):
            pairs = zip(self.benchmark.objective_names, row, strict=True)
            lines.append(f"{name}: " + ", ".join(f"{value} {level:.3f}" for value, level in pairs))
        return "\n".join(lines)

    def close(self) -> None:
        """Nothing to close."""

    def no_reward(self) -> Any:
        """A reward of zero, in the form in which rewards come."""
        return 0.0 if self._scalarize is not None else np.zeros(self.benchmark.objectives, dtype=np.float32)

    def _observations(self) -> dict[str, Floats]:
        return {name: self.seats[name].seen(self._state[:, 0]) for name in self.agents}


def parallel_env(**arguments: Any) -> ValueGraphParallel:
    """The environment in which all choose at once; arguments as for `ValueGraphParallel`."""
    return ValueGraphParallel(**arguments)


class ValueGraphAEC(parallel_to_aec_wrapper):  # type: ignore[misc]
    """`ValueGraphParallel` turn by turn: a step is carried out when the last agent has chosen.

    PettingZoo's conversion, except that rewards that have not come yet are vectors of zeros and that
    there is a `reward_space`.

    Args:
        **arguments: As for `ValueGraphParallel`.
    """

    env: ValueGraphParallel
    rewards: dict[str, Any]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(ValueGraphParallel(**arguments))

    @property
    def reward_spaces(self) -> dict[str, Box]:
        """Where every agent's vector rewards lie."""
        return self.env.reward_spaces

    def reward_space(self, agent: str) -> Box:
        """Where `agent`'s vector rewards lie; the same object every time."""
        return self.env.reward_space(agent)

    def task(self, agent: str) -> Task:
        """See `ValueGraphParallel.task`."""
        return self.env.task(agent)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """See `ValueGraphParallel.reset`."""
        super().reset(seed=seed, options=options)
        self._clear_rewards()
        self._cumulative_rewards = {name: self.env.no_reward() for name in self.agents}

    def last(self, observe: bool = True) -> tuple[Floats | None, Any, bool, bool, dict[str, Any]]:
        """What the agent whose turn it is to choose sees, and what it has got since its last choice.

        Raises:
            HomeostasisError: No episode has begun.
        """
        self._check_begun("last")
        found: tuple[Floats | None, Any, bool, bool, dict[str, Any]] = super().last(observe)
        return found

    def step(self, action: Any) -> None:
        """Take the choice of the agent that is asked; the last one carries out the step.

        Raises:
            HomeostasisError: No episode has begun, or the choice is outside the action space.
        """
        self._check_begun("step")
        super().step(action)

    def _check_begun(self, what: str) -> None:
        if not self.env.begun:
            raise HomeostasisError(f"`{what}` was called while no episode is running; call `reset` first")

    def _clear_rewards(self) -> None:
        self.rewards = {name: self.env.no_reward() for name in self.rewards}


def env(**arguments: Any) -> ValueGraphAEC:
    """The environment turn by turn (AEC); arguments as for `ValueGraphParallel`."""
    return ValueGraphAEC(**arguments)


raw_env = env
