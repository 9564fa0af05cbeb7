"""The record of an episode: what was seen, said, done and paid at every step.

Everything downstream (metrics, figures, the report) reads trajectories and never a live environment, so
that an old run can be scored with a new metric.

On disk a file of records is a Parquet table with one row per step. Columns: ``episode``, ``seat``, ``step``,
``observation`` and ``state`` (lists of float64, as they stood before the action), ``action`` (list),
``reward`` and ``noise`` (lists of float64), ``valid``, ``forbidden``, ``seconds`` and ``attempts`` (a list of
structs, see `Attempt`). The last row of an episode holds the final observation and state, its action,
reward and noise are null. The headers stand in the file's metadata under ``homeostasis_gym.headers`` (JSON).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.agent import Attempt
from homeostasis_gym.errors import HomeostasisError, MissingExtraError, RecordError

__all__ = ["Header", "Trajectory", "read_trajectories", "write_trajectories"]

SCHEMA_VERSION = 1
_METADATA_KEY = b"homeostasis_gym.headers"


@dataclass(frozen=True)
class Header:
    """What an episode was, in plain data.

    Attributes:
        env_id: Gymnasium id of the environment, or the name of a recorded benchmark.
        agent: Name of the agent.
        seed: Seed of the environment's noise and of the agent; -1 when unknown.
        episode: Number of the episode within its run.
        seat: The agent's seat in an environment with several agents, else empty.
        env_kwargs: Arguments with which the environment was made.
        agent_settings: The agent's settings.
        benchmark: ``{"name": ..., parameter: ...}``, see `homeostasis_gym.core.benchmark_from_dict`;
            empty for an environment that is not ours.
        objective_names: One per component of the action.
        reward_names: One per component of the reward.
        source: ``rollout``, or where an imported record comes from.
        extra: Anything else worth keeping (versions, hash of the prompt, ...).
    """

    env_id: str
    agent: str
    seed: int = -1
    episode: int = 0
    seat: str = ""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    agent_settings: Mapping[str, Any] = field(default_factory=dict)
    benchmark: Mapping[str, Any] = field(default_factory=dict)
    objective_names: tuple[str, ...] = ()
    reward_names: tuple[str, ...] = ()
    source: str = "rollout"
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One episode of one agent, T steps long.

    Attributes:
        header: What the episode was.
        observations: (T + 1, observation_dim), float64; row t is what the agent saw before step t.
        states: (T + 1, state_dim), float64; the state behind it (the same array where all is seen).
        actions: (T, action_dim), int64 or float64; what was executed. Zeros where `valid` is False.
        rewards: (T, reward_dim), float64.
        noise: (T, channels), float64.
        valid: (T,), bool; False where the agent came to no valid decision.
        forbidden: (T,), bool; True where the rules made the action a wasted turn.
        seconds: (T,), float64; how long the agent took to decide, NaN when unknown.
        attempts: One tuple of `Attempt` per step; empty tuples for agents that do not converse.
        terminated: Whether the dynamics ended the episode.
        ended_by_agent: Whether the agent ended it before its time, see `Decision.end`.

    Raises:
        HomeostasisError: The arrays' lengths do not fit together.
    """

    header: Header
    observations: NDArray[np.float64]
    states: NDArray[np.float64]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    noise: NDArray[np.float64]
    valid: NDArray[np.bool_]
    forbidden: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    attempts: tuple[tuple[Attempt, ...], ...] = ()
    terminated: bool = False
    ended_by_agent: bool = False

    def __post_init__(self) -> None:
        steps = len(self.actions)
        if not self.attempts:
            object.__setattr__(self, "attempts", ((),) * steps)
        for name in ("rewards", "noise", "valid", "forbidden", "seconds", "attempts"):
            if len(getattr(self, name)) != steps:
                raise HomeostasisError(
                    f"`{name}` must hold one row per action ({steps}), got {len(getattr(self, name))}"
                )
        for name in ("observations", "states"):
            array = getattr(self, name)
            if array.ndim != 2 or len(array) != steps + 1:
                raise HomeostasisError(
                    f"`{name}` must have shape ({steps + 1}, components), one row more than there are "
                    f"actions, got {array.shape}"
                )

    def __len__(self) -> int:
        return len(self.actions)

    def __eq__(self, other: object) -> bool:
        """Equal to the last bit, time apart: how long an agent took is no part of what it did."""
        if not isinstance(other, Trajectory):
            return NotImplemented
        arrays = ("observations", "states", "actions", "rewards", "noise", "valid", "forbidden")
        return (
            self.header == other.header
            and self.terminated == other.terminated
            and self.ended_by_agent == other.ended_by_agent
            and all(np.array_equal(getattr(self, a), getattr(other, a), equal_nan=True) for a in arrays)
            and _timeless(self.attempts) == _timeless(other.attempts)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def score(self) -> float:
        """Sum of all rewards."""
        return float(self.rewards.sum())

    @property
    def invalid_replies(self) -> int:
        """Number of replies that were refused."""
        return sum(bool(attempt.error) for step in self.attempts for attempt in step)

    @property
    def replies(self) -> int:
        """Number of replies that were judged: those refused, and the accepted one of every valid step."""
        talked = np.array([bool(step) for step in self.attempts], dtype=np.bool_)
        return self.invalid_replies + int(np.count_nonzero(talked & self.valid))

    def tokens(self, kind: str) -> float:
        """Tokens of the whole episode: ``prompt``, ``cached`` or ``completion``; NaN when not known."""
        counts = [getattr(a, f"{kind}_tokens") for step in self.attempts for a in step]
        return float(sum(counts)) if counts and min(counts) >= 0 else float("nan")


def _timeless(attempts: tuple[tuple[Attempt, ...], ...]) -> list[list[dict[str, Any]]]:
    return [[{**asdict(a), "seconds": 0.0} for a in step] for step in attempts]


def write_trajectories(path: Path, trajectories: Sequence[Trajectory]) -> None:
    """Write a file of records, aside first and then renamed, so that it is whole or absent.

    Args:
        path: The file to make; an existing one is replaced.
        trajectories: Episodes, not empty.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    pa, pq = _pyarrow()
    attempt = pa.struct([(f.name, _ARROW_TYPES[str(f.type)](pa)) for f in fields(Attempt)])
    # An action keeps its type: counts stay whole numbers, amounts stay floats.
    whole = all(np.issubdtype(t.actions.dtype, np.integer) for t in trajectories)
    schema = pa.schema(
        [
            ("episode", pa.int64()),
            ("seat", pa.string()),
            ("step", pa.int32()),
            ("observation", pa.list_(pa.float64())),
            ("state", pa.list_(pa.float64())),
            ("action", pa.list_(pa.int64() if whole else pa.float64())),
            ("reward", pa.list_(pa.float64())),
            ("noise", pa.list_(pa.float64())),
            ("valid", pa.bool_()),
            ("forbidden", pa.bool_()),
            ("seconds", pa.float64()),
            ("attempts", pa.list_(attempt)),
        ]
    )
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    headers = []
    for t in trajectories:
        ends = {"terminated": t.terminated, "ended_by_agent": t.ended_by_agent}
        headers.append({**asdict(t.header), **ends})
        rows = len(t) + 1
        columns["episode"] += [t.header.episode] * rows
        columns["seat"] += [t.header.seat] * rows
        columns["step"] += range(rows)
        columns["observation"] += t.observations.tolist()
        columns["state"] += t.states.tolist()
        for name, values in (
            ("action", t.actions),
            ("reward", t.rewards),
            ("noise", t.noise),
            ("valid", t.valid),
            ("forbidden", t.forbidden),
            ("seconds", t.seconds),
        ):
            columns[name] += [*values.tolist(), None]
        columns["attempts"] += [*([asdict(a) for a in step] for step in t.attempts), None]
    metadata = {_METADATA_KEY: json.dumps({"schema": SCHEMA_VERSION, "headers": headers}).encode()}
    table = pa.table(columns, schema=schema.with_metadata(metadata))
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as sink:
            pq.write_table(table, sink, compression="zstd")
            sink.flush()
            os.fsync(sink.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read_trajectories(path: Path) -> list[Trajectory]:
    """Read a file of records, or every record of a run folder in the order of agents and episodes.

    Raises:
        RecordError: Nothing there, or not a file of ours.
        MissingExtraError: pyarrow is not installed.
    """
    if path.is_dir():
        files = sorted(path.glob("**/*.parquet"))
        if not files:
            raise RecordError(f"`run` must be a folder with records, but {path} holds none")
        return [trajectory for file in files for trajectory in _read_file(file)]
    if not path.exists():
        raise RecordError(f"`run` must be a folder or file of records, but {path} does not exist")
    return _read_file(path)


def _read_file(path: Path) -> list[Trajectory]:
    pa, pq = _pyarrow()
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise RecordError(f"{path} cannot be read as Parquet: {error}") from error
    metadata = table.schema.metadata or {}
    if _METADATA_KEY not in metadata:
        raise RecordError(f"{path} is no file of records of homeostasis-gym: it carries no headers")
    content = json.loads(metadata[_METADATA_KEY])
    if content["schema"] != SCHEMA_VERSION:
        raise RecordError(
            f"{path} has record schema {content['schema']}, this version reads {SCHEMA_VERSION}"
        )
    table = table.combine_chunks()
    steps = table["step"].to_numpy()
    starts = np.flatnonzero(steps == 0)
    ends = np.append(starts[1:], len(steps))
    if len(starts) != len(content["headers"]):
        raise RecordError(f"{path} has {len(content['headers'])} headers for {len(starts)} episodes")
    lists = {n: _List(table[n]) for n in ("observation", "state", "action", "reward", "noise")}
    scalars = {n: table[n].to_numpy(zero_copy_only=False) for n in ("valid", "forbidden", "seconds")}
    lengths = table["attempts"].combine_chunks()
    talks = len(lengths.flatten()) > 0
    trajectories = []
    for raw, first, end in zip(content["headers"], starts.tolist(), ends.tolist(), strict=True):
        last = end - 1
        attempts: Iterable[Any] = ()
        if talks:
            attempts = tuple(
                tuple(Attempt(**a) for a in step) for step in lengths.slice(first, last - first).to_pylist()
            )
        terminated, ended = raw.pop("terminated"), raw.pop("ended_by_agent", False)
        trajectories.append(
            Trajectory(
                header=_header(raw),
                observations=lists["observation"].rows(first, end),
                states=lists["state"].rows(first, end),
                actions=lists["action"].rows(first, last),
                rewards=lists["reward"].rows(first, last),
                noise=lists["noise"].rows(first, last),
                valid=scalars["valid"][first:last].astype(bool),
                forbidden=scalars["forbidden"][first:last].astype(bool),
                seconds=scalars["seconds"][first:last].astype(np.float64),
                attempts=tuple(attempts),
                terminated=terminated,
                ended_by_agent=ended,
            )
        )
    return trajectories


class _List:
    """A list column as one flat array and offsets, from which blocks of rows are cut without a copy."""

    def __init__(self, column: Any) -> None:
        array = column.combine_chunks()
        self.values: NDArray[Any] = array.flatten().to_numpy(zero_copy_only=False)
        lengths = array.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])

    def rows(self, first: int, end: int) -> NDArray[Any]:
        block = self.values[self.offsets[first] : self.offsets[end]]
        return block.reshape(end - first, len(block) // (end - first) if end > first else 0)


def _header(raw: dict[str, Any]) -> Header:
    for name in ("objective_names", "reward_names"):
        raw[name] = tuple(raw[name])
    return Header(**raw)


_ARROW_TYPES = {
    "str": lambda pa: pa.string(),
    "int": lambda pa: pa.int64(),
    "float": lambda pa: pa.float64(),
    "tuple[float, ...]": lambda pa: pa.list_(pa.float64()),
}


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "pip install 'homeostasis-gym[report]'") from error
    return pyarrow, pyarrow.parquet
