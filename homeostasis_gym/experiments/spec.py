"""An experiment as plain data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym

from homeostasis_gym.agent import agent_names
from homeostasis_gym.core.benchmark import Benchmark, check_integer
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

__all__ = ["AgentSpec", "Experiment", "default_agents", "make_env"]


@dataclass(frozen=True)
class AgentSpec:
    """One agent of an experiment.

    Attributes:
        name: Name by which the agent is found, see `homeostasis_gym.agent.agent_factory`.
        episodes: Number of episodes that it plays.
        settings: Passed to the agent's factory; plain data.
    """

    name: str
    episodes: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_integer("episodes", self.episodes, 1)
        # Both are written to tables, folder names, records and reports as they are.
        for argument, text in (("name", self.name), *self.settings.items()):
            if isinstance(text, str) and re.search(r"://\S*@", text):
                raise HomeostasisError(
                    f"`{argument}` of an agent must hold no address with a user or a password, because it is "
                    "recorded; got one. For a language model, put the address into the environment variable "
                    "SERVICE_BASE_URL and leave `base_url` out"
                )


@dataclass(frozen=True)
class Experiment:
    """Which agents play which environment, with which seeds.

    Episode number k is played with seed ``seed + k`` by every agent, so that all meet the same noise.

    Attributes:
        env_id: Gymnasium id.
        env_kwargs: Arguments for `gymnasium.make`; plain data.
        agents: The agents, in the order of the table.
        seed: Seed of episode 0.
    """

    env_id: str
    agents: tuple[AgentSpec, ...]
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 1

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, 0)
        if not self.agents:
            raise HomeostasisError("`agents` must name at least one agent, got none")
        names = [agent.name for agent in self.agents]
        for name in names:
            if names.count(name) > 1:
                raise HomeostasisError(f"`agents` must name every agent once, got {name!r} twice")

    def to_dict(self) -> dict[str, Any]:
        """The experiment as data that JSON holds."""
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Experiment:
        """The experiment that `to_dict` described."""
        agents = tuple(AgentSpec(**agent) for agent in data["agents"])
        return cls(**{**data, "agents": agents})

    @property
    def digest(self) -> str:
        """Eight characters that differ between different experiments."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def make_env(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> gym.Env[Any, Any]:
    """`gymnasium.make` with errors that a user can read.

    Raises:
        UnknownNameError: No such environment.
        HomeostasisError: It does not take these arguments.
    """
    try:
        return gym.make(env_id, **(env_kwargs or {}))
    except (gym.error.Error, ModuleNotFoundError) as error:
        ours = ", ".join(i for i in gym.registry if i.startswith("Homeostasis-"))
        raise UnknownNameError(
            f"`env` must be a Gymnasium id (ours: {ours}), got {env_id!r}: {_first_line(error)}"
        ) from error
    except TypeError as error:
        raise HomeostasisError(
            f"`env_kwargs` {dict(env_kwargs or {})} do not fit {env_id}: {_first_line(error)}"
        ) from error


def published_kwargs(env_id: str, steps: int | None = None) -> dict[str, Any]:
    """Arguments that make an environment of ours the published benchmark, without upper limit.

    Args:
        env_id: Gymnasium id.
        steps: Length of an episode, where it is not the default.

    Returns:
        Arguments for `gymnasium.make`.
    """
    env = make_env(env_id)
    benchmark = getattr(env.unwrapped, "benchmark", None)
    env.close()
    if isinstance(benchmark, Benchmark):
        length = {} if steps is None else {"episode_length": steps}
        return {"max_consumption": None, **length}
    return {} if steps is None else {"max_episode_steps": steps}


def default_agents(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """Names of the agents that the comparison shows by default in an environment.

    For ours: the handwritten policies, the controls, PPO and the embedded language model.
    """
    benchmark = getattr(env.unwrapped, "benchmark", None)
    if not isinstance(benchmark, Benchmark):
        return ("random", "no-op")
    known = agent_names()
    rules = tuple(name if name in known else f"rule:{name}" for name in benchmark.policies)
    return (*rules, "random", "no-op", "maximiser", "ppo", "smollm2")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
