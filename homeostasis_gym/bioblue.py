"""Recorded logs of the public BioBlue benchmarks: reading, replaying and converting them.

A log is a tab-separated table, one row per step, with newlines escaped inside the prompts
(github.com/levitation-opensource/bioblue). The columns say which benchmark it is of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.agent import Attempt
from homeostasis_gym.core import MOBUO, Benchmark, MOHoN, Single, Sustainability, benchmark_to_dict
from homeostasis_gym.core.benchmark import NO_LIMIT
from homeostasis_gym.errors import RecordError
from homeostasis_gym.trajectory import Header, Trajectory

__all__ = ["Difference", "Recording", "Replay", "read_recording", "replay", "to_trajectory"]

_MODEL, _TRIAL, _STEP = "Model name", "Trial number", "Step number"
_PROMPT, _REPLY = "Prompt message", "Verbatim LLM response"


@dataclass(frozen=True)
class _Layout:
    """Which columns of a log hold what, in the order of our arrays."""

    env_id: str
    benchmark: type[Benchmark]
    actions: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    rewards: tuple[str, ...]
    noise: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    metric: str = ""

    @property
    def totals(self) -> tuple[str, ...]:
        """The columns that hold the sums of the rewards so far, which a log may leave out."""
        names = (re.fullmatch(r"(.+ reward)( \w)?", name) for name in self.rewards)
        return tuple(
            f"Total {m[1].lower()}" + (f" of objective{m[2]}" if m[2] else "") for m in names if m is not None
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that must be there."""
        return (
            *(_MODEL, _TRIAL, _STEP, _PROMPT),
            *self.actions,
            *self.noise,
            *self.targets,
            *self.before,
            *self.after,
            *self.rewards,
        )


def _each(*patterns: str) -> tuple[str, ...]:
    """The columns of objective A, then those of objective B."""
    return tuple(pattern.format(name) for name in "AB" for pattern in patterns)


_LAYOUTS = (
    _Layout(
        env_id="Homeostasis-Single-v0",
        benchmark=Single,
        actions=("Amount food consumed",),
        noise=("Random homeostatic level change",),
        targets=("Homeostatic target",),
        before=("Previous homeostatic actual",),
        after=("New homeostatic actual",),
        rewards=("Consumption reward", "Undersatiation reward", "Oversatiation reward"),
    ),
    _Layout(
        env_id="Homeostasis-MOHoN-v0",
        benchmark=MOHoN,
        actions=_each("Amount food consumed for objective {}"),
        noise=_each("Random homeostatic level change of objective {}"),
        targets=_each("Homeostatic target of objective {}"),
        before=_each("Previous homeostatic actual of objective {}"),
        after=_each("New homeostatic actual of objective {}"),
        rewards=_each("Consumption reward {}", "Undersatiation reward {}", "Oversatiation reward {}"),
    ),
    _Layout(
        env_id="Homeostasis-MOBUO-v0",
        benchmark=MOBUO,
        actions=_each("Amount resources harvested for objective {}"),
        before=_each("Previous total of objective {}"),
        after=_each("New total of objective {}"),
        rewards=(*_each("Harvesting reward {}"), "Imbalance reward"),
        metric="Imbalance metric",
    ),
    _Layout(
        env_id="Homeostasis-Sustainability-v0",
        benchmark=Sustainability,
        actions=("Amount food harvested",),
        before=("Previous amount of food available",),
        after=("New amount of food available",),
        rewards=("Consumption reward", "Instability reward"),
        metric="Instability metric",
    ),
)


@dataclass(frozen=True, eq=False)
class Recording:
    """One recorded trial of T steps.

    Attributes:
        file: Where it was read from.
        env_id: The environment of ours that it is of.
        benchmark: The published parameters, without an upper limit on actions.
        model: Name of the model that acted.
        trial: Number of the trial.
        actions: (T, objectives), int64.
        noise: (T, channels), float64.
        before: Levels before each step, (T, objectives), float64.
        after: Levels after each step, (T, objectives), float64.
        rewards: (T, reward_dim), float64.
        totals: Sums of the rewards so far, (T, reward_dim), float64; None where the log does not hold them.
        metric: The metric of imbalance or instability, (T,), float64; None where there is none.
        prompts: What the model was told at each step.
        replies: Its verbatim replies; None where the log does not hold them.
    """

    file: Path
    env_id: str
    benchmark: Benchmark
    model: str
    trial: int
    actions: NDArray[np.int64]
    noise: NDArray[np.float64]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    rewards: NDArray[np.float64]
    totals: NDArray[np.float64] | None
    metric: NDArray[np.float64] | None
    prompts: tuple[str, ...]
    replies: tuple[str, ...] | None
    _layout: _Layout = field(repr=False)

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def shows_imbalance(self) -> bool:
        """Whether the prompts tell the imbalance reward (the "hint" condition of MO-BUO)."""
        return any("\nImbalance: " in prompt for prompt in self.prompts)


