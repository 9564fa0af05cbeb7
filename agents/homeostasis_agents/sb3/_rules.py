"""What the settings of a training may be; checked before anything is built from them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from homeostasis_gym.errors import HomeostasisError

if TYPE_CHECKING:
    from homeostasis_agents.sb3.spec import TrainingSpec

__all__ = ["TAKEN", "check"]

Rule: TypeAlias = tuple[str, Callable[[Any], bool]]
"""In words, and as a test."""

ACTIONS = ("multidiscrete", "discrete", "box")
# Algorithms that choose from one kind of action space only.
_ONLY = {"DQN": "discrete", "SAC": "box"}
# Algorithms that are paid for entropy by a coefficient which a training can let fall.
_ENTROPY = ("PPO", "A2C", "RecurrentPPO")


def _finite(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def _at_least(low: float) -> Rule:
    return f"a finite number of at least {low:g}", lambda value: _finite(value) and value >= low


def _above(low: float) -> Rule:
    return f"a finite number above {low:g}", lambda value: _finite(value) and value > low


def _integer(low: int, high: int | None = None) -> Rule:
    words = f"an integer of at least {low}" + ("" if high is None else f" and at most {high}")

    def test(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return value >= low and (high is None or value <= high)

    return words, test


def _or_none(rule: Rule) -> Rule:
    return f"{rule[0]}, or null", lambda value: value is None or rule[1](value)


def _plain(value: Any) -> bool:
    """Whether it is a mapping from names to what JSON holds."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        return False
    try:
        json.dumps(dict(value))
    except (TypeError, ValueError):
        return False
    return True


_FINITE: Rule = ("a finite number", _finite)
_SHARE: Rule = ("a number from 0 to 1", lambda value: _finite(value) and 0 <= value <= 1)
_BOOL: Rule = ("true or false", lambda value: isinstance(value, bool))
_TEXT: Rule = ("text", lambda value: isinstance(value, str))
_NAMES: Rule = ("a mapping from names to plain data", _plain)
_SIZES: Rule = (
    "a list of integers of at least 1",
    lambda value: isinstance(value, (list, tuple)) and all(_integer(1)[1](size) for size in value),
)

_SETTINGS: dict[str, Rule] = {
    "env_id": ("the id of an environment", lambda value: isinstance(value, str) and bool(value)),
    "env_kwargs": _NAMES,
    "scalarization": (
        "a name, or a mapping with `name` and arguments",
        lambda value: isinstance(value, str) or _plain(value),
    ),
    "seed": _integer(0, 2**32 - 1),
    "steps": _integer(1),
    "envs": _integer(1),
    "reward_scale": _above(0),
    "component_limit": _or_none(_above(0)),
    "component_leak": _SHARE,
    "learning_rate": _above(0),
    "final_learning_rate": _at_least(0),
    "net_arch": _SIZES,
    "activation": ("relu or tanh", lambda value: value in ("relu", "tanh")),
    "grid": (
        "a mapping with `low`, `high` and `points`, or null",
        lambda value: value is None or (_plain(value) and set(value) <= set(_GRID)),
    ),
    "final_entropy": _or_none(_at_least(0)),
    "actions": (f"one of {', '.join(ACTIONS)}", lambda value: value in ("", *ACTIONS)),
    "segments": _integer(1),
    "arguments": _NAMES,
    "tuned_by": _TEXT,
}

_GRID: dict[str, Rule] = {"low": _FINITE, "high": _FINITE, "points": _integer(2)}

# Arguments of the algorithms whose mistakes show late or never. Others are for the algorithm to check.
_ARGUMENTS: dict[str, Rule] = {
    "batch_size": _integer(1),
    "buffer_size": _integer(1),
    "clip_range": _above(0),
    "clip_range_vf": _or_none(_above(0)),
    "ent_coef": _at_least(0),
    "exploration_final_eps": _SHARE,
    "exploration_fraction": _SHARE,
    "exploration_initial_eps": _SHARE,
    "gae_lambda": _SHARE,
    "gamma": _SHARE,
    "gradient_steps": _integer(-1),
    "learning_starts": _integer(0),
    "max_grad_norm": _above(0),
    "n_epochs": _integer(1),
    "n_steps": _integer(1),
    "normalize_advantage": _BOOL,
    "optimize_memory_usage": _BOOL,
    "rms_prop_eps": _above(0),
    "stats_window_size": _integer(1),
    "target_kl": _or_none(_above(0)),
    "target_update_interval": _integer(1),
    "tau": _SHARE,
    "train_freq": _integer(1),
    "use_rms_prop": _BOOL,
    "use_sde": _BOOL,
    "vf_coef": _at_least(0),
}
_ENTROPY_OF_SAC: Rule = (
    "a finite number of at least 0, or auto",
    lambda value: value.startswith("auto") if isinstance(value, str) else _finite(value) and value >= 0,
)
# What the training gives the algorithm by itself.
TAKEN = {
    "learning_rate": "which is a setting of its own",
    "seed": "which is a setting of its own",
    "policy": "which the settings decide",
    "policy_kwargs": "which the settings decide (net_arch, activation, grid)",
    "env": "which the settings decide",
    "device": "which is always the CPU",
    "tensorboard_log": "which is no part of a training (--tensorboard)",
}


def check(spec: TrainingSpec) -> None:
    """Check a training's settings, each by itself and those that must fit each other.

    Raises:
        HomeostasisError: One cannot be; the message names it, the rule and the value.
    """
    for name, rule in _SETTINGS.items():
        _hold(name, getattr(spec, name), rule)
    only = _ONLY.get(spec.algorithm)
    if spec.actions and only is not None and spec.actions != only:
        raise HomeostasisError(f"`actions` must be {only} for {spec.algorithm}, got {spec.actions!r}")
    if spec.algorithm == "RecurrentPPO" and not spec.net_arch:
        raise HomeostasisError("`net_arch` must hold the size of the memory for RecurrentPPO, got []")
    if spec.final_entropy is not None and spec.algorithm not in _ENTROPY:
        raise HomeostasisError(
            f"`final_entropy` must be null for {spec.algorithm} (only {', '.join(_ENTROPY)} have it), "
            f"got {spec.final_entropy!r}"
        )
    if spec.grid is not None:
        _check_grid(spec.grid)
    for name, value in spec.arguments.items():
        if name in TAKEN:
            raise HomeostasisError(f"`arguments` must not name {name!r}, {TAKEN[name]}; got {value!r}")
        found = _ENTROPY_OF_SAC if (spec.algorithm, name) == ("SAC", "ent_coef") else _ARGUMENTS.get(name)
        if found is not None:
            _hold(f"arguments[{name!r}]", value, found)


def _check_grid(grid: Mapping[str, Any]) -> None:
    for name, value in grid.items():
        _hold(f"grid[{name!r}]", value, _GRID[name])
    low, high = grid.get("low", -1.5), grid.get("high", 1.5)
    if low >= high:
        raise HomeostasisError(f"`grid['low']` must be below `grid['high']`, got {low!r} and {high!r}")


def _hold(name: str, value: Any, rule: Rule) -> None:
    words, test = rule
    if not test(value):
        raise HomeostasisError(f"`{name}` must be {words}, got {value!r}")
