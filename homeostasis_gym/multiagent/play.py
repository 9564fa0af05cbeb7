"""The loop that steps a multi-agent environment with one decision maker per seat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.agent import Agent, Decision, make_agent, no_op
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.multiagent.value_graph_v0 import ValueGraphParallel

__all__ = ["Play", "play"]


@dataclass(frozen=True)
class Play:
    """What one seat saw and did in an episode.

    Attributes:
        observations: ``(steps + 1, observation_dim)``; the first is that of the reset.
        actions: What was carried out or offered. ``(steps, values)``, int64.
        rewards: Vector rewards, or numbers under a scalarisation. ``(steps, values)`` or ``(steps,)``.
        counted: Whether the choice counted. ``(steps,)``.
        valid: Whether there was a valid decision; where not, nothing was done. ``(steps,)``.
        decisions: Every decision, with the exchanges that led to it.
    """

    observations: NDArray[np.float64]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    counted: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    decisions: tuple[Decision, ...]


def play(
    env: ValueGraphParallel,
    agents: Mapping[str, Agent | str],
    seed: int,
    options: dict[str, Any] | None = None,
) -> dict[str, Play]:
    """Play one episode; every seat may be taken by another kind of agent.

    Args:
        env: The environment.
        agents: Who sits where: an agent, or the name of one (see `homeostasis_gym.agent.agent_factory`).
        seed: Seeds the environment, and every agent with a number of its own that follows from it.
        options: For the environment's reset.

    Returns:
        One record per seat; shorter than an episode where an agent ended it (`Decision.end`).

    Raises:
        HomeostasisError: A seat is not taken, or somebody sits where no seat is.
    """
    names = env.possible_agents
    if set(agents) != set(names):
        raise HomeostasisError(f"`agents` must name {', '.join(names)}, got {', '.join(agents) or 'nobody'}")
    seated: dict[str, Agent] = {}
    for place, name in enumerate(names):
        given = agents[name]
        seated[name] = make_agent(given, env.task(name)) if isinstance(given, str) else given
        seated[name].reset(int(np.random.SeedSequence([seed, place]).generate_state(1)[0]))
    observations, infos = env.reset(seed=seed, options=options)
    kept: dict[str, dict[str, list[Any]]] = {
        name: {
            "observations": [observations[name]],
            "actions": [],
            "rewards": [],
            "counted": [],
            "valid": [],
            "decisions": [],
        }
        for name in names
    }
    ended = False
    while env.agents and not ended:
        actions: dict[str, Any] = {}
        for name in names:
            decision = seated[name].act(observations[name], infos[name])
            actions[name] = decision.action if decision.valid else no_op(env.action_space(name))
            ended = ended or decision.end
            kept[name]["decisions"].append(decision)
            kept[name]["valid"].append(decision.valid)
            kept[name]["actions"].append(np.array(actions[name], dtype=np.int64))
        observations, rewards, _, _, infos = env.step(actions)
        for name in names:
            infos[name]["last_reward"] = infos[name].get("vector_reward", rewards[name])
            kept[name]["observations"].append(observations[name])
            kept[name]["rewards"].append(rewards[name])
            kept[name]["counted"].append(infos[name]["counted"])
    return {
        name: Play(
            observations=np.array(rows["observations"]),
            actions=np.array(rows["actions"]),
            rewards=np.array(rows["rewards"]),
            counted=np.array(rows["counted"]),
            valid=np.array(rows["valid"]),
            decisions=tuple(rows["decisions"]),
        )
        for name, rows in kept.items()
    }
