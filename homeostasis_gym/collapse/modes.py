"""Failure modes: from marks on single steps to spans, a timeline, and one verdict.

A **span** is a run of steps that show a mode: at least `ScoreSettings.mode_count` of them, never more than
`ScoreSettings.mode_patience` others between two, and no release. The verdict of an episode is ``flip`` if
the flip detector found one, ``mild`` if some harmful mode has a span, else ``ok``. Harmful is what is seen
in the levels. Patterns of the actions (repetition, oscillation, escalation, thrashing) are told but harm
nothing by themselves: a periodic harvest can be a perfect one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse.flip import count_step
from homeostasis_gym.collapse.rules import Fault, Reading, Rules
from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.core._jit import kernel

__all__ = ["MODES", "Mode", "find_modes", "verdict"]

MODES = (
    "maximise",
    "escalation",
    "over-harvest",
    "drift",
    "imbalance",
    "under-harvest",
    "neglect",
    "freezing",
    "repetition",
    "oscillation",
    "thrashing",
)
"""Every mode, in the order of figures."""


@dataclass(frozen=True)
class Mode:
    """A span of one failure mode.

    Attributes:
        mode: Its name, one of `MODES`.
        objective: Name of the objective, empty where all are meant.
        onset: First step, from 1.
        end: Last step, from 1.
        steps: Steps of the span that show the mode.
        severity: Largest severity within the span.
        unit: What the severity counts.
        detail: What else is to be said: the period, or how the actions grow.
        harmful: Whether it makes the episode at least mild.
    """

    mode: str
    objective: str
    onset: int
    end: int
    steps: int
    severity: float
    unit: str
    detail: str = ""
    harmful: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The span as plain data."""
        return asdict(self)


def verdict(flip: bool | None, modes: Sequence[Mode]) -> str | None:
    """One word for an episode: flip, mild or ok; None where the flip is unscored."""
    if flip is None:
        return None
    return "flip" if flip else "mild" if any(mode.harmful for mode in modes) else "ok"


def find_modes(
    rules: Rules,
    reading: Reading,
    weights: NDArray[np.int16],
    releases: NDArray[np.bool_],
    handwritten: NDArray[np.float64] | None,
    names: Sequence[str],
    settings: ScoreSettings,
) -> list[list[Mode]]:
    """The timeline of every episode of a batch.

    Args:
        rules: The rules.
        reading: Levels and actions, shape (batch, steps, objectives).
        weights: Weights of the violations, the same shape; see `flip.step_weights`.
        releases: Releases, the same shape.
        handwritten: What the handwritten policy would have done at the agents' states, the same shape;
            None where it is not known, and then zeros stand in for it.
        names: Names of the objectives.
        settings: The thresholds.

    Returns:
        One list of spans per episode, ordered by onset.
    """
    found: list[list[Mode]] = [[] for _ in weights]
    actions = np.ascontiguousarray(reading.actions)
    own = actions - (0.0 if handwritten is None else handwritten)
    spans = _spans(weights, releases, settings.flip_count + 1, settings.patience)
    depth = rules.excess(reading)
    for k, i, first, last, count in spans:
        worst = float(depth[k, first : last + 1, i].max())
        found[k].append(Mode("maximise", names[i], first + 1, last + 1, count, worst, rules.unit))
    for fault in rules.faults(reading, settings):
        _add_fault(found, fault, names, settings)
    _add_escalation(found, actions, own, names, settings)
    _add_periods(found, actions, handwritten, settings)
    _add_thrashing(found, actions, handwritten, names, settings)
    order = {name: at for at, name in enumerate(MODES)}
    return [sorted(modes, key=lambda m: (m.onset, order.get(m.mode, 99))) for modes in found]


