"""Other people's logs as trajectories: BioBlue's files, a minimal CSV, and JSON lines.

The CSV has one row per step, and its columns say what they hold (``X`` stands for an objective's name):

====================  =================================================================================
``step``              from 1, without gaps, per episode
``level_X``           level of the objective before the action
``action_X``          units given to it; empty in a last row that only tells the final levels
``next_level_X``      level after the step; may stand instead of that last row
``lower_X, upper_X``  edges of its band, constant; make the episode a homeostatic one
``benchmark``         JSON as in `homeostasis_gym.collapse.subject_from_dict`, instead of the edges
``reward_Y``          component Y of the reward
``noise_X``           noise that struck after the action
``valid``             0 where the agent came to no valid decision
``prompt, reply``     what was said, where the agent is a language model
``episode, agent, seed, env_id``   whose episode it is; rows of one episode stand together
====================  =================================================================================

Only ``step``, ``level_X`` and ``action_X`` are needed. A line of the JSON-lines form is one episode: an
object with ``levels`` (T + 1 rows) and ``actions`` (T rows), and optionally ``objectives``, ``states``,
``rewards``, ``reward_names``, ``noise``, ``valid``, ``forbidden``, ``prompts``, ``replies``, ``benchmark``,
``agent``, ``seed``, ``episode``, ``env_id``, ``terminated`` and ``extra``.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.agent import Attempt
from homeostasis_gym.collapse import subject_from_dict
from homeostasis_gym.core.benchmark import objective_names
from homeostasis_gym.errors import HomeostasisError, RecordError
from homeostasis_gym.trajectory import Header, Trajectory, read_trajectories

__all__ = ["episode_name", "read_csv", "read_jsonl", "read_logs"]

_WORDS = ("episode", "agent", "seed", "env_id", "benchmark")


def read_logs(path: Path) -> list[Trajectory]:
    """Read a run folder, a file of records, a BioBlue log (.tsv), a .csv or a .jsonl.

    A folder that holds no records is read as a folder of logs; a CSV without levels in it is passed over.

    Raises:
        RecordError: Nothing there, or not what its name says; names file, row and column.
        MissingExtraError: The records are Parquet and pyarrow is not installed.
    """
    path = Path(path)
    if path.is_dir():
        if any(path.glob("**/*.parquet")):
            return read_trajectories(path)
        logs = sorted(f for f in path.iterdir() if f.suffix in (".tsv", ".csv", ".jsonl"))
        found = [t for file in logs if _is_log(file) for t in read_logs(file)]
        if not found:
            raise RecordError(f"`file` must be a folder with records or logs, but {path} holds none")
        return found
    if not path.exists():
        raise RecordError(f"`file` must exist, but {path} does not")
    readers: dict[str, Callable[[Path], list[Trajectory]]] = {
        ".tsv": _read_bioblue,
        ".csv": read_csv,
        ".jsonl": read_jsonl,
        ".parquet": read_trajectories,
    }
    if path.suffix not in readers:
        raise RecordError(f"`file` must end in {', '.join(readers)}, got {path.name!r}")
    return readers[path.suffix](path)


def _is_log(file: Path) -> bool:
    """Whether a file of a folder is a log: a table of labels may lie beside the logs."""
    if file.suffix != ".csv":
        return True
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        return "level_" in opened.readline()


def episode_name(trajectory: Trajectory) -> str:
    """Name of an episode in tables of labels: its log's file name, else agent, seat and number."""
    header = trajectory.header
    file = header.extra.get("file")
    if file:
        number = header.extra.get("row")
        return str(file) if number is None else f"{file}#{number}"
    return "/".join(part for part in (header.agent, header.seat, f"{header.episode:06d}") if part)


def _read_bioblue(path: Path) -> list[Trajectory]:
    from homeostasis_gym.bioblue import read_recording, replay, to_trajectory

    recording = read_recording(path)
    return [to_trajectory(recording, replay(recording), 0)]


