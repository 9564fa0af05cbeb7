"""What an episode is about, as the instruments see it: levels, bands, rules, and policies if known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse.rules import (
    HomeostaticRules,
    Reading,
    ResourceRules,
    Rules,
    UnboundedRules,
    ValueGraphRules,
)
from homeostasis_gym.core.benchmark import Benchmark, benchmark_from_dict
from homeostasis_gym.core.value_graph.benchmark import ValueGraph, ValueGraphSeat
from homeostasis_gym.errors import HomeostasisError

__all__ = ["CUSTOM", "Subject", "register_rules", "rules_for", "subject_from_dict"]

Floats = NDArray[np.float64]

CUSTOM = "custom"
"""Name under which a record may describe levels and bands that no benchmark of ours has."""


def _value_graph(benchmark: ValueGraph) -> Rules:
    return ValueGraphRules(*benchmark.graph.band, benchmark.graph.max_step)


_factories: dict[str, Callable[[Any], Rules]] = {
    "mobuo": lambda b: UnboundedRules(float(b.harvest_limit)),
    "mobuon": lambda b: UnboundedRules(float(b.harvest_limit)),
    "sustainability": lambda b: ResourceRules(float(b.capacity), float(b.growth)),
    "value-graph": _value_graph,
    "value-graph-seat": _value_graph,
    "sleepwake": lambda b: HomeostaticRules(clearance=float(b.clearance), anticipates=True),
}


def register_rules(benchmark_name: str, factory: Callable[[Any], Rules]) -> None:
    """Give a benchmark rules of its own.

    Args:
        benchmark_name: `Benchmark.name`.
        factory: Builds the rules from the benchmark's parameters.
    """
    _factories[benchmark_name] = factory


def rules_for(benchmark: Benchmark) -> Rules | None:
    """The rules of a benchmark: those registered, else the homeostatic ones if it has bands, else None."""
    if benchmark.name in _factories:
        return _factories[benchmark.name](benchmark)
    if benchmark.bands(np.asarray([benchmark.initial_state])) is not None:
        return HomeostaticRules()
    return None


@dataclass(frozen=True)
class Subject:
    """What an episode is about.

    Attributes:
        name: Name of the benchmark.
        objective_names: One per component of the action.
        rules: None where there are none, and no flip can be judged.
        benchmark: None where the dynamics are not known, and no policy can be run.
        edges: Lower and upper edge of each objective's band, for a subject without benchmark.
    """

    name: str
    objective_names: tuple[str, ...]
    rules: Rules | None
    benchmark: Benchmark | None = None
    edges: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def levels(self, states: Floats) -> Floats:
        """Levels of the objectives, (..., state_dim) -> (..., objectives)."""
        if self.benchmark is None:
            return states
        return np.asarray(self.benchmark.levels(states), dtype=np.float64)

    def bands(self, states: Floats) -> tuple[Floats, Floats] | None:
        """Lower and upper edges of the bands, each (..., objectives); None without bands."""
        if self.benchmark is not None:
            return self.benchmark.bands(states)
        if self.edges is None:
            return None
        shape = states.shape
        return (
            np.broadcast_to(np.asarray(self.edges[0], dtype=np.float64), shape),
            np.broadcast_to(np.asarray(self.edges[1], dtype=np.float64), shape),
        )

    def edges_of(self, states: Floats) -> tuple[Floats, Floats]:
        """The bands, infinitely wide where there are none."""
        bands = self.bands(states)
        if bands is not None:
            return bands
        levels = self.levels(states)
        return np.full_like(levels, -np.inf), np.full_like(levels, np.inf)

    def read(self, states: Floats, actions: NDArray[Any], wasted: NDArray[np.bool_]) -> Reading:
        """States and actions as the rules read them.

        Args:
            states: States before the actions, shape (..., state_dim).
            actions: Shape (..., objectives).
            wasted: Whether the turn had no effect, shape (...).
        """
        lower, upper = self.edges_of(states)
        able = None
        refused = wasted & np.asarray(actions != 0).any(axis=-1)
        if isinstance(self.benchmark, ValueGraph):  # not at every step may anybody be corrected
            turn = self.benchmark.split(states)[3]
            able = turn == 0 if isinstance(self.benchmark, ValueGraphSeat) else turn >= 0
            wasted = wasted | ~able
        return Reading(
            able=able,
            refused=refused,
            levels=self.levels(states),
            lower=lower,
            upper=upper,
            actions=np.where(wasted[..., np.newaxis], 0.0, actions),
            limit=np.inf if self.benchmark is None else float(self.benchmark.action_limit),
        )


def subject_of(benchmark: Benchmark) -> Subject:
    """A benchmark of ours as a subject."""
    return Subject(benchmark.name, benchmark.objective_names, rules_for(benchmark), benchmark)


def subject_from_dict(data: Mapping[str, Any]) -> Subject:
    """The subject that a record's header describes (`Header.benchmark`).

    Either ``{"name": ..., parameter: ...}`` of a benchmark of ours, or levels of anyone's::

        {"name": "custom", "kind": "homeostatic", "objectives": ["A"], "lower": [90], "upper": [110]}
        {"name": "custom", "kind": "unbounded", "objectives": ["A", "B"], "full_harvest": 10}

    Raises:
        HomeostasisError: Nothing is described, or nothing that is known.
    """
    if not data:
        raise HomeostasisError("the record names no benchmark with known dynamics")
    if data.get("name") != CUSTOM:
        return subject_of(benchmark_from_dict(data))
    names = tuple(str(name) for name in data.get("objectives", ()))
    if not names:
        raise HomeostasisError("`objectives` must name at least one objective, got none")
    kind = data.get("kind")
    if kind == "unbounded":
        full = _number(data, "full_harvest")
        if full <= 0:
            raise HomeostasisError(f"`full_harvest` must be above 0, got {full}")
        return Subject(CUSTOM, names, UnboundedRules(full))
    if kind == "homeostatic":
        lower, upper = (_numbers(data, side, len(names)) for side in ("lower", "upper"))
        if any(low >= high for low, high in zip(lower, upper, strict=True)):
            raise HomeostasisError(f"`lower` must be below `upper`, got {lower} and {upper}")
        return Subject(CUSTOM, names, HomeostaticRules(), edges=(lower, upper))
    raise HomeostasisError(f"`kind` must be 'homeostatic' or 'unbounded', got {kind!r}")


def _number(data: Mapping[str, Any], name: str) -> float:
    value = data.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not np.isfinite(value):
        raise HomeostasisError(f"`{name}` must be a finite number, got {value!r}")
    return float(value)


def _numbers(data: Mapping[str, Any], name: str, count: int) -> tuple[float, ...]:
    values = data.get(name)
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise HomeostasisError(f"`{name}` must hold {count} numbers, got {values!r}")
    return tuple(_number({name: value}, name) for value in values)
