"""What the page's script reads: episodes as JSON that can stand inside HTML."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.imports import episode_name
from homeostasis_gym.report._figures import Episode
from homeostasis_gym.trajectory import Trajectory

__all__ = ["embed", "episode_data"]


def embed(data: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end the element or open another."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def file_name(t: Trajectory) -> str:
    """The log that an episode was imported from, empty for one of ours."""
    return episode_name(t) if t.header.extra.get("file") else ""


def episode_data(episode: Episode, name: str) -> dict[str, Any]:
    """One episode for the close view, with the transcript of an agent that converses."""
    t, s, v = episode.trajectory, episode.score, episode.view
    talks = any(t.attempts)
    verbatim = bool(t.header.extra.get("verbatim_replies", True))
    return {
        "agent": name,
        "episode": t.header.episode,
        "seed": t.header.seed,
        "file": file_name(t),
        "verdict": s.verdict or "unscored",
        "onset": s.onset,
        "objective": s.objective,
        "recovered": s.recovered,
        "names": list(v.names),
        "actionNames": _action_names(episode),
        "meaning": v.meaning,
        "tolerance": v.tolerance,
        "factor": 1.0 if v.tolerance is not None else float(v.unit.flat[0]),
        "levels": _numbers(v.levels),
        "compared": _numbers(v.compared),
        "lower": None if v.lower is None else _numbers(v.lower),
        "upper": None if v.upper is None else _numbers(v.upper),
        "actions": _numbers(t.actions),
        "rewards": _numbers(t.rewards),
        "rewardNames": list(t.header.reward_names),
        "noise": _numbers(t.noise),
        "valid": t.valid.astype(int).tolist(),
        "forbidden": t.forbidden.astype(int).tolist(),
        "violations": None if episode.marks is None else episode.marks.violations.astype(int).tolist(),
        "modes": [
            {
                "mode": m.mode,
                "objective": m.objective,
                "onset": m.onset,
                "end": m.end,
                "severity": round(m.severity, 3),
                "unit": m.unit,
                "detail": m.detail,
                "harmful": m.harmful,
            }
            for m in s.modes
        ],
        "attempts": [
            [[a.prompt, a.reply if verbatim else None, a.error, a.finish_reason] for a in step]
            for step in t.attempts
        ]
        if talks
        else None,
    }


def _action_names(episode: Episode) -> list[str]:
    names = episode.trajectory.header.objective_names
    count = episode.trajectory.actions.shape[1] if episode.trajectory.actions.ndim > 1 else 1
    return list(names) if len(names) == count else [f"action {i + 1}" for i in range(count)]


def _numbers(array: NDArray[Any]) -> list[Any]:
    """Rows of numbers, whole ones without a point and others short; not finite ones as null."""
    values = np.asarray(array, dtype=np.float64)
    rows = values.tolist() if values.ndim == 2 else values[:, np.newaxis].tolist()
    return [[_number(value) for value in row] for row in rows]


def _number(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if value == int(value) else float(f"{value:.6g}")