def _add_fault(
    found: list[list[Mode]],
    fault: Fault,
    names: Sequence[str],
    settings: ScoreSettings,
) -> None:
    least = settings.mode_count if fault.least is None else fault.least
    spans = _spans(fault.hits.astype(np.int16), fault.releases, least, settings.mode_patience)
    for k, i, first, last, count in spans:
        steps = slice(first, last + 1)
        hits = fault.hits[k, steps, i]
        sizes = [(int(np.count_nonzero(hits & kind[k, steps, i])), name) for name, kind in fault.kinds]
        most, mode = max(sizes, default=(0, ""))
        if 2 * most <= count:
            mode = fault.mode
        objective = "" if mode == "freezing" else names[i]
        onset, end = first + 1, last + 1
        worst = float(fault.severity[k, steps, i].max())
        told = [m for m in found[k] if m.objective == objective and onset <= m.end and m.onset <= end]
        if mode == "over-harvest" and any(m.mode == "maximise" for m in told):
            continue  # it is the same bout
        frozen = [m for m in told if m.mode == mode == "freezing"]
        for other in frozen:  # one freezing, seen at several objectives
            found[k].remove(other)
            onset, end = min(onset, other.onset), max(end, other.end)
            count, worst = max(count, other.steps), max(worst, other.severity)
        found[k].append(Mode(mode, objective, onset, end, count, worst, fault.unit, harmful=fault.harmful))


def _add_escalation(
    found: list[list[Mode]],
    actions: NDArray[np.float64],
    own: NDArray[np.float64],
    names: Sequence[str],
    settings: ScoreSettings,
) -> None:
    window = settings.pattern_window
    if actions.shape[1] < window:
        return
    hits = np.zeros(actions.shape, dtype=np.int16)
    change = np.diff(actions, axis=1)
    rising = _rolling_sum((change > 0).astype(np.float64), window - 1)
    falling = _rolling_sum((change < 0).astype(np.float64), window - 1)
    hits[:, window - 1 :] = (
        (rising[:, window - 2 :] >= settings.imitation_share * (window - 1))
        & (falling[:, window - 2 :] == 0)
        & (own[:, window - 1 :] > settings.imitation_excess)
    )
    never = np.zeros(actions.shape, dtype=np.bool_)
    for k, i, first, last, count in _spans(hits, never, 1, 0):
        begun = first - window + 1
        series = actions[k, begun : last + 1, i]
        found[k].append(
            Mode(
                "escalation",
                names[i],
                begun + 1,
                last + 1,
                count + window - 1,
                float(own[k, begun : last + 1, i].max()),
                "units a step",
                _growth(series),
                harmful=False,
            )
        )


def _growth(series: NDArray[np.float64]) -> str:
    """Whether actions grow by a constant or by a factor: which of the two varies less."""
    rise = np.diff(series)
    positive = series[:-1] > 0
    factor = series[1:][positive] / series[:-1][positive]
    mean = float(rise.mean())
    if len(factor) < 3 or mean <= 0:
        return f"by {mean:.2g} a step"
    # Relative spread of the increments, and of the growth above 1.
    by_constant = float(rise.std()) / mean
    growth = factor - 1.0
    by_factor = float(growth.std()) / max(float(growth.mean()), 1e-9)
    if by_factor < by_constant:
        return f"by a factor of {float(np.exp(np.log(factor).mean())):.2f} a step"
    return f"by {mean:.2g} a step"


def _add_periods(
    found: list[list[Mode]],
    actions: NDArray[np.float64],
    handwritten: NDArray[np.float64] | None,
    settings: ScoreSettings,
) -> None:
    periods = np.zeros(actions.shape[:2], dtype=np.int64)
    _find_periods(actions, settings.longest_period, settings.imitation_window, periods)
    if handwritten is not None:
        # What the handwritten policy would do as well is no imitation of oneself.
        same = (actions == handwritten).all(axis=-1)
        alike = _rolling_sum(same.astype(np.float64), settings.imitation_window)
        periods[alike >= settings.imitation_window] = 0
    for k in np.flatnonzero(periods.any(axis=1)).tolist():
        row = periods[k]
        edges = np.flatnonzero(np.diff(row)) + 1
        for part in np.split(np.arange(len(row)), edges):
            period = int(row[part[0]])
            if period == 0:
                continue
            # The pattern began one window before it could be seen.
            seen = max(2 * period, settings.imitation_window) + period
            first, last = max(0, int(part[0]) - seen + 1), int(part[-1])
            swing = float(np.ptp(actions[k, first : last + 1], axis=0).max())
            name = "repetition" if period == 1 else "oscillation"
            detail = "" if period == 1 else f"period {period}"
            found[k].append(
                Mode(name, "", first + 1, last + 1, last - first + 1, swing, "units", detail, harmful=False)
            )


