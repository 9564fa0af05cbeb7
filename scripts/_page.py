"""What the scripts share: counts on their command lines, and tables in pages of the documentation."""

from __future__ import annotations

import sys
from pathlib import Path


def positive(text: str) -> int:
    """An integer of at least 1, for a parser's ``type``."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


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
