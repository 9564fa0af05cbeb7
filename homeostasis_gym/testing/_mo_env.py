"""A conformance check for environments with vector rewards, ours or anyone's."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
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
    said: list[Any] = []  # copies
    given_out: list[Any] = []  # the objects themselves

    def note(result: tuple[Any, ...]) -> None:
        said.append(copy.deepcopy(result))
        if scribble:
            _scribble(result)
        else:
            given_out.append(result)

    observation, info = _reset(env, seed)
    previous: tuple[Any, Any, Any] = (observation, None, info)
    note((observation, info))
    for t in range(steps):
        action = space.sample()
        given = copy.deepcopy(action)
        result = env.step(action)
        if not isinstance(result, tuple) or len(result) != 5:
            raise AssertionError(f"`step` must return five values, got {result!r}")
        if not _equal(given, action):
            raise AssertionError(f"`step` must not change the action it is given, at step {t}")
        observation, reward, terminated, truncated, info = result
        _check_step(env, t, dim, result)
        _check_fresh(f"step {t}", previous, (observation, reward, info))
        previous = (observation, reward, info)
        note(result)
        if terminated or truncated:
            observation, info = _reset(env, None)
            _check_fresh(f"the reset after step {t}", previous, (observation, None, info))
            previous = (observation, None, info)
            note((observation, info))
    for part, (before, after) in enumerate(zip(said, given_out, strict=False)):
        if not _equal(before, after):
            raise AssertionError(
                f"what the environment has said must not change later, but part {part} was {before!r} and "
                f"is {after!r}"
            )
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


def _check_fresh(when: str, before: tuple[Any, Any, Any], now: tuple[Any, Any, Any]) -> None:
    for name, old, new in zip(("observation", "reward", "info"), before, now, strict=True):
        kept = list(_mutable(old))
        if any(_shared(a, b) for b in _mutable(new) for a in kept):
            raise AssertionError(
                f"the {name} must be a fresh object at every step, but {when} reuses the last one's"
            )


def _mutable(value: Any) -> Iterator[Any]:
    """A value's arrays, dicts and lists, nested ones too."""
    if isinstance(value, (np.ndarray, dict, list)):
        yield value
    if isinstance(value, (dict, list, tuple)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _mutable(item)


def _shared(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.shares_memory(a, b)
    return a is b


def _scribble(result: tuple[Any, ...]) -> None:
    """Write into everything that the environment has given away."""
    for value in list(_mutable(result)):
        if isinstance(value, np.ndarray):
            if value.flags.writeable and value.dtype.kind in "fc":
                value += 1e6 if value.dtype.itemsize > 2 else 100
            elif value.flags.writeable and value.dtype.kind in "iub":
                np.invert(value, out=value)
        else:
            value.clear()


def _same(first: list[Any], second: list[Any], what: str) -> None:
    lengths = _lengths(first), _lengths(second)
    if lengths[0] != lengths[1]:
        raise AssertionError(
            f"{what} must repeat the first, but its episodes have other lengths: "
            f"{lengths[0]} and {lengths[1]}"
        )
    for t, (a, b) in enumerate(zip(first, second, strict=True)):
        if not _equal(a, b):
            raise AssertionError(
                f"{what} must repeat the first to the last bit, but part {t} differs: {a!r} and {b!r}"
            )


def _lengths(said: list[Any]) -> list[int]:
    """Steps of every episode; what a reset says has two parts, what a step says five."""
    lengths: list[int] = []
    for part in said:
        if len(part) == 2:
            lengths.append(0)
        else:
            lengths[-1] += 1
    return lengths


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc" and b.dtype.kind in "fc"))
    return bool(a == b) or bool(a != a and b != b)  # NaN repeats itself, too


def _numpy_state() -> Any:
    # The legacy generator is looked at, never drawn from.
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return name, tuple(keys), *rest
