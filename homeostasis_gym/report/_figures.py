"""The figures of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse import EpisodeScore, Mode, OnsetCurve, StepMarks
from homeostasis_gym.report._svg import Axis, area, element, line, marks, short, svg, text
from homeostasis_gym.report._view import View
from homeostasis_gym.trajectory import Trajectory

__all__ = [
    "Episode",
    "curve_figure",
    "estimate_figure",
    "lanes",
    "levels_figures",
    "mini_figure",
    "raster_figure",
]

_COLOURS = 8


@dataclass(frozen=True)
class Episode:
    """One episode with everything that the page shows of it."""

    trajectory: Trajectory
    score: EpisodeScore
    view: View
    marks: StepMarks | None


def colour(index: int) -> str:
    """Style class of an objective."""
    return f"o{index % _COLOURS}"


def levels_figures(episodes: Sequence[Episode]) -> list[Any]:
    """One figure per objective: the level in every episode, its band, every onset.

    Args:
        episodes: Episodes of one agent; those that show other things get figures of their own.
    """
    alike: dict[tuple[tuple[str, ...], str], list[Episode]] = {}
    for episode in episodes:
        alike.setdefault((episode.view.names, episode.view.meaning), []).append(episode)
    return [
        _levels_figure(group, i, name) for (names, _), group in alike.items() for i, name in enumerate(names)
    ]


def _levels_figure(episodes: Sequence[Episode], index: int, name: str) -> Any:
    width, height, left, right, top, bottom = 440.0, 230.0, 48.0, 10.0, 26.0, 34.0
    longest = max(episodes, key=lambda e: len(e.trajectory))
    shown = longest.view
    x = Axis(0, len(longest.trajectory), left, width - right)
    series = [_series(e.view, index) for e in episodes]
    finite = np.concatenate([s[np.isfinite(s)] for s in series])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    centre, unit = 0.0, math.inf
    edges: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    if shown.lower is not None and shown.upper is not None:
        centre, unit = float(shown.centre[0, index]), float(shown.unit[0, index])
        edges = shown.lower[:, index], shown.upper[:, index]
    elif shown.tolerance is not None:
        unit = float(shown.unit[0, index])
        edges = np.full(len(shown.levels), -unit), np.full(len(shown.levels), unit)
    if edges is not None:
        low = min(low, float(edges[0].min()) - 0.3 * unit)
        high = max(high, float(edges[1].max()) + 0.3 * unit)
    y = Axis(low, high, height - bottom, top, centre, unit)
    parts: list[Any] = []
    if edges is not None:
        steps = x(np.arange(len(shown.levels))).tolist()
        parts.append(area(steps, y(edges[0]).tolist(), y(edges[1]).tolist(), "band"))
    parts += _frame(x, y, width - right, height - bottom)
    opacity = max(0.12, min(0.9, 2.5 / math.sqrt(len(episodes) + 4)))
    for e, values in zip(episodes, series, strict=True):
        style = f"{colour(index)} flipped" if e.score.flip else colour(index)
        parts.append(line(x(np.arange(len(values))).tolist(), y(values).tolist(), style, opacity=opacity))
    parts.extend(
        _onset(float(x(e.score.onset - 1)), float(y(values[e.score.onset - 1])))
        for e, values in zip(episodes, series, strict=True)
        if e.score.onset is not None and _belongs(name, e.score.objective)
    )
    what = "lead over the lowest other total" if not shown.banded and shown.tolerance is not None else "level"
    caption = f"{name}: {what}, {len(episodes)} episode{'s' if len(episodes) != 1 else ''}"
    parts.append(text(left, 15, caption, "caption"))
    parts.append(text(width - right, height - 4, "step", "tick", "end"))
    return svg(width, height, *parts, label=caption)


def _series(shown: View, index: int) -> NDArray[np.float64]:
    """What the figure of one objective draws: its level, or its lead where only the lead matters."""
    values = shown.levels[:, index]
    if shown.banded or shown.tolerance is None:
        return values
    lead: NDArray[np.float64] = values - np.delete(shown.levels, index, axis=1).min(axis=1)
    return lead


def _belongs(name: str, objective: str | None) -> bool:
    """Whether a figure is of an objective: of several agents each has one of that name."""
    return objective is not None and (name == objective or name.endswith(f" {objective}"))


def _frame(x: Axis, y: Axis, right: float, base: float) -> list[Any]:
    parts = []
    for value in y.ticks():
        place = float(y(value))
        parts.append(line([x.start, right], [place, place], "grid"))
        parts.append(text(x.start - 6, place + 4, short(value), "tick", "end"))
    parts.extend(text(float(x(v)), base + 15, short(v), "tick", "middle") for v in x.ticks(60))
    return parts


def _onset(x: float, y: float) -> Any:
    return element("circle", element("title", "onset of the flip"), cx=x, cy=y, r=4, class_="onset")


def mini_figure(episode: Episode) -> Any:
    """One episode at a glance: levels against the band, noise, violations, failure modes, onset."""
    width, height, left, right, top, bottom = 230.0, 140.0, 4.0, 4.0, 4.0, 38.0
    shown = episode.view
    values = shown.compared
    x = Axis(0, max(1, len(episode.trajectory)), left, width - right)
    finite = values[np.isfinite(values)]
    reach = (-1.5, 1.5) if shown.tolerance is not None else (0.0, 0.0)
    low, high = (float(end) for end in (min([*reach, *finite]), max([*reach, *finite])))
    y = Axis(low, high, height - bottom, top, 0.0, 1.0 if shown.tolerance is not None else math.inf)
    edges = [float(x.start), float(x.stop)]
    parts: list[Any] = []
    if shown.tolerance is not None:
        parts.append(area(edges, [float(y(-shown.tolerance))] * 2, [float(y(shown.tolerance))] * 2, "band"))
    if low < 0.0 < high:
        parts.append(line(edges, [float(y(0.0))] * 2, "grid"))
    steps = x(np.arange(len(values))).tolist()
    parts.extend(line(steps, y(values[:, i]).tolist(), colour(i)) for i in range(values.shape[1]))
    base = height - bottom + 4
    parts += _noise_marks(episode.trajectory.noise, x, base)
    if episode.marks is not None:
        count = episode.marks.violations.shape[1]
        tall = 6.0 / count
        for i in range(count):
            at = np.flatnonzero(episode.marks.violations[:, i])
            row = base + 9 + i * tall
            parts.append(marks((x(at + 0.5)).tolist(), row, row + tall, f"{colour(i)} violation"))
    if episode.score.onset is not None:
        place = float(x(episode.score.onset - 1))
        parts.append(line([place, place], [top, height - bottom], "onset-line"))
    parts += _timeline(episode.score.modes, x, base + 18, 14.0)
    h = episode.trajectory.header
    return svg(
        width,
        height,
        *parts,
        label=f"episode {h.episode}, seed {h.seed}",
        class_="mini",
        preserveAspectRatio="none",
    )


def lanes(modes: Sequence[Mode]) -> list[int]:
    """A lane for every span so that none lies upon another: the first that is free."""
    ends: list[int] = []
    chosen = []
    for mode in modes:
        lane = next((k for k, end in enumerate(ends) if end < mode.onset), len(ends))
        if lane == len(ends):
            ends.append(0)
        ends[lane] = mode.end
        chosen.append(lane)
    return chosen


def _timeline(modes: Sequence[Mode], x: Axis, base: float, room: float) -> list[Any]:
    """Failure modes as bars over their spans."""
    chosen = lanes(modes)
    count = max(chosen, default=0) + 1
    tall = min(4.0, room / count)
    parts = []
    for mode, lane in zip(modes, chosen, strict=True):
        begun, end = float(x(mode.onset - 1)), float(x(mode.end))
        label = " ".join(
            part for part in (mode.mode, mode.objective, f"{mode.onset}-{mode.end}", mode.detail) if part
        )
        parts.append(
            element(
                "rect",
                element("title", label),
                x=begun,
                y=base + lane * tall,
                width=max(1.0, end - begun),
                height=tall * 0.85,
                class_=f"mode {mode.mode}",
            )
        )
    return parts


def curve_figure(curve: OnsetCurve, longest: int) -> Any:
    """Share of episodes still without a flip, with its interval."""
    width, height, left, right, top, bottom = 440.0, 200.0, 48.0, 10.0, 26.0, 34.0
    x = Axis(0, longest, left, width - right)
    y = Axis(0.0, 1.0, height - bottom, top)
    parts = _frame(x, y, width - right, height - bottom)

    def stairs(values: Sequence[float]) -> tuple[list[float], list[float]]:
        xs, ys = [], []
        for k, value in enumerate(values):
            stop = curve.steps[k + 1] if k + 1 < len(values) else float(longest)
            xs += [float(x(curve.steps[k])), float(x(max(stop, curve.steps[k])))]
            ys += [float(y(value))] * 2
        return xs, ys

    xs, low = stairs(curve.low)
    high = stairs(curve.high)[1]
    parts.append(area(xs, low, high, "spread"))
    parts.append(line(*stairs(curve.surviving), "curve"))
    parts.append(text(left, 15, "Share of episodes without a flip so far", "caption"))
    parts.append(text(width - right, height - 4, "step", "tick", "end"))
    return svg(width, height, *parts, label="Kaplan-Meier curve of the onset")


def _noise_marks(noise: NDArray[np.float64], x: Axis, base: float) -> list[Any]:
    """How hard the noise struck at every step: the sum over its channels as a small bar."""
    if noise.size == 0:
        return []
    total = np.nan_to_num(np.abs(noise).sum(axis=1))
    if total.max() == 0:
        return []
    tall = 7.0 * total / total.max()
    path = "".join(
        f"M{place:.1f} {base + 7:.1f}v{-size:.1f}"
        for place, size in zip(x(np.arange(len(total)) + 0.5), tall, strict=True)
        if size > 0.05
    )
    return [element("path", d=path, class_="line noise")]


def estimate_figure(
    title: str,
    rows: Sequence[tuple[str, float | None, tuple[float, float] | None, Sequence[float]]],
    *,
    bounds: tuple[float, float] | None = None,
    bent: bool = False,
) -> Any:
    """An estimate with its interval per agent, above the single episodes behind it.

    Args:
        title: What is estimated.
        rows: Name, estimate, interval and the values of the single episodes, per agent.
        bounds: Ends of the axis; by default the range of all values.
        bent: Whether the axis is logarithmic away from zero.
    """
    width, left, right, pitch = 340.0, 12.0, 14.0, 40.0
    height = 30.0 + pitch * len(rows) + 26.0
    everything = [v for _, e, i, vs in rows for v in (*(() if e is None else (e,)), *(i or ()), *vs)]
    finite = [v for v in everything if math.isfinite(v)]
    low, high = bounds or ((min(finite), max(finite)) if finite else (0.0, 1.0))
    if bounds is None:
        low, high = min(low, 0.0), max(high, 1.0)
    x = Axis(low, high, left, width - right, 0.0, 100.0 if bent else math.inf)
    base = height - 24.0
    parts: list[Any] = [text(left, 15, title, "caption")]
    for value in x.ticks(52):
        place = float(x(value))
        parts.append(line([place, place], [24.0, base], "grid"))
        parts.append(text(place, base + 15, short(value), "tick", "middle"))
    for k, (name, estimate, interval, values) in enumerate(rows):
        row = 30.0 + pitch * k
        middle = row + 24.0
        parts.append(text(left, row + 10, name, "row"))
        jitter = np.linspace(-5.0, 5.0, 7)
        for j, value in enumerate(values):
            if math.isfinite(value):
                parts.append(
                    element(
                        "circle",
                        cx=float(x(value)),
                        cy=middle + float(jitter[j * 3 % 7]),
                        r=2,
                        class_="single",
                    )
                )
        if interval is not None:
            parts.append(line([float(x(v)) for v in interval], [middle, middle], "interval"))
        if estimate is not None and math.isfinite(estimate):
            parts.append(element("circle", cx=float(x(estimate)), cy=middle, r=4.5, class_="estimate"))
        else:
            parts.append(text(left, middle + 4, "not known", "tick"))
    return svg(width, height, *parts, label=title)


def raster_figure(title: str, groups: Sequence[tuple[str, Sequence[EpisodeScore]]]) -> Any:
    """Every episode as a bar over its steps, coloured by verdict and from the onset of its flip on."""
    width, left, right = 340.0, 12.0, 14.0
    longest = max((s.steps for _, scores in groups for s in scores), default=1)
    x = Axis(0, max(1, longest), left, width - right)
    parts: list[Any] = [text(left, 15, title, "caption")]
    row = 24.0
    for name, scores in groups:
        parts.append(text(left, row + 12, name, "row"))
        row += 17
        pitch = max(0.6, min(5.0, 60.0 / max(1, len(scores))))
        calm, mild, flipped, unknown = "", "", "", ""
        ordered = sorted(
            scores, key=lambda s: (s.onset if s.onset is not None else math.inf, s.verdict != "mild")
        )
        for s in ordered:
            end = float(x(s.steps))
            if s.flip is None:
                unknown += f"M{x.start:.1f} {row:.1f}H{end:.1f}"
            else:
                begun = float(x(s.onset - 1)) if s.onset is not None else end
                before = f"M{x.start:.1f} {row:.1f}H{begun:.1f}"
                if s.verdict == "mild":
                    mild += before
                else:
                    calm += before
                if s.onset is not None:
                    flipped += f"M{begun:.1f} {row:.1f}H{end:.1f}"
            row += pitch
        thick = pitch * 0.8
        for path, style in ((calm, "calm"), (mild, "mild"), (flipped, "flip"), (unknown, "unknown")):
            if path:
                parts.append(element("path", d=path, class_=f"bar {style}", stroke_width=thick))
        row += 9
    parts.extend(text(float(x(v)), row + 10, short(v), "tick", "middle") for v in x.ticks(52))
    height = row + 18
    parts.append(text(width - right, 15, "step", "tick", "end"))
    return svg(width, height, *parts, label=title)
