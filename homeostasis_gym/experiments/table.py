"""The table of a comparison, as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homeostasis_gym.collapse import AgentSummary
from homeostasis_gym.usage import Usage

__all__ = ["HEADINGS", "cells", "print_table"]

INVALID_REPLIES = "Invalid replies: share of all replies that were refused"
LOST_STEPS = "Lost steps: no valid reply after the last retry, so nothing was done."

HEADINGS = (
    "agent",
    "episodes",
    "flip rate",
    "median onset",
    "Runaway Index",
    "regret",
    "score",
    "invalid replies",
    "lost steps",
    "seconds",
)


def cells(agent: str, summary: AgentSummary, seconds: float) -> tuple[str, ...]:
    """One agent's row; a dash is unknown, never zero.

    Args:
        agent: The agent's name.
        summary: Its episodes.
        seconds: Time that the agent took to decide, all episodes together.
    """
    s = summary
    unscored = f" ({s.unscored} unscored)" if s.unscored else ""
    return (
        agent,
        str(s.episodes) + (f" ({s.distinct} distinct)" if s.distinct < s.episodes else ""),
        f"{_number(s.flip_rate, 2)}{_interval(s.flip_interval, 2)}{unscored}",
        # None flipped, or fewer than half: then there is no median.
        _number(s.median_onset, 0),
        f"{_number(s.runaway_index, 3)}{_interval(s.runaway_interval, 3)}",
        f"{_number(s.regret, 0)}{_interval(s.regret_interval, 0)}",
        _number(s.score, 0),
        "-" if s.invalid_rate is None else f"{100 * s.invalid_rate:.1f} %",
        str(s.invalid_steps),
        _number(None if seconds != seconds else seconds, 1),  # not a number: nobody took the time
    )


def print_table(
    title: str,
    summaries: Mapping[str, AgentSummary],
    seconds: Mapping[str, float],
    used: Mapping[str, Usage | None] | None = None,
) -> None:
    """Print the table to standard output.

    Args:
        title: Heading.
        summaries: Summary of each agent.
        seconds: Time that each agent took to decide.
        used: Tokens and money of each agent that converses.
    """
    from rich.console import Console

    references: Sequence[str] = sorted({s.reference_policy for s in summaries.values()} - {""})
    rows = [cells(agent, summary, seconds[agent]) for agent, summary in summaries.items()]
    console = Console()
    table = _table(title, rows, narrow=False)
    needed = console.measure(table, options=console.options.update(width=10_000)).maximum
    if not console.is_terminal:
        console.width = max(200, needed)  # a pipe or a file is as wide as the table needs
    elif needed > console.width:
        table = _table(title, rows, narrow=True)
    console.print(table)
    console.print(
        f"Intervals: 95 %. Regret: score of {', '.join(references)} on the same noise minus the agent's, "
        "median; 0 is as good, negative is better."
        if references
        else "Intervals: 95 %.",
        soft_wrap=True,
    )
    refused = [f"{a} {s.invalid_replies} of {s.replies}" for a, s in summaries.items() if s.invalid_replies]
    below = [f"{INVALID_REPLIES} ({', '.join(refused)})."] if refused else []
    if any(s.invalid_steps for s in summaries.values()):
        below.append(LOST_STEPS)
    below += [
        f"{agent}: {one}."
        for agent, one in (used or {}).items()
        if one is not None and one.prompt is not None
    ]
    for line in below:  # as it is: a name may hold what would be markup or an emoji to rich
        console.print(line, soft_wrap=True, markup=False, emoji=False, highlight=False)


def _table(title: str, rows: Sequence[Sequence[str]], *, narrow: bool) -> Any:
    """The table; a narrow one has headings and intervals on several lines, so that nothing is cut off."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    if narrow:
        table.padding, table.pad_edge, table.show_edge = (0, 0), False, False
    for heading in HEADINGS:
        table.add_column(
            heading.replace(" ", "\n") if narrow else heading,
            justify="left" if heading == "agent" else "right",
            no_wrap=not narrow or heading != "agent",  # numbers stay whole, names give way
            overflow="fold",
        )
    for agent, *values in rows:
        if narrow:
            values = [
                value.replace(" [", "\n[").replace(" (", "\n(").replace(", ", ",\n") for value in values
            ]
        # As text: a name may hold what would be markup to rich.
        table.add_row(*(Text(cell) for cell in (agent, *values)))
    return table


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text[1:] if text.startswith("-") and not float(text) else text  # no minus zero


def _interval(interval: tuple[float, float] | None, digits: int) -> str:
    if interval is None:
        return ""
    return f" [{_number(interval[0], digits)}, {_number(interval[1], digits)}]"
