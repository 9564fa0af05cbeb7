"""What the scalar and the vector wrappers share."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Space, Text
from gymnasium.vector import VectorWrapper
from numpy.typing import DTypeLike, NDArray

from homeostasis_gym.core.benchmark import Benchmark, check_integer
from homeostasis_gym.core.utility import DriveReduction, Scalarization, make_utility
from homeostasis_gym.envs._actions import ActionCodec
from homeostasis_gym.envs.base import spaces
from homeostasis_gym.errors import HomeostasisError

TEXT_SPACE = Text(max_length=10_000, min_length=1, charset=string.printable)


def benchmark_of(env: Any, wrapper: str) -> Benchmark:
    """The benchmark behind an environment.

    Raises:
        HomeostasisError: It has none.
    """
    benchmark = getattr(env.unwrapped, "benchmark", None)
    if not isinstance(benchmark, Benchmark):
        raise HomeostasisError(
            f"`env` of {wrapper} must be an environment of homeostasis-gym, got {env.unwrapped!r}"
        )
    return benchmark


def observed_benchmark(env: Any, wrapper: str) -> Benchmark:
    """The benchmark behind an environment whose observations are still the benchmark's own.

    Raises:
        HomeostasisError: There is no benchmark, or another wrapper has changed the observations.
    """
    benchmark = benchmark_of(env, wrapper)
    own, space = spaces(benchmark)[0], _single(env, "observation_space")
    if space != own:
        raise HomeostasisError(
            f"`env` of {wrapper} must show the environment's own observations, {own}, but another wrapper "
            f"has made them {space}; put {wrapper} inside of it"
        )
    return benchmark


def check_vector(reward: Any, shape: tuple[int, ...]) -> None:
    """Refuse a reward that is no vector any more.

    Raises:
        HomeostasisError: It has another shape.
    """
    if np.shape(reward) != shape:
        raise HomeostasisError(
            f"`env` of Scalarized must give rewards of shape {shape}, but a wrapper inside of it gives "
            f"{np.shape(reward)}"
        )


def _single(env: Any, name: str) -> Any:
    """A space of one lane, of a scalar or a vector environment."""
    return getattr(env, f"single_{name}" if hasattr(env, "num_envs") else name)


def utility_of(env: Any, reward_space: Any, spec: str | Mapping[str, Any]) -> Scalarization | DriveReduction:
    """A scalarisation that fits an environment, ours or another one with a vector reward.

    Raises:
        HomeostasisError: The environment has no vector reward, or the scalarisation does not fit.
    """
    if reward_space is None or len(reward_space.shape) != 1:
        raise HomeostasisError(
            f"`env` of Scalarized must have a vector reward and say so in `reward_space`, "
            f"got {env.unwrapped!r}"
        )
    if getattr(env.unwrapped, "scalarization", None) is not None:
        raise HomeostasisError(
            "`env` of Scalarized must have a vector reward, but it is made with "
            f"scalarization={env.unwrapped.scalarization!r}"
        )
    layer = env
    while isinstance(layer, (gym.Wrapper, VectorWrapper)):
        if getattr(layer, "scalarizes", False):
            raise HomeostasisError(
                f"`env` of Scalarized must have a vector reward, but {layer!r} has already made it a number"
            )
        layer = layer.env
    return make_utility(spec, reward_space.shape[0], getattr(env.unwrapped, "benchmark", None))


def codec_of(env: Any, inner: Space[Any], wrapper: str, mode: str, most: int | None) -> ActionCodec:
    """The codec between another form of action and the counts that an environment takes.

    Args:
        env: The environment, scalar or vector.
        inner: Its (single) action space.
        wrapper: For the message.
        mode: ``discrete`` or ``box``.
        most: Most units of one objective; None keeps the environment's own limit.

    Raises:
        HomeostasisError: The environment does not take counts, or there is no limit.
    """
    benchmark = benchmark_of(env, wrapper)
    own = ActionCodec(benchmark, None).space
    if inner != own:
        raise HomeostasisError(f"`env` of {wrapper} must take one count per objective, {own}, got {inner}")
    limit = benchmark.max_consumption
    if most is None:
        if limit is None:
            raise HomeostasisError(
                f"`most` of {wrapper} must be given where the environment has no upper limit"
            )
        most = limit
    check_integer("most", most, 1)
    if limit is not None and most > limit:
        raise HomeostasisError(f"`most` must be at most the environment's limit {limit}, got {most}")
    return ActionCodec(replace(benchmark, max_consumption=most), mode)


def normalized_space(benchmark: Benchmark, dtype: DTypeLike) -> Box:
    """The space of normalised observations.

    Raises:
        HomeostasisError: The type is no floating type.
    """
    low, high = benchmark.normalized_bounds
    try:
        scalar = np.dtype(dtype).type
    except TypeError:
        scalar = np.void
    if not issubclass(scalar, np.floating):
        raise HomeostasisError(f"`dtype` must be a floating type such as 'float32', got {dtype!r}")
    return Box(np.asarray(low, dtype=scalar), np.asarray(high, dtype=scalar), dtype=scalar)


def describe(
    benchmark: Benchmark,
    observation: NDArray[np.float64],
    reward: NDArray[np.float64] | None,
    reward_names: tuple[str, ...],
) -> str:
    """An observation in words: a line per component, with its band where there is one, then the last reward.

    Args:
        benchmark: Names the components.
        observation: Shape (observation_dim,).
        reward: The vector reward of the step before, shape (reward_dim,); None at the start.
        reward_names: Name of each component of the reward.
    """
    bands = benchmark.bands(observation) if benchmark.fully_observed else None
    lines = []
    for i, name in enumerate(benchmark.observation_names):
        line = f"{_words(name)}: {float(observation[i]):.12g}"
        if bands is not None and i < len(bands[0]):
            line += f" (should stay between {float(bands[0][i]):g} and {float(bands[1][i]):g})"
        lines.append(line)
    if reward is not None:
        lines.append("last rewards:")
        lines += [f"  {_words(n)}: {float(r):.12g}" for n, r in zip(reward_names, reward, strict=True)]
    return "\n".join(lines)


def _words(name: str) -> str:
    return name.replace("_", " ")
