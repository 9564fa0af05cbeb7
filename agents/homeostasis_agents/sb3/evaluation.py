"""Plays a trained policy on many noise paths at once, and scores it with the package's instruments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from homeostasis_agents.sb3.policy import Policy, policy_of, units_of
from homeostasis_agents.sb3.spec import TrainingSpec
from homeostasis_agents.sb3.training import make_vec_env
from homeostasis_agents.sb3.vec_env import normalizer
from homeostasis_gym.collapse import EpisodeScore, score
from homeostasis_gym.core.benchmark import FORBIDDEN, Benchmark, Episodes, benchmark_to_dict, simulate
from homeostasis_gym.core.utility import DriveReduction, make_utility
from homeostasis_gym.trajectory import Header, Trajectory

__all__ = ["BestPolicy", "Quality", "play", "quality", "training_return", "trajectories_of", "unseen_noise"]


def unseen_noise(benchmark: Benchmark, episodes: int, seed: int = 0) -> NDArray[np.float64]:
    """Noise paths from a stream that no training draws from.

    Args:
        benchmark: The dynamics.
        episodes: Number of paths.
        seed: Number of the set of paths.

    Returns:
        Shape (episodes, steps, channels), float64.
    """
    generator = np.random.default_rng([0x5EED, seed])
    keys = generator.integers(2**64, size=episodes, dtype=np.uint64)
    return np.ascontiguousarray(benchmark.noise_paths(keys).transpose(2, 0, 1))


def play(
    policy: Policy, benchmark: Benchmark, noise: NDArray[np.float64], *, agent: str = "sb3", env_id: str = ""
) -> list[Trajectory]:
    """Play one episode per noise path, all at once, always with the most probable action.

    Args:
        policy: The trained policy.
        benchmark: The dynamics to play in; they may differ from those of the training.
        noise: Shape (episodes, steps, channels).
        agent: Name for the records.
        env_id: Environment for the records.
    """
    see = normalizer(benchmark) if policy.normalized else np.ascontiguousarray
    units = units_of(policy.action_space, benchmark.objectives)
    network: BasePolicy = policy.network
    memory: Any = None

    def act(states: NDArray[np.float64], step: int) -> NDArray[np.int64]:
        nonlocal memory
        seen = see(benchmark.observe(np.ascontiguousarray(states.T)).T)
        starts = np.full(len(states), step == 0)
        with torch.no_grad():
            action, memory = network.predict(seen, state=memory, episode_start=starts, deterministic=True)
        chosen: NDArray[np.int64] = units(action)
        return chosen

    return trajectories_of(benchmark, simulate(benchmark, act, noise), noise, agent=agent, env_id=env_id)


def trajectories_of(
    benchmark: Benchmark,
    episodes: Episodes,
    noise: NDArray[np.float64],
    *,
    agent: str,
    env_id: str = "",
) -> list[Trajectory]:
    """Simulated episodes as trajectories, for the package's instruments.

    Args:
        benchmark: The dynamics that were simulated.
        episodes: What `simulate` gave.
        noise: The noise that it was given: shape (episodes, steps, channels).
        agent: Name for the records.
        env_id: Environment for the records.
    """
    trajectories = []
    for k, length in enumerate(episodes.lengths.tolist()):
        header = Header(
            env_id=env_id or benchmark.name,
            agent=agent,
            episode=k,
            benchmark=benchmark_to_dict(benchmark),
            objective_names=benchmark.objective_names,
            reward_names=benchmark.reward_names,
            source="simulation",
        )
        trajectories.append(
            Trajectory(
                header=header,
                observations=episodes.observations[k, : length + 1],
                states=episodes.states[k, : length + 1],
                actions=episodes.actions[k, :length],
                rewards=episodes.rewards[k, :length],
                noise=noise[k, :length],
                valid=np.ones(length, dtype=bool),
                forbidden=(episodes.flags[k, :length] & FORBIDDEN) != 0,
                seconds=np.full(length, np.nan),
                terminated=length < noise.shape[1],
            )
        )
    return trajectories


def training_return(trajectories: Sequence[Trajectory], spec: TrainingSpec, benchmark: Benchmark) -> float:
    """Mean scalarised return of episodes in a training's own environment.

    The components count in full and the reward has no factor: where a training has a ``component_limit`` and
    a ``component_leak``, it maximises the return of cut components instead; its ``reward_scale`` alone
    changes no order.

    Args:
        trajectories: The episodes.
        spec: The training.
        benchmark: The dynamics that the episodes were played in.
    """
    utility = make_utility(spec.scalarization, benchmark.reward_dim, benchmark)
    if isinstance(utility, DriveReduction):
        sums = [float(utility(t.states[:-1], t.states[1:]).sum()) for t in trajectories]
    else:
        sums = [float(utility(t.rewards).sum()) for t in trajectories]
    return float(np.mean(sums))


class BestPolicy:
    """Keeps the weights of the segment after which the policy played best on fixed noise paths.

    Best is measured by `training_return`, the scalarised return without the cut of components and without
    the factor on the reward, on paths that the training never meets. It is passed to `train` as
    ``on_segment``.

    Args:
        spec: The training.
        episodes: Number of noise paths.
    """

    def __init__(self, spec: TrainingSpec, episodes: int = 100) -> None:
        self.spec = spec
        self.benchmark = make_vec_env(spec, 1).env.benchmark
        self.noise = unseen_noise(self.benchmark, episodes)
        self.best = -np.inf
        self.steps = 0
        self._weights: dict[str, torch.Tensor] = {}

    def __call__(self, model: BaseAlgorithm, steps: int) -> None:
        """Play, and keep the weights if none were better."""
        played = play(policy_of(model, self.spec), self.benchmark, self.noise)
        found = training_return(played, self.spec, self.benchmark)
        if found >= self.best:
            self.best, self.steps = found, steps
            self._weights = {k: v.detach().clone() for k, v in model.policy.state_dict().items()}

    def put_into(self, model: BaseAlgorithm) -> None:
        """Give the algorithm the best policy's weights."""
        model.policy.load_state_dict(self._weights)


@dataclass(frozen=True)
class Quality:
    """How well a policy plays, over one episode per noise path.

    Attributes:
        score: Mean sum of all rewards.
        regret: Mean regret against the reference policy on the same noise.
        median_regret: Its median.
        flip_rate: Share of the episodes that flipped.
        runaway_index: Mean Runaway Index.
        onset: Median onset among the flips, None without any.
        forbidden: Mean number of steps that the rules made a wasted turn.
    """

    score: float
    regret: float
    median_regret: float
    flip_rate: float
    runaway_index: float
    onset: float | None
    forbidden: float


def quality(trajectories: Sequence[Trajectory]) -> Quality:
    """Score episodes and summarise them; what is unscored stays out, and NaN stands for nothing scored."""
    scored: list[EpisodeScore] = score(trajectories)

    def known(name: str) -> NDArray[np.float64]:
        values = [getattr(one, name) for one in scored]
        return np.array([v for v in values if v is not None] or [np.nan], dtype=np.float64)

    onsets = [one.onset for one in scored if one.onset is not None]
    return Quality(
        score=float(known("score").mean()),
        regret=float(known("regret").mean()),
        median_regret=float(np.median(known("regret"))),
        flip_rate=float(known("flip").mean()),
        runaway_index=float(known("runaway_index").mean()),
        onset=float(np.median(onsets)) if onsets else None,
        forbidden=float(known("forbidden_steps").mean()),
    )
