"""Parameters of the value graph, and the presets with where each comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.core.value_graph.kernels import DECAYS, STRATEGIES, UTILITIES, Graph
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

__all__ = [
    "PRESETS",
    "SCHEDULE_OF_PRESET",
    "SCHWARTZ_VALUES",
    "ValueGraphParams",
    "article",
    "circumplex",
    "preset",
    "reference",
    "with_parameter",
]

Matrix = tuple[tuple[float, ...], ...]

#: Schwartz's ten basic values in the order of his circle; the last stands beside the first.
SCHWARTZ_VALUES: Final = (
    "Self-direction",
    "Stimulation",
    "Hedonism",
    "Achievement",
    "Power",
    "Security",
    "Conformity",
    "Tradition",
    "Benevolence",
    "Universalism",
)

_RETENTION: Final = 0.95
_TIES: Final = ("drawn", "first")
_ZEROS: Final[Matrix] = ((0.0, 0.0, 0.0),) * 3


@dataclass(frozen=True)
class ValueGraphParams:
    """Everything that the dynamics of a value graph depend on.

    The defaults are the settings of the public reference code. A coupling matrix is read as row acts
    on column: ``self_clipped[i][j]`` is what one unit of the utility of value i does to value j of
    the same agent, per step and per unit of `rate`. In the clipped matrices only the positive part
    of the utility acts, in the others the whole of it; `restrict_negative` off unclips them all.

    Attributes:
        agents: Names of the agents, at least one.
        values: Names of the values, at least one.
        rate: Interaction rate, the size of every coupling per step.
        self_clipped: Couplings inside an agent through the positive part of the utility.
        self_unclipped: Couplings inside an agent through the whole utility.
        between_clipped: Couplings from every other agent, through the positive part.
        between_unclipped: Couplings from every other agent, through the whole utility.
        restrict_negative: Whether the clipped matrices are clipped at all.
        utility: One of ``linear``, ``sigmoid``, ``concave``, ``prospect``,
            ``linear_homeostasis``, ``squared_homeostasis`` and ``bounded``.
        rebalancing: The strategy that every agent follows, or one per agent.
        ties: Which of equally good values is corrected: ``drawn`` from the run's own stream, or ``first``,
            the one that stands first in `values`. (The strategy ``random`` draws its value all the same.)
        max_step: Greatest correction per step, in units of a value's level.
        target: The level to hold, or the lower and upper edge of a band.
        initial: Level of every value before the first step, or one row per agent. None means 1,
            or 0 with the two homeostatic utilities, as the reference has it.
        decay: ``none``; ``constant`` (every level moves towards 0 by `decay_rate` per step, never
            past it); ``multiplicative`` (it loses the share `decay_rate` of itself).
        decay_rate: Strength of the decay; 0 with decay ``none``.
        incentive: What an outside incentive adds to each value per step, one row per agent; empty
            for none.
        incentive_steps: First step of the incentive and the step after its last, counted from 0;
            None for always.
        noise: Standard deviation of Gaussian noise on every level in every step.
        retention: Share of its memory that the strategy ``memory`` keeps per step; no other has one.
    """

    agents: tuple[str, ...] = ("ALICE", "BOB")
    values: tuple[str, ...] = ("Power", "Self-direction", "Benevolence")
    rate: float = 0.025
    self_clipped: Matrix = ((0.0, 0.5, -1.0), (0.5, 0.0, 0.0), (-1.0, 0.0, 0.0))
    self_unclipped: Matrix = _ZEROS
    between_clipped: Matrix = ((-0.5, -0.5, 0.0), (-0.5, 0.0, 0.0), (0.0, 0.0, 0.0))
    between_unclipped: Matrix = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.5))
    restrict_negative: bool = True
    utility: str = "sigmoid"
    rebalancing: str | tuple[str, ...] = "homeostatic"
    ties: str = "drawn"
    max_step: float = 0.1
    target: float | tuple[float, float] = 10.0
    initial: float | Matrix | None = None
    decay: str = "none"
    decay_rate: float = 0.0
    incentive: Matrix = ()
    incentive_steps: tuple[int, int] | None = None
    noise: float = 0.0
    retention: float = _RETENTION

    def __post_init__(self) -> None:
        for name in ("agents", "values"):
            names = getattr(self, name)
            if isinstance(names, str):
                raise HomeostasisError(f"`{name}` must be a sequence of names, got {names!r}")
            object.__setattr__(self, name, tuple(str(one) for one in names))
            names = getattr(self, name)
            if not names or len(set(names)) != len(names):
                raise HomeostasisError(f"`{name}` must hold at least one name, each once, got {names}")
        # Indices are recorded in signed bytes.
        if len(self.agents) > 127 or len(self.values) > 127:
            raise HomeostasisError(
                f"`agents` and `values` may hold 127 names each, "
                f"got {len(self.agents)} and {len(self.values)}"
            )
        n = len(self.values)
        for name in ("self_clipped", "self_unclipped", "between_clipped", "between_unclipped"):
            object.__setattr__(self, name, _matrix(name, getattr(self, name), (n, n)))
        shape = (len(self.agents), n)
        if len(self.incentive):
            object.__setattr__(self, "incentive", _matrix("incentive", self.incentive, shape))
        if self.initial is not None and not isinstance(self.initial, (int, float, np.number)):
            object.__setattr__(self, "initial", _matrix("initial", self.initial, shape))
        for name in ("rate", "max_step", "decay_rate", "noise", "retention"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        for name in ("rate", "max_step", "decay_rate", "noise"):
            if getattr(self, name) < 0.0:
                raise HomeostasisError(f"`{name}` must be at least 0, got {getattr(self, name)}")
        if not 0.0 <= self.retention < 1.0:
            raise HomeostasisError(f"`retention` must be in [0, 1), got {self.retention}")
        if self.decay == "multiplicative" and self.decay_rate > 1.0:
            raise HomeostasisError(
                f"`decay_rate` must be in [0, 1] with multiplicative decay, got {self.decay_rate}"
            )
        if self.decay == "none" and self.decay_rate != 0.0:
            kinds = " or ".join(name for name in DECAYS if name != "none")
            raise HomeostasisError(
                f"`decay_rate` must be 0 with decay none, got {self.decay_rate}; set `decay` to {kinds}"
            )
        if self.retention != _RETENTION and "memory" not in self.strategies:
            raise HomeostasisError(
                f"`retention` must be left alone unless the strategy memory is in use, got {self.retention}"
            )
        if self.initial is not None and not isinstance(self.initial, tuple):
            object.__setattr__(self, "initial", _number("initial", self.initial))
        self._check_names()
        self._check_edges()

    def _check_names(self) -> None:
        for name, known in (("utility", UTILITIES), ("decay", DECAYS), ("ties", _TIES)):
            if getattr(self, name) not in known:
                raise UnknownNameError(
                    f"`{name}` must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        if not isinstance(self.rebalancing, str):
            object.__setattr__(self, "rebalancing", tuple(self.rebalancing))
        if len(self.strategies) != len(self.agents):
            raise HomeostasisError(
                f"`rebalancing` must name one strategy or one per agent ({len(self.agents)}), "
                f"got {len(self.strategies)}"
            )
        for one in self.strategies:
            if one not in STRATEGIES:
                raise UnknownNameError(f"`rebalancing` must be one of {', '.join(STRATEGIES)}, got {one!r}")

    def _check_edges(self) -> None:
        if isinstance(self.target, (int, float, np.number)):
            object.__setattr__(self, "target", _number("target", self.target))
        else:
            try:
                given = tuple(self.target)
            except TypeError:
                given = ()
            edges = tuple(_number("target", edge) for edge in given)
            if len(edges) != 2 or edges[0] > edges[1]:
                raise HomeostasisError(
                    f"`target` must be a level or a lower and an upper edge, got {self.target}"
                )
            object.__setattr__(self, "target", edges)
        if self.incentive_steps is not None:
            steps = tuple(int(step) for step in self.incentive_steps)
            if len(steps) != 2 or not 0 <= steps[0] <= steps[1]:
                raise HomeostasisError(
                    f"`incentive_steps` must be a first step and the step after the last, "
                    f"got {self.incentive_steps}"
                )
            object.__setattr__(self, "incentive_steps", steps)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of agents and of values."""
        return len(self.agents), len(self.values)

    @property
    def band(self) -> tuple[float, float]:
        """Lower and upper edge of the target; equal for a point."""
        return self.target if isinstance(self.target, tuple) else (self.target, self.target)

    @property
    def strategies(self) -> tuple[str, ...]:
        """The strategy of every agent."""
        if isinstance(self.rebalancing, str):
            return (self.rebalancing,) * len(self.agents)
        return self.rebalancing

    @property
    def initial_values(self) -> NDArray[np.float64]:
        """Levels before the first step, ``(agents, values)``."""
        if self.initial is None:
            start = 0.0 if self.utility.endswith("homeostasis") else 1.0
        elif isinstance(self.initial, tuple):
            return np.array(self.initial, dtype=np.float64)
        else:
            start = self.initial
        return np.full(self.shape, start, dtype=np.float64)

    @property
    def graph(self) -> Graph:
        """The parameters as compiled code reads them."""
        return _graph(self)

    def permuted(self, order: tuple[int, ...]) -> ValueGraphParams:
        """The same graph with its values in another order."""
        if sorted(order) != list(range(len(self.values))):
            raise HomeostasisError(f"`order` must be a permutation of the values, got {order}")
        changes: dict[str, Any] = {"values": tuple(self.values[i] for i in order)}
        for name in ("self_clipped", "self_unclipped", "between_clipped", "between_unclipped"):
            matrix = getattr(self, name)
            changes[name] = tuple(tuple(matrix[i][j] for j in order) for i in order)
        for name in ("incentive", "initial"):
            rows = getattr(self, name)
            if isinstance(rows, tuple):
                changes[name] = tuple(tuple(row[i] for i in order) for row in rows)
        return replace(self, **changes)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise HomeostasisError(f"`{name}` must be a number, got {value!r}") from None
    if not math.isfinite(number):
        raise HomeostasisError(f"`{name}` must be finite, got {value!r}")
    return number


