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

Only ``step``, ``level_X`` and ``action_X`` are needed; what stands there for one objective stands there for
all. A line of the JSON-lines form is one episode: an
object with ``levels`` (T + 1 rows) and ``actions`` (T rows), and optionally ``objectives``, ``states``,
``rewards``, ``reward_names``, ``noise``, ``valid``, ``forbidden``, ``prompts``, ``replies``, ``benchmark``,
``agent``, ``seed``, ``episode``, ``env_id``, ``terminated`` and ``extra``.

Columns and keys of other names are errors, because a misspelt one would be passed over in silence.
"""

from __future__ import annotations

import csv
import json
import math
import reprlib
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
_GROUPS = ("level_", "action_", "next_level_", "lower_", "upper_", "noise_")
_KEYS = (
    "levels",
    "actions",
    "objectives",
    "states",
    "rewards",
    "reward_names",
    "noise",
    "valid",
    "forbidden",
    "prompts",
    "replies",
    "benchmark",
    "agent",
    "seed",
    "episode",
    "env_id",
    "terminated",
    "extra",
)


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
        self._check_columns()

    def _check_columns(self) -> None:
        """Every column must be known, and a group that is there must be there for every objective."""
        known = {"step", "valid", "prompt", "reply", *_WORDS}
        for prefix in _GROUPS:
            group = [f"{prefix}{name}" for name in self.objectives]
            known.update(group)
            for name in group:
                if name not in self.columns and any(other in self.columns for other in group):
                    raise RecordError(
                        f"{self.path}: row 1, column {name!r}: is missing, but other objectives have theirs"
                    )
        first = self.objectives[0]
        for side, other in (("lower_", "upper_"), ("upper_", "lower_")):
            if f"{side}{first}" in self.columns and f"{other}{first}" not in self.columns:
                raise RecordError(
                    f"{self.path}: row 1, column {other + first!r}: is missing, but the other edge is there"
                )
        for name in self.columns:
            if name not in known and not (name.startswith("reward_") and len(name) > len("reward_")):
                raise RecordError(
                    f"{self.path}: row 1, column {name!r}: is not known (homeostasis_gym.imports lists them)"
                )

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

    def whole(self, column: str, k: int) -> int:
        value = self.number(column, k)
        if value != int(value):
            raise RecordError(
                f"{self.path}: row {self.lines[k]}, column {column!r}: must be a whole number, "
                f"got {self.cells[column][k]!r}"
            )
        return int(value)

    def flag(self, column: str, k: int) -> bool:
        value = self.number(column, k)
        if value not in (0.0, 1.0):
            raise RecordError(
                f"{self.path}: row {self.lines[k]}, column {column!r}: must be 0 or 1, "
                f"got {self.cells[column][k]!r}"
            )
        return value == 1.0

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
        following = f"next_level_{names[0]}" in self.cells
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
        if f"noise_{names[0]}" in self.cells:
            data["noise"] = self.block("noise_", names, start, last)
        if "valid" in self.cells:
            data["valid"] = [self.flag("valid", k) for k in range(start, last)]
        for word, key in (("prompt", "prompts"), ("reply", "replies")):
            if word in self.raw:
                data[key] = self.raw[word][start:last]
        for word in ("agent", "env_id"):
            if self.cells.get(word, [""] * stop)[start]:
                data[word] = self.cells[word][start]
        for word in ("episode", "seed"):
            if self.cells.get(word, [""] * stop)[start]:
                data[word] = self.whole(word, start)
        described = self.cells.get("benchmark", [""] * stop)[start]
        if described:
            try:
                data["benchmark"] = json.loads(described)
            except json.JSONDecodeError as error:
                raise RecordError(
                    f"{self.path}: row {self.lines[start]}, column 'benchmark': must be JSON: {error}"
                ) from error
        elif f"lower_{names[0]}" in self.cells:
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
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
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
    for key in data:
        if key not in _KEYS:
            raise RecordError(f"{where}: {key!r} is not known; must be one of {', '.join(_KEYS)}")
    levels = _matrix(data, "levels", where)
    actions = _matrix(data, "actions", where)
    steps, count = actions.shape
    if np.array_equal(actions, np.rint(actions)):
        actions = actions.astype(np.int64)
    names = _names(data, "objectives", where) if "objectives" in data else tuple(objective_names(count))
    if len(names) != count:
        raise RecordError(f"{where}: 'objectives' must hold {count} names, got {len(names)}")
    benchmark = _mapping(data, "benchmark", where)
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
    reward_names = _names(data, "reward_names", where) if "reward_names" in data else ()
    if "rewards" in data:
        rewards = _matrix(data, "rewards", where)
        if reward_names and len(reward_names) != rewards.shape[1]:
            raise RecordError(
                f"{where}: 'reward_names' must hold {rewards.shape[1]} names, got {len(reward_names)}"
            )
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
                env_id=_text(data, "env_id", str(benchmark.get("name", "imported")), where),
                agent=_text(data, "agent", path.stem, where),
                seed=_whole(data, "seed", -1, where),
                episode=_whole(data, "episode", row, where),
                benchmark=benchmark,
                objective_names=names,
                reward_names=reward_names,
                source=path.suffix.lstrip("."),
                extra={
                    **_mapping(data, "extra", where),
                    "file": path.name,
                    **({"row": row + 1} if rows > 1 else {}),
                },
            ),
            observations=levels,
            states=states,
            actions=actions,
            rewards=rewards,
            noise=noise,
            valid=_flags(data, "valid", steps, True, where),
            forbidden=_flags(data, "forbidden", steps, False, where),
            seconds=np.full(steps, np.nan),
            attempts=_attempts(data, steps, where),
            terminated=_flag(data.get("terminated", False), "terminated", where),
        )
    except HomeostasisError as error:
        raise RecordError(f"{where}: {error}") from error


def _matrix(data: Mapping[str, Any], key: str, where: str) -> NDArray[Any]:
    try:
        given = np.asarray(data[key])
        if given.dtype.kind in "USb":
            raise TypeError("texts and truth values are no numbers")
        array = np.asarray(data[key], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise RecordError(f"{where}: {key!r} must hold rows of numbers: {error}") from error
    if array.ndim != 2:
        raise RecordError(f"{where}: {key!r} must hold rows of numbers, got shape {array.shape}")
    return array


def _names(data: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    names = data[key]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise RecordError(f"{where}: {key!r} must be a list of names, got {reprlib.repr(names)}")
    if len(set(names)) < len(names):
        raise RecordError(f"{where}: {key!r} must hold different names, got {reprlib.repr(names)}")
    return tuple(names)


def _mapping(data: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise RecordError(f"{where}: {key!r} must be an object, got {reprlib.repr(value)}")
    return dict(value)


def _text(data: Mapping[str, Any], key: str, default: str, where: str) -> str:
    value = data.get(key, default)
    if not isinstance(value, str):
        raise RecordError(f"{where}: {key!r} must be a text, got {reprlib.repr(value)}")
    return value


def _whole(data: Mapping[str, Any], key: str, default: int, where: str) -> int:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordError(f"{where}: {key!r} must be a whole number, got {reprlib.repr(value)}")
    return value


def _flag(value: Any, key: str, where: str) -> bool:
    if not isinstance(value, bool) and not (isinstance(value, int) and value in (0, 1)):
        raise RecordError(f"{where}: {key!r} must be true or false, got {reprlib.repr(value)}")
    return bool(value)


def _flags(data: Mapping[str, Any], key: str, steps: int, default: bool, where: str) -> NDArray[np.bool_]:
    values = data.get(key, [default] * steps)
    if not isinstance(values, list) or len(values) != steps:
        raise RecordError(f"{where}: {key!r} must hold {steps} truth values, got {reprlib.repr(values)}")
    return np.asarray([_flag(value, key, where) for value in values], dtype=np.bool_)


def _attempts(data: Mapping[str, Any], steps: int, where: str) -> tuple[tuple[Attempt, ...], ...]:
    if "replies" not in data and "prompts" not in data:
        return ()
    columns = []
    for key in ("prompts", "replies"):
        texts = data.get(key, [""] * steps)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise RecordError(f"{where}: {key!r} must be a list of texts, got {reprlib.repr(texts)}")
        if len(texts) != steps:
            raise RecordError(f"{where}: {key!r} must hold {steps} texts, got {len(texts)}")
        columns.append(texts)
    return tuple((Attempt(prompt=prompt, reply=reply),) for prompt, reply in zip(*columns, strict=True))
