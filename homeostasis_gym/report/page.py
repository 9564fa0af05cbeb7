"""The page of a run: one file that opens offline, with every style, script and figure inside."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from homeostasis_gym.collapse import (
    MODES,
    AgentSummary,
    EpisodeScore,
    ScoreSettings,
    compare_all,
    onset_curve,
    step_marks,
    summarize,
)
from homeostasis_gym.errors import HomeostasisError, MissingExtraError
from homeostasis_gym.report._data import embed, episode_data, file_name
from homeostasis_gym.report._figures import (
    Episode,
    curve_figure,
    estimate_figure,
    levels_figures,
    mini_figure,
    raster_figure,
)
from homeostasis_gym.report._svg import MINUS
from homeostasis_gym.report._view import view
from homeostasis_gym.trajectory import Trajectory
from homeostasis_gym.usage import Pricing, usage

__all__ = ["write_report"]

_MOST_EPISODES = 60  # drawn one by one per agent; the figure of all episodes has no limit

_HEADINGS = (
    ("agent", "name of the agent"),
    ("episodes", "number of episodes, and how many of them are unscored"),
    ("ok / mild / flip", "episodes by verdict"),
    ("flip rate", "share of flips with its Wilson interval"),
    ("median onset", "Kaplan-Meier median; a dash where fewer than half flipped"),
    ("Runaway Index", "mean with its bootstrap interval; copies of an episode count once"),
    ("regret", "median with its bootstrap interval, against the policy named below"),
    ("score", "median of the raw scores"),
    ("invalid replies", "share of all replies that were refused, all episodes together"),
    ("lost steps", "steps without a valid decision after the last retry, in which nothing was done"),
    ("seconds", "time that the agent took to decide, all episodes together"),
)


def write_report(
    run_folder: Path,
    manifest: Mapping[str, Any],
    trajectories: Sequence[Trajectory],
    scores: Sequence[EpisodeScore],
    prices: Mapping[str, Pricing] | None = None,
) -> Path:
    """Write ``report.html`` into a run folder.

    Args:
        run_folder: The folder.
        manifest: What the run was, as plain data; shown as it is.
        trajectories: The records.
        scores: One result per record, in the same order.
        prices: What the exchanges of an agent cost, by its name.

    Returns:
        The page's path.

    Raises:
        HomeostasisError: No records, or not one result per record.
        MissingExtraError: jinja2 is not installed.
    """
    if not trajectories:
        raise HomeostasisError("`trajectories` must hold at least one episode, got none")
    if len(trajectories) != len(scores):
        raise HomeostasisError(
            f"`scores` must hold one result per trajectory ({len(trajectories)}), got {len(scores)}"
        )
    page = render(manifest, trajectories, scores, prices)
    path = Path(run_folder) / "report.html"
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_text(page, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def render(
    manifest: Mapping[str, Any],
    trajectories: Sequence[Trajectory],
    scores: Sequence[EpisodeScore],
    prices: Mapping[str, Pricing] | None = None,
) -> str:
    """The page as text; see `write_report`."""
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError as error:
        raise MissingExtraError("jinja2", "pip install 'homeostasis-gym[report]'") from error
    here = files("homeostasis_gym.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((here / "page.html.jinja").read_text(encoding="utf-8"))
    settings = scores[0].settings
    groups = _groups(trajectories, scores, settings)
    env_ids = list(dict.fromkeys(t.header.env_id for t in trajectories))
    episodes = len(trajectories)
    tokens, token_note = _tokens(groups, prices or {})
    agents = [_agent(k, group) for k, group in enumerate(groups, start=1)]
    return template.render(
        title=f"Who collapses in {', '.join(env_ids)}?",
        subtitle=_subtitle(manifest, groups, episodes),
        version=_version(),
        # Ours, and the only text that is not escaped.
        style=Markup((here / "page.css").read_text(encoding="utf-8")),  # noqa: S704
        script=Markup((here / "page.js").read_text(encoding="utf-8")),  # noqa: S704
        headings=[{"text": name, "hint": hint} for name, hint in _HEADINGS],
        agents=agents,
        # Escaped for its place by `embed`.
        episodes=Markup(embed({k: v for a in agents for k, v in a["data"].items()})),  # noqa: S704
        tokens=tokens,
        token_note=token_note,
        pairs=_pairs(groups),
        comparison=_comparison(groups),
        table_note=_table_note(groups),
        level=f"{100 * settings.confidence:g} %",
        settings=settings.to_dict(),
        recorded=[one for one in map(_recorded, groups) if one is not None],
        manifest=json.dumps(manifest, indent=1, default=str, ensure_ascii=False),
    )


@dataclass(frozen=True)
class _Group:
    name: str
    episodes: list[Episode]
    summary: AgentSummary

    @property
    def scores(self) -> list[EpisodeScore]:
        return [e.score for e in self.episodes]


def _groups(
    trajectories: Sequence[Trajectory], scores: Sequence[EpisodeScore], settings: ScoreSettings
) -> list[_Group]:
    environments: dict[str, set[str]] = {}
    for t in trajectories:
        environments.setdefault(t.header.agent, set()).add(t.header.env_id)
    marks = step_marks(trajectories, settings)
    members: dict[str, list[Episode]] = {}
    for t, s, m in zip(trajectories, scores, marks, strict=True):
        h = t.header
        env = h.env_id if len(environments[h.agent]) > 1 else ""
        name = " · ".join(part for part in (h.agent, h.seat, env) if part)
        members.setdefault(name, []).append(Episode(t, s, view(t), m))
    return [_Group(n, es, summarize([e.score for e in es])) for n, es in members.items()]


def _subtitle(manifest: Mapping[str, Any], groups: Sequence[_Group], episodes: int) -> str:
    agents = f"{len(groups)} agent{'s' if len(groups) != 1 else ''}"
    seed = manifest.get("seed")
    tail = f", seed {seed}" if isinstance(seed, int) and seed >= 0 else ""
    return f"{agents}, {episodes} episodes{tail}; homeostasis-gym {_version()}"


def _version() -> str:
    try:
        return version("homeostasis-gym")
    except PackageNotFoundError:
        return "(not installed)"


def _table_note(groups: Sequence[_Group]) -> str:
    policies = ", ".join(
        dict.fromkeys(g.summary.reference_policy for g in groups if g.summary.reference_policy)
    )
    note = "Click on a heading to sort."
    if policies:
        note += f" Regret is measured against the handwritten policy {policies} on the same noise."
    unscored = sum(g.summary.unscored for g in groups)
    if unscored:
        reasons = "; ".join(dict.fromkeys(s.reason for g in groups for s in g.scores if s.reason))
        note += f" {unscored} episodes are unscored: {reasons}."
    return note


def _agent(number: int, group: _Group) -> dict[str, Any]:
    shown = _shown(group)
    left = len(group.episodes) - len(shown)
    first = group.episodes[0].view
    band = "" if first.tolerance is None else "band" if first.banded else "within one harvest"
    bent = "; nearly linear inside the band, logarithmic far outside" if first.tolerance is not None else ""
    return {
        "number": number,
        "name": group.name,
        "cells": _cells(group),
        "sentence": _sentence(group.summary),
        "objectives": first.names,
        "band": band,
        "axis": first.meaning[:1].upper() + first.meaning[1:] + bent,
        "figures": _figures(group),
        "left_out": f"{left} more episodes are in the figures above and in the records." if left > 0 else "",
        "episodes": [
            {
                "id": f"{number}-{k}",
                "episode": e.trajectory.header.episode,
                "seed": e.trajectory.header.seed,
                "file": file_name(e.trajectory),
                "verdict": _verdict(e.score),
                "onset": e.score.onset,
                "figure": mini_figure(e),
            }
            for k, e in enumerate(shown)
        ],
        "talks": any(any(e.trajectory.attempts) for e in shown),
        "modes": [
            {"name": mode, "count": group.summary.modes[mode]}
            for mode in MODES
            if group.summary.modes.get(mode)
        ],
        "data": {f"{number}-{k}": episode_data(e, group.name) for k, e in enumerate(shown)},
    }


def _recorded(group: _Group) -> dict[str, str] | None:
    """What the records say of the agent (model, prompt, settings), None where they say nothing."""
    headers = [e.trajectory.header for e in group.episodes]
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for h in headers for name in h.extra):
        values = [h.extra.get(name) for h in headers]
        found[name] = values[0] if all(v == values[0] for v in values) else "(differs between episodes)"
    if headers[0].agent_settings:
        found["settings"] = headers[0].agent_settings
    if not found:
        return None
    return {"name": group.name, "text": json.dumps(found, indent=1, default=str, ensure_ascii=False)}


def _tokens(groups: Sequence[_Group], prices: Mapping[str, Pricing]) -> tuple[list[list[str]], str]:
    """Rows of the table of tokens, for agents that converse and were counted, and what is said below it."""
    rows, notes = [], []
    for group in groups:
        records = [e.trajectory for e in group.episodes]
        used = usage(records, prices.get(records[0].header.agent))
        if used is None or used.prompt is None:
            continue
        share = used.cached_share
        tokens = (used.prompt, used.cached, used.completion)
        read, cached, written = (_fixed(used.per_episode(total), 0) for total in tokens)
        rows.append(
            [
                group.name,
                read,
                cached,
                "\N{EN DASH}" if share is None else f"{100 * share:.1f} %",
                written,
                *(
                    "\N{EN DASH}" if c is None else f"${c:.4f}"
                    for c in (used.per_episode(used.cost), used.cost)
                ),
            ]
        )
        if used.uncounted:
            notes.append(f"{group.name}: {used.uncounted} of {used.exchanges} exchanges were not counted")
        if used.cost_note:
            notes.append(f"cost of {group.name}: {used.cost_note}")
    return rows, "".join(f" {note[:1].upper()}{note[1:]}." for note in notes)


def _shown(group: _Group) -> list[Episode]:
    """The episodes that are drawn one by one: flips first, then mild ones."""
    rank = {"flip": 0, "mild": 1, "ok": 2, "unscored": 3}
    ordered = sorted(group.episodes, key=lambda e: (rank[_verdict(e.score)], e.trajectory.header.episode))
    return ordered[:_MOST_EPISODES]


def _figures(group: _Group) -> list[Any]:
    figures = levels_figures(group.episodes)
    curve = onset_curve(group.scores, group.summary.settings.confidence)
    if curve is not None and curve.flips:
        figures.append(curve_figure(curve, max(len(e.trajectory) for e in group.episodes)))
    return figures


def _pairs(groups: Sequence[_Group]) -> list[list[str]]:
    level = groups[0].summary.settings.confidence
    return [
        [
            f"{c.first} \N{EM DASH} {c.second}",
            f"{c.flips[0]} of {c.episodes[0]}, {c.flips[1]} of {c.episodes[1]}",
            f"{_fixed(c.difference, 2)} [{_between(c.difference_interval, 2)}]",
            _fixed(c.cohens_h, 2),
            _p_value(c.fisher_adjusted),
            _p_value(c.logrank_adjusted),
            _fixed(c.regret_delta, 2),
        ]
        for c in compare_all({g.name: g.scores for g in groups}, level)
    ]


def _p_value(value: float | None) -> str:
    return _fixed(None, 0) if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _verdict(score: EpisodeScore) -> str:
    return score.verdict or "unscored"


def _sentence(s: AgentSummary) -> str:
    if s.flip_rate is None or s.flip_interval is None:
        return f"{s.episodes} episodes, none of which could be scored."
    level = f"{100 * s.settings.confidence:g} %"
    low, high = s.flip_interval
    known = s.episodes - s.unscored
    text = f"{s.flips} of {known} episodes flipped ({level} interval of the rate {low:.2f} to {high:.2f}"
    text += f", {s.distinct} distinct episodes)" if s.distinct < s.episodes else ")"
    if s.median_onset is not None:
        text += f", half of them by step {s.median_onset:g}"
    if s.flips:
        text += f"; {s.recovered} recovered"
    if s.invalid_replies or s.invalid_steps:
        text += f"; {s.invalid_replies} of {s.replies} replies refused, "
        text += f"{s.invalid_steps} steps without a valid decision"
    return text + "."


def _cells(group: _Group) -> list[dict[str, Any]]:
    s = group.summary
    notes = []
    if s.distinct < s.episodes:
        notes.append(f"{s.distinct} distinct")
    if s.unscored:
        notes.append(f"{s.unscored} unscored")
    aside = f"({', '.join(notes)})" if notes else ""
    index_aside = _between(s.runaway_interval, 3)
    if s.distinct < s.episodes and s.runaway_index_all is not None:
        index_aside += f"{'; ' if index_aside else ''}{_fixed(s.runaway_index_all, 3)} with copies"
    seconds = sum(float(e.trajectory.seconds.sum()) for e in group.episodes)
    return [
        {"value": group.name, "text": group.name, "aside": ""},
        _cell(s.episodes, f"{s.episodes}", aside),
        _cell(s.flips, " / ".join(str(s.verdicts.get(word, 0)) for word in ("ok", "mild", "flip"))),
        _cell(s.flip_rate, _fixed(s.flip_rate, 2), _between(s.flip_interval, 2)),
        _cell(s.median_onset, _fixed(s.median_onset, 0)),
        _cell(s.runaway_index, _fixed(s.runaway_index, 3), index_aside),
        _cell(s.regret, _fixed(s.regret, 0), _between(s.regret_interval, 0)),
        _cell(s.score, _fixed(s.score, 0)),
        _cell(s.invalid_rate, *_refused(s)),
        _cell(s.invalid_steps, f"{s.invalid_steps}"),
        _cell(seconds if math.isfinite(seconds) else None, _fixed(seconds, 1)),
    ]


def _refused(s: AgentSummary) -> tuple[str, str]:
    if s.invalid_rate is None:
        return "\N{EN DASH}", ""
    return f"{100 * s.invalid_rate:.1f} %", f"{s.invalid_replies} of {s.replies}" if s.invalid_replies else ""


def _cell(value: float | None, text: str, aside: str = "") -> dict[str, Any]:
    return {"value": "" if value is None else repr(float(value)), "text": text, "aside": aside}


def _fixed(value: float | None, digits: int) -> str:
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{value:,.{digits}f}".replace(",", "\N{NO-BREAK SPACE}").replace("-", MINUS)


def _between(interval: tuple[float, float] | None, digits: int) -> str:
    return "" if interval is None else f"{_fixed(interval[0], digits)} to {_fixed(interval[1], digits)}"


def _comparison(groups: Sequence[_Group]) -> list[Any]:
    def known(values: Sequence[float | None]) -> list[float]:
        return [v for v in values if v is not None]

    figures = [
        raster_figure("Every episode, and when it flipped", [(g.name, g.scores) for g in groups]),
        estimate_figure(
            "Flip rate",
            [(g.name, g.summary.flip_rate, g.summary.flip_interval, ()) for g in groups],
            bounds=(0.0, 1.0),
        ),
        estimate_figure(
            "Runaway Index",
            [
                (
                    g.name,
                    g.summary.runaway_index,
                    g.summary.runaway_interval,
                    known([s.runaway_index for s in g.scores]),
                )
                for g in groups
            ],
            bounds=(0.0, 1.0),
        ),
    ]
    if any(g.summary.regret is not None for g in groups):
        figures.append(
            estimate_figure(
                "Regret (0 is as good as the reference)",
                [
                    (g.name, g.summary.regret, g.summary.regret_interval, known([s.regret for s in g.scores]))
                    for g in groups
                ],
                bent=True,
            )
        )
    return figures
