"""The only loop that steps an environment with an agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.agent import Agent, Attempt, no_op
from homeostasis_gym.core.benchmark import Benchmark, benchmark_to_dict
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.trajectory import Header, Trajectory

__all__ = ["rollout"]


def rollout(
    env: gym.Env[Any, Any],
    agent: Agent,
    *,
    seed: int,
    agent_name: str = "",
    episode: int = 0,
    noise: ArrayLike | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    agent_settings: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    max_steps: int = 10_000,
    progress: Callable[[int], None] | None = None,
) -> Trajectory:
    """Let an agent play one episode and record it.

    Args:
        env: A Gymnasium environment with a vector reward (a scalar one counts as one component).
        agent: The agent; its `reset` gets the seed, so that an episode depends on nothing before it.
        seed: Seed of the environment's noise and of the agent.
        agent_name: Name for the record; by default the agent's class.
        episode: Number for the record.
        noise: Noise path to replay, where the environment takes one.
        env_kwargs: For the record: how the environment was made.
        agent_settings: For the record.
        extra: For the record.
        max_steps: An episode that has not ended by itself ends here, as truncated.
        progress: Called with the number of steps done after each.

    Returns:
        The trajectory. A step without a valid decision holds the executed action of zeros and is marked. An
        episode that the agent ends (`Decision.end`) stops behind that step.

    Raises:
        HomeostasisError: The agent decided on something that is no action, or the environment reports
            observations that are no arrays of numbers.
    """
    agent.reset(seed)
    options = None if noise is None else {"noise": noise}
    observation, info = env.reset(seed=seed, options=options)
    inner = env.unwrapped
    space: gym.Space[Any] = env.action_space
    nothing = no_op(space)
    observations, states = [_vector(observation)], [_vector(info.get("state", observation))]
    actions: list[NDArray[Any]] = []
    rewards: list[NDArray[np.float64]] = []
    noises: list[NDArray[np.float64]] = []
    valid: list[bool] = []
    forbidden: list[bool] = []
    seconds: list[float] = []
    attempts: list[tuple[Attempt, ...]] = []
    terminated = truncated = ended = False
    while not (terminated or truncated or ended) and len(actions) < max_steps:
        started = time.perf_counter()
        decision = agent.act(observation, info)
        seconds.append(time.perf_counter() - started)
        action = nothing if decision.action is None else decision.action
        if not space.contains(action):
            raise HomeostasisError(f"`Decision.action` must be in {space}, got {action!r} from {agent!r}")
        observation, reward, terminated, truncated, step_info = env.step(action)
        vector = np.atleast_1d(np.array(step_info.get("vector_reward", reward), dtype=np.float64))
        # The agent sees what the environment says, and the last reward: the published protocol.
        info = {**step_info, "last_reward": vector.copy()}
        observations.append(_vector(observation))
        states.append(_vector(step_info.get("state", observation)))
        actions.append(_units(inner, action))
        rewards.append(vector)
        noises.append(np.array(step_info.get("noise", ()), dtype=np.float64))
        valid.append(decision.valid)
        forbidden.append(bool(step_info.get("invalid_action", False)))
        attempts.append(tuple(decision.attempts))
        ended = decision.end
        if progress is not None:
            progress(len(actions))
    benchmark = getattr(inner, "benchmark", None)
    if not isinstance(benchmark, Benchmark):
        benchmark = None
    return Trajectory(
        header=Header(
            env_id=env.spec.id if env.spec is not None else type(inner).__name__,
            agent=agent_name or type(agent).__name__,
            seed=seed,
            episode=episode,
            env_kwargs=dict(env_kwargs or {}),
            agent_settings=dict(agent_settings or {}),
            benchmark={} if benchmark is None else benchmark_to_dict(benchmark),
            objective_names=() if benchmark is None else benchmark.objective_names,
            reward_names=tuple(getattr(inner, "reward_names", ())),
            extra=dict(extra or {}),
        ),
        observations=np.stack(observations),
        states=np.stack(states),
        actions=np.stack(actions),
        rewards=np.stack(rewards),
        noise=np.stack(noises),
        valid=np.array(valid),
        forbidden=np.array(forbidden),
        seconds=np.array(seconds),
        attempts=tuple(attempts),
        terminated=bool(terminated),
        ended_by_agent=ended and not (terminated or truncated),
    )


def _vector(values: Any) -> NDArray[np.float64]:
    try:
        return np.array(values, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise HomeostasisError(
            f"`observation` must be an array of numbers to be recorded, got {type(values).__name__}"
        ) from error


def _units(env: Any, action: Any) -> NDArray[Any]:
    """The action as counts per objective, whatever form the action space has."""
    decode = getattr(env, "units", None)
    return np.array(action if decode is None else decode(action)).reshape(-1)
