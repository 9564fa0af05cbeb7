"""The verb ``label``: a person annotates episodes, blind to the detector.

Episodes come in random order, without the agent's name and without anything that the detector says. Every
answer is written at once, so that the work can be stopped and taken up again.
"""

from __future__ import annotations

import argparse
import codecs
import csv
import getpass
import os
import random
import select
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse import subject_from_dict
from homeostasis_gym.errors import HomeostasisError, RecordError
from homeostasis_gym.experiments.agreement_cli import read_labels
from homeostasis_gym.imports import episode_name, read_logs
from homeostasis_gym.trajectory import Trajectory

__all__ = ["COLUMNS", "add_parser", "braille_plot", "label_episodes"]

COLUMNS = ("file", "label", "onset_step", "objective", "reason", "rater")
_WORDS = {"o": "ok", "m": "mild", "f": "flip"}
_HELP = "o ok   m mild (sloppy or failing, not runaway)   f flip   t table   u undo   s skip   q quit"


def add_parser(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "label",
        help="annotate episodes by hand, blind to the detector",
        description="Show episodes one by one, in random order, without the agent's name and without "
        "anything that the detector says, and write down what you say of them. Stop whenever you like: the "
        "same command goes on where you stopped. The result is a CSV for the verb agreement.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="RUN", help="run folders and logs alike")
    parser.add_argument(
        "--out", type=Path, default=Path("labels.csv"), metavar="CSV", help="labels (labels.csv)"
    )
    parser.add_argument("--rater", default="", help="your name in the table (the user's name)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order (0)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Show episodes and take answers from the keyboard."""
    trajectories = [t for path in arguments.files for t in read_logs(path)]
    rater = arguments.rater or getpass.getuser()
    with _keyboard() as (key, line):
        done = label_episodes(
            trajectories, arguments.out, rater, arguments.seed, key=key, line=line, write=print
        )
    print(f"{done} of {len(trajectories)} episodes labelled by {rater} in {arguments.out}")
    return 0


def label_episodes(
    trajectories: Sequence[Trajectory],
    out: Path,
    rater: str,
    seed: int,
    *,
    key: Callable[[], str],
    line: Callable[[str], str],
    write: Callable[[str], Any],
    width: int | None = None,
) -> int:
    """Take labels for every episode that the rater has not labelled yet.

    Args:
        trajectories: Episodes.
        out: CSV that is continued.
        rater: Name of the person.
        seed: Seed of the order.
        key: Reads one key; empty at the end of the input.
        line: Reads one line after a question.
        write: Shows text.
        width: Columns of the screen; by default the terminal's.

    Returns:
        How many episodes the rater has labelled by now.

    Raises:
        RecordError: The CSV holds something else.
        HomeostasisError: It cannot be written.
    """
    episodes = {episode_name(t): t for t in trajectories}
    order = sorted(episodes)
    random.Random(f"{seed}-{rater}").shuffle(order)
    known: dict[str, Any] = {}
    if out.exists() and out.stat().st_size:
        _check_columns(out)
        known = dict(read_labels(out).get(rater, {}))
    waiting = [name for name in order if name not in known]
    columns = width or min(120, shutil.get_terminal_size((100, 30)).columns)
    history: list[str] = []
    at = 0
    while at < len(waiting):
        name = waiting[at]
        write("")
        write(f"episode {at + 1} of {len(waiting)} left ({len(known) + len(history)} done)")
        write(_picture(episodes[name], columns))
        write(_HELP)
        answer = key()
        if answer in ("q", ""):
            break
        if answer == "t":
            write(_steps(episodes[name]))
        elif answer == "s":
            at += 1
        elif answer == "u":
            if history:
                last = history.pop()
                _drop_last(out)
                at = waiting.index(last)
            else:
                write("nothing to undo")
        elif answer in _WORDS:
            row = _ask(episodes[name], _WORDS[answer], line, write)
            _append(out, {**row, "file": name, "label": _WORDS[answer], "rater": rater})
            history.append(name)
            at += 1
        else:
            write(f"no such key: {answer!r}")
    return len(known) + len(history)


def _ask(t: Trajectory, word: str, line: Callable[[str], str], write: Callable[[str], Any]) -> dict[str, str]:
    """What goes with a label: onset, objective, reason."""
    row = dict.fromkeys(COLUMNS, "")
    if word != "ok":
        while True:
            text = line(f"first step of it (1 to {len(t)}, empty for none): ").strip()
            if not text or (text.isdecimal() and 1 <= int(text) <= len(t)):
                break
            write(f"must be a step from 1 to {len(t)}, got {text!r}")
        row["onset_step"] = text
        names = [n.lower() for n in _names(t)]
        while len(names) > 1:
            text = line(f"which objective ({', '.join(_names(t))}, empty for none): ").strip()
            if not text or text.lower() in names:
                row["objective"] = _names(t)[names.index(text.lower())] if text else ""
                break
            write(f"must be one of {', '.join(_names(t))}, got {text!r}")
    row["reason"] = line("reason (may be empty): ").strip()
    return row


def _check_columns(out: Path) -> None:
    """Refuse to go on in a table of other columns, which rows of ours would spoil."""
    try:
        with out.open(newline="", encoding="utf-8-sig") as file:
            found = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{out} cannot be read: {error}") from error
    if tuple(found) != COLUMNS:
        raise RecordError(
            f"{out}: row 1: `--out` must name a new file or one with the columns {','.join(COLUMNS)}, "
            f"got {','.join(found)}"
        )


def _append(out: Path, row: dict[str, str]) -> None:
    new = not out.exists() or out.stat().st_size == 0
    try:
        with out.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise HomeostasisError(
            f"`--out` must be a file that can be written, but {out}: {error.strerror}"
        ) from error


def _drop_last(out: Path) -> None:
    with out.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    aside = out.with_name(f".{out.name}.part")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[:-1])
    aside.replace(out)


def _names(t: Trajectory) -> tuple[str, ...]:
    if t.header.objective_names:
        return t.header.objective_names
    return tuple(f"objective {i + 1}" for i in range(t.actions.shape[1]))


def _picture(t: Trajectory, columns: int) -> str:
    """Levels against their bands as text, and the actions below."""
    try:
        subject = subject_from_dict(t.header.benchmark)
        levels, bands = subject.levels(t.states), subject.bands(t.states)
    except HomeostasisError:
        levels, bands = t.states, None
    # Totals are to grow together: only on one axis can their distance be seen.
    ends = None
    known = levels[np.isfinite(levels)]
    if bands is None and levels.shape[1] > 1 and known.size:
        ends = (float(known.min()), float(known.max()))
    parts = []
    room = max(40, columns - 12)
    for i, name in enumerate(_names(t)[: levels.shape[1]]):
        edges = [] if bands is None else [float(bands[0][0, i]), float(bands[1][0, i])]
        tail = ", one scale for all" if ends else ""
        tail = f", band {edges[0]:g} to {edges[1]:g} (at the start)" if edges else tail
        parts.append(f"{name}: level{tail}")
        parts.append(braille_plot(levels[:, i], edges, room, 7, ends))
        if i < t.actions.shape[1]:
            parts.append("   action  " + _bars(t.actions[:, i].astype(np.float64), room))
    return "\n".join(parts)


def braille_plot(
    values: NDArray[np.float64],
    rules: Sequence[float],
    width: int,
    height: int,
    ends: tuple[float, float] | None = None,
) -> str:
    """A line of values as braille dots, with dotted lines at some values.

    Args:
        values: Shape (T,).
        rules: Where lines are drawn across.
        width: Columns of text.
        height: Lines of text.
        ends: Lowest and highest value of the axis; by default those of the values and lines.
    """
    finite = [float(v) for v in values if np.isfinite(v)] + list(rules)
    low, high = ends or ((min(finite), max(finite)) if finite else (0.0, 1.0))
    span = high - low or 1.0
    dots = np.zeros((4 * height, 2 * width), dtype=np.bool_)

    def row(value: float) -> int:
        return round((4 * height - 1) * (high - value) / span)

    for rule in rules:
        dots[row(rule), ::4] = True
    places = np.linspace(0, len(values) - 1, 2 * width)
    seen = np.interp(places, np.arange(len(values)), values)
    before: int | None = None
    for x, value in enumerate(seen.tolist()):
        if not np.isfinite(value):
            before = None
            continue
        y = row(value)
        for between in range(min(y, y if before is None else before), max(y, before or y) + 1):
            dots[between, x] = True
        before = y
    bits = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    cells = dots.reshape(height, 4, width, 2).transpose(0, 2, 1, 3)
    codes = 0x2800 + (cells * bits).sum(axis=(2, 3))
    lines = ["".join(map(chr, line)) for line in codes]
    marks = {0: f"{high:.4g}", height - 1: f"{low:.4g}"}
    return "\n".join(f"{marks.get(k, ''):>10} {text}" for k, text in enumerate(lines))


def _bars(values: NDArray[np.float64], width: int) -> str:
    """Values as bars of one line; several steps share a column by their largest."""
    blocks = " ▁▂▃▄▅▆▇█"
    most = max(1.0, float(np.nanmax(values))) if len(values) else 1.0
    parts = np.array_split(values, min(width, len(values))) if len(values) else []
    tops = [float(np.nanmax(part)) for part in parts]
    repeat = max(1, width // max(1, len(tops)))
    text = "".join(blocks[int(np.ceil(8 * max(0.0, top) / most))] * repeat for top in tops)
    return f"{text}  (largest {most:g})"


def _steps(t: Trajectory) -> str:
    """The episode as numbers, for close reading."""
    lines = ["step  state -> action"]
    for k in range(len(t)):
        state = ", ".join(f"{v:g}" for v in t.states[k])
        action = ", ".join(f"{v:g}" for v in t.actions[k])
        lines.append(f"{k + 1:>4}  {state} -> {action}")
    return "\n".join(lines)


@contextmanager
def _keyboard() -> Iterator[tuple[Callable[[], str], Callable[[str], str]]]:
    """Readers of one key and of one line; whole lines where the input is no terminal."""

    def line(question: str) -> str:
        try:
            return input(question)
        except EOFError:
            return ""

    def first() -> str:
        while True:
            text = sys.stdin.readline()
            if not text:
                return ""
            if text.strip():
                return text.strip()[0].lower()

    try:
        import termios
        import tty
    except ImportError:  # no such terminals on this system
        yield first, line
        return
    if not sys.stdin.isatty():
        yield first, line
        return
    handle = sys.stdin.fileno()

    def key() -> str:
        before = termios.tcgetattr(handle)
        try:
            tty.setcbreak(handle)
            # What was typed ahead was meant for an episode that is gone from the screen.
            termios.tcflush(handle, termios.TCIFLUSH)
            return _read_key(handle)
        finally:
            termios.tcsetattr(handle, termios.TCSAFLUSH, before)  # nor does it answer a question

    yield key, line


def _read_key(handle: int) -> str:
    """One key of a terminal, past Python's buffers; the sequences of arrows and the like are passed over."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        data = os.read(handle, 1)
        if not data:
            return ""
        if data == b"\x1b":
            _skip_sequence(handle)
            continue
        text = decoder.decode(data)
        if text in ("\n", "\r"):
            continue
        if text:
            return "" if text == "\x04" else text.lower()


def _skip_sequence(handle: int) -> None:
    """Read what follows an escape at once: a terminal sends such a sequence in one piece."""
    introduced = False
    while select.select([handle], [], [], 0.03)[0]:
        data = os.read(handle, 1)
        if not data:
            return
        if not introduced and data in b"[O":
            introduced = True
        elif not introduced or 0x40 <= data[0] <= 0x7E:
            return