@dataclass(frozen=True)
class Difference:
    """Where a recording and its replay part.

    Attributes:
        row: Line of the file, the header being 1.
        column: Name of the column.
        recorded: The number in the file.
        replayed: The number from the environment.
    """

    row: int
    column: str
    recorded: float
    replayed: float

    def __str__(self) -> str:
        return (
            f"row {self.row}, column {self.column!r}: recorded {self.recorded!r}, replayed {self.replayed!r}"
        )


@dataclass(frozen=True, eq=False)
class Replay:
    """A recording's actions on its noise, in our environment.

    Attributes:
        states: (T + 1, state_dim), float64.
        rewards: (T, reward_dim), float64.
        forbidden: (T,), bool.
        terminated: Whether the dynamics ended the episode.
        first_difference: None when every state, every reward, its sum so far and every metric is the
            recorded one, to the last bit.
    """

    states: NDArray[np.float64]
    rewards: NDArray[np.float64]
    forbidden: NDArray[np.bool_]
    terminated: bool
    first_difference: Difference | None


def read_recording(file: Path) -> Recording:
    """Read a log.

    Raises:
        RecordError: The file cannot be read, or a row or column is not as it must be; names all three.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{file} cannot be read: {error}") from error
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    table = [line.removesuffix("\r").split("\t") for line in lines]
    if not table:
        raise RecordError(f"{file}: row 1: must name the columns, but the file is empty")
    header = table[0]
    layout = _layout(file, header)
    if len(table) == 1:
        raise RecordError(f"{file}: row 2: must hold the first step, but the file ends")
    for r, row in enumerate(table[1:], start=2):
        if len(row) != len(header):
            column = header[len(row)] if len(row) < len(header) else f"number {len(header) + 1}"
            problem = "is missing" if len(row) < len(header) else "has no name in row 1"
            raise RecordError(f"{file}: row {r}, column {column!r}: {problem}")
    cells = {name: [row[i] for row in table[1:]] for i, name in enumerate(header)}

    def numbers(names: tuple[str, ...], convert: Callable[[str], float]) -> NDArray[Any]:
        columns = [_column(file, name, cells[name], convert) for name in names]
        dtype = np.int64 if convert is _count else np.float64
        return np.array(columns, dtype=dtype).reshape(len(names), len(table) - 1).T

    benchmark = layout.benchmark(max_consumption=None)
    _check_constant(file, _STEP, cells, [str(t) for t in range(1, len(table))])
    for name in (_MODEL, _TRIAL):
        _check_constant(file, name, cells, cells[name][:1] * (len(table) - 1))
    for name, target in zip(layout.targets, getattr(benchmark, "targets", ()), strict=True):
        _check_constant(file, name, cells, [f"{target:g}"] * (len(table) - 1))
    return Recording(
        file=Path(file),
        env_id=layout.env_id,
        benchmark=benchmark,
        model=cells[_MODEL][0],
        trial=int(_column(file, _TRIAL, cells[_TRIAL], _count)[0]),
        actions=np.ascontiguousarray(numbers(layout.actions, _count)),
        noise=numbers(layout.noise, _number),
        before=numbers(layout.before, _number),
        after=numbers(layout.after, _number),
        rewards=numbers(layout.rewards, _number),
        totals=numbers(layout.totals, _number) if cells.keys() >= set(layout.totals) else None,
        metric=numbers((layout.metric,), _number)[:, 0] if layout.metric in cells else None,
        prompts=tuple(_unescape(cell) for cell in cells[_PROMPT]),
        replies=tuple(_unescape(cell) for cell in cells[_REPLY]) if _REPLY in cells else None,
        _layout=layout,
    )


def replay(recording: Recording) -> Replay:
    """Feed a recording's actions and noise through our environment and compare, bit by bit."""
    steps = len(recording)
    env = gym.make(recording.env_id, max_consumption=None, episode_length=steps)
    inner: Any = env.unwrapped
    env.reset(options={"noise": recording.noise})
    benchmark, layout = recording.benchmark, recording._layout
    states, rewards = [inner.state], np.zeros_like(recording.rewards)
    total = np.zeros(len(layout.rewards))
    forbidden = np.zeros(steps, dtype=bool)
    first: Difference | None = None
    terminated = False
    for t in range(steps):
        pairs = [(layout.before, recording.before[t], benchmark.levels(states[-1]))]
        if not terminated:
            _, reward, terminated, _, info = env.step(recording.actions[t])
            states.append(inner.state)
            rewards[t] = reward
            forbidden[t] = info["invalid_action"]
            pairs.append((layout.after, recording.after[t], benchmark.levels(states[-1])))
            pairs.append((layout.rewards, recording.rewards[t], rewards[t]))
            total += rewards[t]
            if recording.metric is not None:
                metric = np.array([_metric(benchmark, states[-1], rewards[t])])
                pairs.append(((layout.metric,), recording.metric[t : t + 1], metric))
            if recording.totals is not None:
                pairs.append((layout.totals, recording.totals[t], total))
        else:  # the log goes on where the episode has ended: every level below is a difference
            states.append(states[-1])
            pairs.append((layout.after, recording.after[t], np.full(len(layout.after), np.nan)))
        for names, recorded, replayed in pairs:
            for i in np.flatnonzero(recorded != replayed) if first is None else ():
                first = Difference(t + 2, names[i], float(recorded[i]), float(replayed[i]))
                break
    env.close()
    return Replay(np.stack(states), rewards, forbidden, bool(terminated), first)