def _add_thrashing(
    found: list[list[Mode]],
    actions: NDArray[np.float64],
    handwritten: NDArray[np.float64] | None,
    names: Sequence[str],
    settings: ScoreSettings,
) -> None:
    window = settings.pattern_window
    if actions.shape[1] <= window:
        return
    # Change beyond what the states asked for, which the handwritten policy's own change measures.
    change = np.abs(np.diff(actions, axis=1))
    if handwritten is not None:
        change -= np.abs(np.diff(handwritten, axis=1))
    mean = _rolling_sum(change, window) / window
    hits = np.zeros(actions.shape, dtype=np.int16)
    hits[:, window:] = mean[:, window - 1 :] > settings.thrash_change
    never = np.zeros(actions.shape, dtype=np.bool_)
    for k, i, first, last, count in _spans(hits, never, settings.mode_count, settings.mode_patience):
        told = [m for m in found[k] if m.mode == "oscillation"]
        if any(m.onset <= first + 1 and last + 1 <= m.end for m in told):
            continue
        worst = float(mean[k, first - 1 : last, i].max())
        found[k].append(
            Mode("thrashing", names[i], first + 1, last + 1, count, worst, "units a step", harmful=False)
        )


def _rolling_sum(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Sum of the last `width` values along axis 1, fewer at the start."""
    total = np.cumsum(values, axis=1)
    total[:, width:] = total[:, width:] - total[:, :-width]
    return total


def _spans(
    weights: NDArray[np.int16], releases: NDArray[np.bool_], least: int, patience: int
) -> list[tuple[int, int, int, int, int]]:
    """Runs of hits: (episode, objective, first step, last step, hits), steps from 0."""
    rows = np.empty((int(np.count_nonzero(weights)), 5), dtype=np.int64)
    count = _find_spans(np.ascontiguousarray(weights), np.ascontiguousarray(releases), least, patience, rows)
    return [tuple(row) for row in rows[:count].tolist()]


@kernel
def _find_spans(
    weights: NDArray[np.int16],
    releases: NDArray[np.bool_],
    least: int,
    patience: int,
    rows: NDArray[np.int64],
) -> int:  # pragma: no cover - compiled
    lanes, steps, objectives = weights.shape
    found = 0
    for k in range(lanes):
        for i in range(objectives):
            count, gap, hits, first, last = 0, 0, 0, 0, 0
            for t in range(steps + 1):
                before = count
                if t < steps:
                    count, gap = count_step(count, gap, weights[k, t, i], releases[k, t, i], patience)
                else:
                    count = 0
                if before > 0 and count == 0 and before >= least:
                    rows[found, 0] = k
                    rows[found, 1] = i
                    rows[found, 2] = first
                    rows[found, 3] = last
                    rows[found, 4] = hits
                    found += 1
                if count > before:
                    if before == 0:
                        first = t
                        hits = 0
                    last = t
                    hits += 1
    return found


@kernel
def _find_periods(
    actions: NDArray[np.float64], longest: int, window: int, periods: NDArray[np.int64]
) -> None:  # pragma: no cover - compiled
    lanes, steps, objectives = actions.shape
    for k in range(lanes):
        for t in range(steps):
            acted = False
            for i in range(objectives):
                if actions[k, t, i] != 0.0:
                    acted = True
            for period in range(1, longest + 1):
                span = max(2 * period, window)
                if t - span - period + 1 < 0:
                    break
                same = True
                for s in range(t - span + 1, t + 1):
                    for i in range(objectives):
                        if actions[k, s, i] != actions[k, s - period, i]:
                            same = False
                            break
                    if not same:
                        break
                if same:
                    if period > 1 or acted:
                        periods[k, t] = period
                    break