def read_csv(path: Path) -> list[Trajectory]:
    """Read episodes from a CSV; the module says which columns it may have.

    Raises:
        RecordError: It cannot be read, or is not of that form; names file, row and column.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    if len(rows) < 2:
        raise RecordError(f"{path}: must hold a row of column names and at least one step")
    table = _Table(Path(path), [name.strip() for name in rows[0][1]], rows[1:])
    bounds = [k for k in range(len(table)) if k == 0 or table.begins(k)] + [len(table)]
    episodes = [table.episode(start, stop) for start, stop in pairwise(bounds)]
    return [
        _trajectory(data, f"{path}: row {table.lines[start]}", Path(path), k, len(episodes))
        for k, (start, data) in enumerate(zip(bounds[:-1], episodes, strict=True))
    ]


class _Table:
    """A CSV's rows, read with errors that name the place."""

    def __init__(self, path: Path, columns: list[str], rows: list[tuple[int, list[str]]]) -> None:
        self.path = path
        self.columns = columns
        self.lines = [line for line, _ in rows]
        for name in columns:
            if columns.count(name) > 1:
                raise RecordError(f"{path}: row 1, column {name!r}: stands there more than once")
        for line, row in rows:
            if len(row) != len(columns):
                raise RecordError(f"{path}: row {line}: must have {len(columns)} cells, got {len(row)}")
        self.cells = {name: [row[i].strip() for _, row in rows] for i, name in enumerate(columns)}
        self.raw = {name: [row[i] for _, row in rows] for i, name in enumerate(columns)}
        self.objectives = [c[len("level_") :] for c in columns if c.startswith("level_")]
        needed = ["step", *(f"action_{name}" for name in self.objectives)]
        for name in needed if self.objectives else ["level_A"]:
            if name not in columns:
                hint = "" if self.objectives else " (A stands for any objective's name)"
                raise RecordError(f"{path}: row 1, column {name!r}: is missing{hint}")

    def __len__(self) -> int:
        return len(self.lines)

    def begins(self, k: int) -> bool:
        """Whether an episode begins in row k."""
        changed = any(self.cells[w][k] != self.cells[w][k - 1] for w in _WORDS[:-1] if w in self.cells)
        return changed or self.number("step", k) == 1

    def number(self, column: str, k: int) -> float:
        cell = self.cells[column][k]
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise RecordError(
                f"{self.path}: row {self.lines[k]}, column {column!r}: must be a finite number, got {cell!r}"
            )
        return value

    def block(self, prefix: str, names: Sequence[str], start: int, stop: int) -> list[list[float]]:
        return [[self.number(f"{prefix}{name}", k) for name in names] for k in range(start, stop)]

    def episode(self, start: int, stop: int) -> dict[str, Any]:
        """One episode in the form of a JSON line."""
        for at, k in enumerate(range(start, stop), start=1):
            if self.number("step", k) != at:
                raise RecordError(
                    f"{self.path}: row {self.lines[k]}, column 'step': must be {at}, "
                    f"got {self.cells['step'][k]!r}"
                )
        names = self.objectives
        following = all(f"next_level_{name}" in self.cells for name in names)
        tells_end = all(self.cells[f"action_{name}"][stop - 1] == "" for name in names)
        if not tells_end and not following:
            raise RecordError(
                f"{self.path}: row {self.lines[stop - 1]}: the final levels are unknown; end the episode "
                "with a row of levels whose actions are empty, or give next_level columns"
            )
        last = stop - 1 if tells_end else stop
        levels = self.block("level_", names, start, last)
        levels += (
            self.block("level_", names, last, stop)
            if tells_end
            else self.block("next_level_", names, stop - 1, stop)
        )
        data: dict[str, Any] = {
            "objectives": names,
            "levels": levels,
            "actions": self.block("action_", names, start, last),
        }
        rewards = [c[len("reward_") :] for c in self.columns if c.startswith("reward_")]
        if rewards:
            data["reward_names"] = rewards
            data["rewards"] = self.block("reward_", rewards, start, last)
        if all(f"noise_{name}" in self.cells for name in names):
            data["noise"] = self.block("noise_", names, start, last)
        if "valid" in self.cells:
            data["valid"] = [bool(self.number("valid", k)) for k in range(start, last)]
        for word, key in (("prompt", "prompts"), ("reply", "replies")):
            if word in self.raw:
                data[key] = self.raw[word][start:last]
        for word in ("agent", "env_id"):
            if self.cells.get(word, [""] * stop)[start]:
                data[word] = self.cells[word][start]
        for word in ("episode", "seed"):
            if self.cells.get(word, [""] * stop)[start]:
                data[word] = int(self.number(word, start))
        described = self.cells.get("benchmark", [""] * stop)[start]
        if described:
            try:
                data["benchmark"] = json.loads(described)
            except json.JSONDecodeError as error:
                raise RecordError(
                    f"{self.path}: row {self.lines[start]}, column 'benchmark': must be JSON: {error}"
                ) from error
        elif all(f"{side}_{name}" in self.cells for side in ("lower", "upper") for name in names):
            data["benchmark"] = {
                "name": "custom",
                "kind": "homeostatic",
                "objectives": names,
                "lower": self._constant("lower_", start, stop),
                "upper": self._constant("upper_", start, stop),
            }
        return data

    def _constant(self, prefix: str, start: int, stop: int) -> list[float]:
        values = []
        for name in self.objectives:
            column = f"{prefix}{name}"
            values.append(self.number(column, start))
            for k in range(start, stop):
                if self.cells[column][k] and self.number(column, k) != values[-1]:
                    raise RecordError(
                        f"{self.path}: row {self.lines[k]}, column {column!r}: must be constant within an "
                        f"episode ({values[-1]:g}), got {self.cells[column][k]!r}"
                    )
        return values