def _metric(benchmark: Benchmark, state: NDArray[np.float64], reward: NDArray[np.float64]) -> float:
    """What the imbalance or instability is before it is weighted and rounded."""
    if isinstance(benchmark, Sustainability):
        _, harvested, steps = state.tolist()
        return float(max(0.0, abs(harvested / steps - reward[0]) - 1.0))
    totals = [float(level) for level in benchmark.levels(state)]
    mean = sum(totals) / len(totals)
    return sum(max(0.0, abs(mean - level) - 1.0) for level in totals)


def to_trajectory(recording: Recording, replayed: Replay, episode: int) -> Trajectory:
    """A recording as a trajectory of ours.

    Args:
        recording: The recording.
        replayed: Its replay, which knows what the log does not hold: states beyond the levels, and which
            choices were forbidden.
        episode: Number for the record.

    Returns:
        The trajectory. Levels and rewards are the recorded ones even where the replay differs;
        ``header.extra["exact"]`` says whether it does.
    """
    states = replayed.states.copy()
    benchmark = recording.benchmark
    benchmark.levels(states)[:-1] = recording.before
    benchmark.levels(states)[-1] = recording.after[-1]
    replies = recording.replies or ("",) * len(recording)
    extra: dict[str, Any] = {
        "file": recording.file.name,
        "trial": recording.trial,
        "exact": replayed.first_difference is None,
        "verbatim_replies": recording.replies is not None,
    }
    if isinstance(benchmark, MOBUO):
        extra["condition"] = "hint" if recording.shows_imbalance else "no-hint"
    return Trajectory(
        header=Header(
            env_id=recording.env_id,
            agent=recording.model,
            episode=episode,
            env_kwargs={"max_consumption": None},
            benchmark=benchmark_to_dict(benchmark),
            objective_names=benchmark.objective_names,
            reward_names=benchmark.reward_names,
            source="bioblue",
            extra=extra,
        ),
        observations=np.ascontiguousarray(benchmark.observe(states.T).T),
        states=states,
        actions=recording.actions,
        rewards=recording.rewards,
        noise=recording.noise,
        valid=np.ones(len(recording), dtype=bool),
        forbidden=replayed.forbidden,
        seconds=np.full(len(recording), np.nan),
        attempts=tuple(
            (Attempt(prompt=prompt, reply=reply),)
            for prompt, reply in zip(recording.prompts, replies, strict=True)
        ),
        terminated=replayed.terminated,
    )


def _layout(file: Path, header: list[str]) -> _Layout:
    missing = [[name for name in layout.columns if name not in header] for layout in _LAYOUTS]
    best = min(range(len(_LAYOUTS)), key=lambda i: len(missing[i]) / len(_LAYOUTS[i].columns))
    if missing[best]:
        raise RecordError(
            f"{file}: row 1, column {missing[best][0]!r}: is missing "
            f"(the columns come nearest to a log of {_LAYOUTS[best].env_id})"
        )
    for name in header:
        if header.count(name) > 1:
            raise RecordError(f"{file}: row 1, column {name!r}: stands there more than once")
    return _LAYOUTS[best]


def _column(file: Path, name: str, cells: list[str], convert: Callable[[str], float]) -> list[float]:
    values = []
    for r, cell in enumerate(cells, start=2):
        try:
            values.append(convert(cell))
        except ValueError as error:
            raise RecordError(f"{file}: row {r}, column {name!r}: {error}, got {cell!r}") from None
    return values


def _check_constant(file: Path, name: str, cells: Mapping[str, list[str]], wanted: list[str]) -> None:
    for r, (cell, value) in enumerate(zip(cells[name], wanted, strict=True), start=2):
        if cell != value:
            raise RecordError(f"{file}: row {r}, column {name!r}: must be {value!r}, got {cell!r}")


def _count(cell: str) -> int:
    if not re.fullmatch(r"\d+", cell, re.ASCII) or int(cell) > NO_LIMIT:
        raise ValueError(f"must be a whole number in 0 .. {NO_LIMIT}")
    return int(cell)


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise ValueError("must be a finite number")
    return value


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def _unescape(cell: str) -> str:
    return re.sub(r"\\([ntr\\])", lambda match: _ESCAPES[match.group(1)], cell)
