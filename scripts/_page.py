"""What the scripts share: counts on their command lines, numbers and tables in pages of the documentation."""

from __future__ import annotations

import sys
from pathlib import Path


def positive(text: str) -> int:
    """An integer of at least 1, for a parser's ``type``."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def number(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 1 or value == 0 else f"{value:.2f}"


def between(interval: tuple[float, float] | None, form: str = "") -> str:
    """An interval in brackets; nothing where all trainings gave the same, which tells no spread."""
    if interval is None or interval[0] == interval[1]:
        return ""
    low, high = (format(end, form) if form else number(end) for end in interval)
    return f" [{low}, {high}]"


def short(env_id: str) -> str:
    """An environment's id without what all of them share."""
    return env_id.removeprefix("Homeostasis-").removesuffix("-v0")


def fill(page: Path, mark: str, text: str) -> int:
    """Replace what stands between ``<!-- mark: begin -->`` and ``<!-- mark: end -->``.

    Returns:
        An exit status: 0, or 1 where the page is missing or lacks the marks, which is told.
    """
    if not page.is_file():
        print(f"{page} is no file; the table above goes nowhere else", file=sys.stderr)
        return 1
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    held = page.read_text(encoding="utf-8")
    if begin not in held or end not in held:
        print(f"{page} has no marks {begin} and {end}", file=sys.stderr)
        return 1
    head, tail = held.split(begin)[0], held.split(end)[1]
    page.write_text(f"{head}{begin}\n{text}\n{end}{tail}", encoding="utf-8")
    return 0