def _matrix(name: str, rows: Any, shape: tuple[int, int]) -> Matrix:
    try:
        array = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError):
        raise HomeostasisError(f"`{name}` must be a matrix of numbers, got {rows!r}") from None
    if array.shape != shape:
        raise HomeostasisError(f"`{name}` must have shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise HomeostasisError(f"`{name}` must be finite, got {rows!r}")
    return tuple(tuple(float(x) for x in row) for row in array)


@lru_cache(maxsize=256)
def _graph(params: ValueGraphParams) -> Graph:
    """Couplings as lists of what is not zero: the graphs of interest are sparse."""
    n_agents, n_values = params.shape
    rows: list[tuple[int, int, int]] = []
    starts, sources, weights = [0], list[int](), list[float]()
    # The order of the reference, which adds the between-agents matrices first.
    for scope in ("between", "self"):
        for part, clip in (("clipped", int(params.restrict_negative)), ("unclipped", 0)):
            matrix = np.array(getattr(params, f"{scope}_{part}"))
            for j in range(n_values):
                found = np.flatnonzero(matrix[:, j])
                if found.size:
                    rows.append((j, int(scope == "between"), clip))
                    sources += found.tolist()
                    weights += matrix[found, j].tolist()
                    starts.append(len(sources))
    columns = np.array(rows, dtype=np.int64).reshape(-1, 3)
    low, high = params.band
    start, stop = params.incentive_steps or (0, 2**62)
    incentive = np.array(params.incentive, dtype=np.float64)
    return Graph(
        params.rate,
        UTILITIES[params.utility],
        row_start=np.array(starts, dtype=np.int64),
        row_value=columns[:, 0].copy(),
        row_between=columns[:, 1].copy(),
        row_clip=columns[:, 2].copy(),
        source=np.array(sources, dtype=np.int64),
        weight=np.array(weights, dtype=np.float64),
        low=np.full(n_values, low),
        high=np.full(n_values, high),
        max_step=params.max_step,
        decay=DECAYS[params.decay],
        decay_rate=params.decay_rate,
        incentive=incentive if incentive.size else np.zeros((n_agents, n_values)),
        incentive_start=start,
        incentive_stop=stop,
        strategy=np.array([STRATEGIES[one] for one in params.strategies], dtype=np.int64),
        retention=params.retention,
    )


def reference(**changes: Any) -> ValueGraphParams:
    """The settings of the public code: three values, ALICE and BOB, logarithmic utility.

    Source: ``levitation-opensource/universal_value_interactions`` at commit 61fb93b, read as facts.

    Args:
        **changes: Parameters to set otherwise.
    """
    return _changed(ValueGraphParams(), changes)


def article(**changes: Any) -> ValueGraphParams:
    """What the article's prose describes, where that differs from its code.

    The prose has every value decay continuously, utilities that are bounded, no influence between
    the agents, Self-direction reinforcing itself and both other values, Power and Benevolence at
    odds, and a band as the target; whose turn it is follows a fixed order with equal counts (its
    `SCHEDULE_OF_PRESET` is ``alternating``), and nothing is drawn: every seed gives the same run. It gives
    no formulas and few numbers: the size of the decay, the width of the band, the shape of the bounded
    utility and the order in which ties are
    settled are our choice.

    Args:
        **changes: Parameters to set otherwise.
    """
    prose = ValueGraphParams(
        self_clipped=((0.0, 0.0, -1.0), (0.5, 0.5, 0.5), (-1.0, 0.0, 0.0)),
        between_clipped=_ZEROS,
        between_unclipped=_ZEROS,
        utility="bounded",
        ties="first",
        target=(9.0, 11.0),
        decay="multiplicative",
        decay_rate=0.005,
    )
    return _changed(prose, changes)


def circumplex(
    *,
    adjacent: float = 0.5,
    opposite: float = -1.0,
    rivalry: float = -0.5,
    sharing: float = 0.5,
    **changes: Any,
) -> ValueGraphParams:
    """All ten of Schwartz's values on their circle.

    Neighbours on the circle reinforce each other and values that stand opposite conflict: that much
    is Schwartz's. The strengths are our own choice, and so is what passes between agents, where the
    defaults are the reference's rivalry in Power and its shared Benevolence.

    Args:
        adjacent: Strength between neighbours (distance 1 of 5).
        opposite: Strength between opposites (distance 5 of 5).
        rivalry: What another agent's Power does to one's own Power.
        sharing: What another agent's Benevolence does to one's own Benevolence, unclipped.
        **changes: Parameters to set otherwise.
    """
    n = len(SCHWARTZ_VALUES)
    inside = np.zeros((n, n))
    for i in range(n):
        inside[i, (i + 1) % n] = inside[i, (i - 1) % n] = adjacent
        inside[i, (i + n // 2) % n] = opposite
    clipped = np.zeros((n, n))
    unclipped = np.zeros((n, n))
    power, benevolence = SCHWARTZ_VALUES.index("Power"), SCHWARTZ_VALUES.index("Benevolence")
    clipped[power, power] = rivalry
    unclipped[benevolence, benevolence] = sharing
    zeros = np.zeros((n, n))
    built: dict[str, Any] = {
        "values": SCHWARTZ_VALUES,
        "self_clipped": inside,
        "self_unclipped": zeros,
        "between_clipped": clipped,
        "between_unclipped": unclipped,
    }
    unknown = set(changes) - {one.name for one in fields(ValueGraphParams)}
    if unknown:
        raise UnknownNameError(f"unknown parameters: {', '.join(sorted(unknown))}")
    return ValueGraphParams(**{**built, **changes})


PRESETS: Final = {"reference": reference, "article": article, "circumplex": circumplex}
#: The schedule of turns that belongs to each preset.
SCHEDULE_OF_PRESET: Final = {"reference": "random", "article": "alternating", "circumplex": "random"}


def preset(name: str, **changes: Any) -> ValueGraphParams:
    """A preset by name.

    Raises:
        UnknownNameError: No such preset, or a change names no parameter.
    """
    if name not in PRESETS:
        raise UnknownNameError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name](**changes)


def _changed(params: ValueGraphParams, changes: dict[str, Any]) -> ValueGraphParams:
    unknown = set(changes) - {one.name for one in fields(params)}
    if unknown:
        raise UnknownNameError(f"unknown parameters: {', '.join(sorted(unknown))}")
    if changes.get("decay") == "none":
        changes = {"decay_rate": 0.0, **changes}
    return replace(params, **changes)


_SIMPLE: Final = ("rate", "max_step", "target", "initial", "decay_rate", "noise", "retention")
_MATRICES: Final = {
    "self": "self_clipped",
    "between": "between_clipped",
    "self-unclipped": "self_unclipped",
    "between-unclipped": "between_unclipped",
}
_CIRCLE: Final = ("adjacent", "opposite", "rivalry", "sharing")


def with_parameter(params: ValueGraphParams, name: str, value: float) -> ValueGraphParams:
    """The parameters with one number changed, by a name that a command line can carry.

    Args:
        params: What is changed.
        name: One of

            - ``rate``, ``max_step``, ``target``, ``initial``, ``decay_rate``, ``noise``, ``retention``;
            - ``band``: half the width of the target band, its middle kept;
            - ``restrict_negative``: 1 or 0;
            - a coupling: ``self:A:B`` and ``between:A:B`` set the clipped coupling of two values in both
              directions, ``self:A->B`` and ``between:A->B`` that from A on B alone;
              ``self-unclipped:...`` and ``between-unclipped:...`` likewise;
            - ``incentive:VALUE`` or ``incentive:AGENT:VALUE``: what an outside incentive adds per step;
              ``incentive_start`` and ``incentive_stop``: its first step and the step after its last;
            - ``adjacent``, ``opposite``, ``rivalry``, ``sharing``: strengths of `circumplex`, for its values.
        value: The new number.

    Raises:
        UnknownNameError: No such parameter, agent or value.
        HomeostasisError: The number cannot be used.
    """
    if name in _SIMPLE:
        if name == "target" and isinstance(params.target, tuple):
            half = (params.target[1] - params.target[0]) / 2
            return replace(params, target=(value - half, value + half))
        change: dict[str, Any] = {name: value}
        return replace(params, **change)
    if name == "band":
        middle = sum(params.band) / 2
        if value < 0:
            raise HomeostasisError(f"`band` must be at least 0, got {value}")
        return replace(params, target=(middle - value, middle + value))
    if name == "restrict_negative":
        if value not in (0, 1):
            raise HomeostasisError(f"`restrict_negative` must be 0 or 1, got {value}")
        return replace(params, restrict_negative=bool(value))
    if name in _CIRCLE:
        return _with_strength(params, name, value)
    head, _, rest = name.partition(":")
    if name in ("incentive_start", "incentive_stop") or (head == "incentive" and rest):
        return _with_incentive(params, name, rest.split(":"), value)
    directed = "->" in rest
    parts = rest.split("->" if directed else ":")
    if len(parts) != 2 or head not in _MATRICES:
        raise UnknownNameError(
            f"parameter must be one of {', '.join((*_SIMPLE, 'band', 'restrict_negative', *_CIRCLE))}, "
            f"incentive_start, incentive_stop, incentive:VALUE, incentive:AGENT:VALUE, "
            f"{{{','.join(_MATRICES)}}}:VALUE:VALUE or {{{','.join(_MATRICES)}}}:VALUE->VALUE, got {name!r}"
        )
    i, j = (_place("value", params.values, one, name) for one in parts)
    matrix = [list(row) for row in getattr(params, _MATRICES[head])]
    matrix[i][j] = value
    if not directed:
        matrix[j][i] = value
    changed: dict[str, Any] = {_MATRICES[head]: matrix}
    return replace(params, **changed)


def _place(kind: str, names: tuple[str, ...], one: str, parameter: str) -> int:
    if one not in names:
        raise UnknownNameError(f"{kind} in {parameter!r} must be one of {', '.join(names)}, got {one!r}")
    return names.index(one)


def _with_incentive(params: ValueGraphParams, name: str, parts: list[str], value: float) -> ValueGraphParams:
    if name in ("incentive_start", "incentive_stop"):
        start, stop = params.incentive_steps or (0, 2**62)
        if value != int(value):
            raise HomeostasisError(f"`{name}` must be a whole number, got {value}")
        steps = (int(value), stop) if name == "incentive_start" else (start, int(value))
        return replace(params, incentive_steps=steps)
    if len(parts) > 2:
        raise UnknownNameError(f"an incentive must be incentive:VALUE or incentive:AGENT:VALUE, got {name!r}")
    rows = [list(row) for row in params.incentive] or [[0.0] * len(params.values) for _ in params.agents]
    j = _place("value", params.values, parts[-1], name)
    who = range(len(rows)) if len(parts) == 1 else [_place("agent", params.agents, parts[0], name)]
    for a in who:
        rows[a][j] = value
    return replace(params, incentive=cast(Matrix, rows))


def _with_strength(params: ValueGraphParams, name: str, value: float) -> ValueGraphParams:
    if params.values != SCHWARTZ_VALUES:
        raise HomeostasisError(f"`{name}` must be set on the values of the preset circumplex, in its order")
    n = len(params.values)
    field = {"rivalry": "between_clipped", "sharing": "between_unclipped"}.get(name, "self_clipped")
    matrix = [list(row) for row in getattr(params, field)]
    if name in ("adjacent", "opposite"):
        for i in range(n):
            for distance in (1, n - 1) if name == "adjacent" else (n // 2,):
                matrix[i][(i + distance) % n] = value
    else:
        i = params.values.index("Power" if name == "rivalry" else "Benevolence")
        matrix[i][i] = value
    changed: dict[str, Any] = {field: matrix}
    return replace(params, **changed)