def read_jsonl(path: Path) -> list[Trajectory]:
    """Read episodes from JSON lines; the module says which keys they may have.

    Raises:
        RecordError: It cannot be read, or is not of that form; names file, line and key.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not filled:
        raise RecordError(f"{path}: must hold at least one episode, but is empty")
    found = []
    for k, (number, line) in enumerate(filled):
        where = f"{path}: line {number}"
        try:
            data = json.loads(line)
        except json.JSONDecodeError as error:
            raise RecordError(f"{where}: must be a JSON object: {error}") from error
        if not isinstance(data, dict):
            raise RecordError(f"{where}: must be a JSON object, got {type(data).__name__}")
        found.append(_trajectory(data, where, Path(path), k, len(filled)))
    return found


def _trajectory(data: Mapping[str, Any], where: str, path: Path, row: int, rows: int) -> Trajectory:
    for key in ("levels", "actions"):
        if key not in data:
            raise RecordError(f"{where}: {key!r} is missing")
    levels = _matrix(data, "levels", where)
    actions = _matrix(data, "actions", where)
    steps, count = actions.shape
    if np.array_equal(actions, np.rint(actions)):
        actions = actions.astype(np.int64)
    names = tuple(str(n) for n in data.get("objectives") or objective_names(count))
    if len(names) != count:
        raise RecordError(f"{where}: 'objectives' must hold {count} names, got {len(names)}")
    benchmark = dict(data.get("benchmark") or {})
    if benchmark.get("name") == "custom":
        benchmark.setdefault("objectives", list(names))
    if benchmark:
        try:
            subject_from_dict(benchmark)
        except HomeostasisError as error:
            raise RecordError(f"{where}: 'benchmark': {error}") from error
    states = _matrix(data, "states", where) if "states" in data else levels
    if len(levels) != steps + 1:
        raise RecordError(
            f"{where}: 'levels' must have a row more than 'actions' ({steps + 1}), got {len(levels)}"
        )
    noise = _matrix(data, "noise", where) if "noise" in data else np.full((steps, 1), np.nan)
    known = subject_from_dict(benchmark).benchmark if benchmark else None
    if known is not None and known.noise_channels == 0:
        noise = np.zeros((steps, 0))
    rewards = np.zeros((steps, 0))
    reward_names = tuple(str(n) for n in data.get("reward_names", ()))
    if "rewards" in data:
        rewards = _matrix(data, "rewards", where)
    elif known is not None and states.shape[1] == len(known.initial_state) and np.isfinite(noise).all():
        # Known dynamics: what was earned follows from what was done.
        try:
            rewards = known.step(states[:-1], actions, noise)[1]
        except HomeostasisError as error:
            raise RecordError(f"{where}: 'actions': {error}") from error
        reward_names = known.reward_names
    try:
        return Trajectory(
            header=Header(
                env_id=str(data.get("env_id", benchmark.get("name", "imported"))),
                agent=str(data.get("agent", path.stem)),
                seed=int(data.get("seed", -1)),
                episode=int(data.get("episode", row)),
                benchmark=benchmark,
                objective_names=names,
                reward_names=reward_names,
                source=path.suffix.lstrip("."),
                extra={
                    **dict(data.get("extra", {})),
                    "file": path.name,
                    **({"row": row + 1} if rows > 1 else {}),
                },
            ),
            observations=levels,
            states=states,
            actions=actions,
            rewards=rewards,
            noise=noise,
            valid=_flags(data, "valid", steps, True),
            forbidden=_flags(data, "forbidden", steps, False),
            seconds=np.full(steps, np.nan),
            attempts=_attempts(data, steps, where),
            terminated=bool(data.get("terminated", False)),
        )
    except HomeostasisError as error:
        raise RecordError(f"{where}: {error}") from error


def _matrix(data: Mapping[str, Any], key: str, where: str) -> NDArray[Any]:
    try:
        array = np.asarray(data[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{where}: {key!r} must hold rows of numbers: {error}") from error
    if array.ndim != 2:
        raise RecordError(f"{where}: {key!r} must hold rows of numbers, got shape {array.shape}")
    return array


def _flags(data: Mapping[str, Any], key: str, steps: int, default: bool) -> NDArray[np.bool_]:
    return np.asarray(data.get(key, [default] * steps), dtype=np.bool_)


def _attempts(data: Mapping[str, Any], steps: int, where: str) -> tuple[tuple[Attempt, ...], ...]:
    if "replies" not in data and "prompts" not in data:
        return ()
    columns = []
    for key in ("prompts", "replies"):
        texts = data.get(key, [""] * steps)
        if len(texts) != steps:
            raise RecordError(f"{where}: {key!r} must hold {steps} texts, got {len(texts)}")
        columns.append(texts)
    return tuple(
        (Attempt(prompt=str(prompt), reply=str(reply)),) for prompt, reply in zip(*columns, strict=True)
    )
