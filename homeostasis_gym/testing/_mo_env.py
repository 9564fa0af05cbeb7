"""A conformance check for environments with vector rewards, ours or anyone's."""

from __future__ import annotations

import copy
import random
from typing import Any

import gymnasium as gym
import numpy as np

# Everything that is wrong with an environment is one kind of error, as in Gymnasium's own checks.
# ruff: noqa: TRY004

__all__ = ["check_mo_env"]


def check_mo_env(env: gym.Env[Any, Any], steps: int = 150, seed: int = 0) -> None:
    """Check that an environment with a vector reward behaves as its users rely on.

    Whole trajectories are compared, not only first observations: an environment that turns random at its
    second step is found out. What Gymnasium's own ``check_env`` looks at (spaces, signatures) is looked at
    only so far as the vector reward makes it fail there.

    Args:
        env: The environment; it is reset many times.
        steps: Steps per trajectory; episodes that end earlier are followed by further ones.
        seed: Seed of the environment and of the actions.

    Raises:
        AssertionError: The first rule that is broken, in words, with the value found.
    """
    dim = _check_reward_space(env)
    first = _trajectory(env, steps, seed, dim)
    _same(first, _trajectory(env, steps, seed, dim), "a second trajectory with the same seed and actions")
    _same(
        first,
        _trajectory(env, steps, seed, dim, scribble=True),
        "a trajectory in which the caller writes into the arrays it was given",
    )


def _check_reward_space(env: gym.Env[Any, Any]) -> int:
    inner: Any = env.unwrapped
    space = getattr(inner, "reward_space", None)
    if not isinstance(space, gym.spaces.Box):
        raise AssertionError(f"`env.unwrapped.reward_space` must be a Box, got {space!r}")
    if len(space.shape) != 1:
        raise AssertionError(f"`env.unwrapped.reward_space` must have one dimension, got shape {space.shape}")
    dim = int(space.shape[0])
    if getattr(inner, "reward_dim", dim) != dim:
        raise AssertionError(
            f"`env.unwrapped.reward_dim` must equal the reward space's {dim}, got {inner.reward_dim!r}"
        )
    names = getattr(inner, "reward_names", None)
    if names is not None and (len(names) != dim or len(set(names)) != dim):
        raise AssertionError(f"`env.unwrapped.reward_names` must be {dim} different names, got {names!r}")
    return dim


def _trajectory(env: gym.Env[Any, Any], steps: int, seed: int, dim: int, scribble: bool = False) -> list[Any]:
    """Play and check one trajectory; returns copies of all that the environment said."""
    space = env.action_space
    space.seed(seed)
    globals_before = random.getstate(), _numpy_state()
    said: list[Any] = []
    observation, info = _reset(env, seed)
    said.append(copy.deepcopy((observation, info)))
    previous: tuple[Any, Any, Any] = (observation, None, info)
    for t in range(steps):
        action = space.sample()
        given = copy.deepcopy(action)
        result = env.step(action)
        if not isinstance(result, tuple) or len(result) != 5:
            raise AssertionError(f"`step` must return five values, got {result!r}")
        if not np.array_equal(given, action):
            raise AssertionError(f"`step` must not change the action it is given, at step {t}")
        observation, reward, terminated, truncated, info = result
        _check_step(env, t, dim, result)
        _check_fresh(t, previous, (observation, reward, info))
        said.append(copy.deepcopy(result))
        previous = (observation, reward, info)
        if scribble:
            for value in (observation, reward, *info.values()):
                if isinstance(value, np.ndarray) and value.flags.writeable and value.dtype.kind == "f":
                    value += 1e6
            info.clear()
        if terminated or truncated:
            observation, info = _reset(env, None)
            said.append(copy.deepcopy((observation, info)))
            previous = (observation, None, info)
    if (random.getstate(), _numpy_state()) != globals_before:
        raise AssertionError(
            "the environment must draw from `self.np_random` only, but a global random state has changed"
        )
    return said


def _reset(env: gym.Env[Any, Any], seed: int | None) -> tuple[Any, dict[str, Any]]:
    result: Any = env.reset(seed=seed)
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
        raise AssertionError(f"`reset` must return an observation and a dict, got {result!r}")
    if not env.observation_space.contains(result[0]):
        raise AssertionError(
            f"`reset` must return an observation in {env.observation_space}, got {result[0]!r}"
        )
    return result


def _check_step(env: gym.Env[Any, Any], t: int, dim: int, result: Any) -> None:
    observation, reward, terminated, truncated, info = result
    if not env.observation_space.contains(observation):
        raise AssertionError(
            f"the observation must be in {env.observation_space}, got {observation!r} at step {t}"
        )
    if not isinstance(reward, np.ndarray) or reward.dtype.kind != "f" or reward.shape != (dim,):
        raise AssertionError(
            f"the reward must be a float array of shape ({dim},), got {reward!r} at step {t}"
        )
    if not np.isfinite(reward).all():
        raise AssertionError(f"the reward must be finite, got {reward!r} at step {t}")
    inner: Any = env.unwrapped
    space = inner.reward_space
    if not ((reward >= space.low) & (reward <= space.high)).all():
        raise AssertionError(f"the reward must be in {space}, got {reward!r} at step {t}")
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, (bool, np.bool_)):
            raise AssertionError(f"`{name}` must be a bool, got {flag!r} at step {t}")
    if not isinstance(info, dict):
        raise AssertionError(f"`info` must be a dict, got {info!r} at step {t}")


def _check_fresh(t: int, before: tuple[Any, Any, Any], now: tuple[Any, Any, Any]) -> None:
    for name, old, new in zip(("observation", "reward", "info"), before, now, strict=True):
        shared = old is new if isinstance(new, dict) else _overlap(old, new)
        if shared:
            raise AssertionError(
                f"the {name} must be a fresh object at every step, but step {t} reuses the last one's"
            )


def _overlap(old: Any, new: Any) -> bool:
    return isinstance(old, np.ndarray) and isinstance(new, np.ndarray) and np.may_share_memory(old, new)


def _same(first: list[Any], second: list[Any], what: str) -> None:
    for t, (a, b) in enumerate(zip(first, second, strict=False)):
        if not _equal(a, b):
            raise AssertionError(
                f"{what} must repeat the first to the last bit, but part {t} differs: {a!r} and {b!r}"
            )
    if len(first) != len(second):
        raise AssertionError(f"{what} must repeat the first, but its episodes have other lengths")


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    return bool(a == b)


def _numpy_state() -> Any:
    # The legacy generator is looked at, never drawn from.
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return name, tuple(keys), *rest
