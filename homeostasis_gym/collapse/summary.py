"""What several episodes of one agent say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from homeostasis_gym.collapse.scoring import EpisodeScore
from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.collapse.statistics import (
    Interval,
    bootstrap_interval,
    default_settings,
    distinct,
    onset_curve,
    wilson_interval,
)

__all__ = ["AgentSummary", "summarize"]


@dataclass(frozen=True, kw_only=True)
class AgentSummary:
    """Episodes of one agent in one environment, summarised. None is unknown, and never means zero.

    Rates, medians, means and intervals are over distinct episodes: copies count once.

    Attributes:
        env_id: The environment; several are joined by commas.
        agent: The agent; several are joined by commas.
        episodes: Number of episodes.
        distinct: Number of episodes of which none is a copy of another.
        unscored: Episodes, copies included, without a verdict on the flip.
        flips: Episodes that flipped, copies included.
        distinct_flips: Distinct episodes that flipped.
        flip_rate: Flips among the scored distinct episodes.
        flip_interval: Wilson interval of the flip rate.
        verdicts: Episodes by verdict (ok, mild, flip, unscored), copies included.
        modes: In how many episodes each failure mode has a span, copies included.
        median_onset: Kaplan-Meier median of the onset (episodes without a flip are censored at their end);
            None when fewer than half have flipped by then.
        recovered: Flips that were recovered from, copies included.
        runaway_index: Mean over the episodes where it is known.
        runaway_interval: Bootstrap interval of that mean.
        runaway_index_all: The mean with copies counted as often as they are there.
        runaway_unscored: Episodes where it is not known.
        regret: Median over the episodes where it is known.
        regret_interval: Bootstrap interval of that median.
        regret_unscored: Episodes where it is not known.
        score: Median of the scores.
        objective_scores: Median score of each objective.
        reference_policy: Policy behind the regret.
        replies: Replies that were judged, all episodes together.
        invalid_replies: Refused replies, all episodes together.
        invalid_rate: Share of the replies that were refused; None for an agent that does not converse.
        invalid_steps: Steps without a valid decision, all episodes together.
        settings: Parameters that were used.
    """

    env_id: str
    agent: str
    episodes: int
    distinct: int
    unscored: int
    flips: int
    distinct_flips: int
    flip_rate: float | None
    flip_interval: Interval | None
    verdicts: Mapping[str, int]
    modes: Mapping[str, int]
    median_onset: float | None
    recovered: int
    runaway_index: float | None
    runaway_interval: Interval | None
    runaway_index_all: float | None
    runaway_unscored: int
    regret: float | None
    regret_interval: Interval | None
    regret_unscored: int
    score: float | None
    objective_scores: Mapping[str, float]
    reference_policy: str
    replies: int
    invalid_replies: int
    invalid_rate: float | None
    invalid_steps: int
    settings: ScoreSettings

    def to_dict(self) -> dict[str, Any]:
        """The summary as data that JSON can hold; unknown is null."""
        return {**asdict(self), "settings": self.settings.to_dict()}


def summarize(scores: Sequence[EpisodeScore]) -> AgentSummary:
    """Summarise episodes, usually of one agent in one environment.

    Args:
        scores: At least one result; all made with the same settings.

    Raises:
        HomeostasisError: No results, or results of different settings.
        MissingExtraError: A statistics library is not installed.
    """
    settings = default_settings(scores)
    single = distinct(scores)
    known = [one for one in single if one.flip is not None]
    flips = sum(bool(one.flip) for one in known)
    ri = np.array([s.runaway_index for s in single if s.runaway_index is not None])
    regret = np.array([s.regret for s in single if s.regret is not None])
    seed, level, resamples = settings.bootstrap_seed, settings.confidence, settings.resamples
    curve = onset_curve(single, level)
    names = dict.fromkeys(name for s in single for name in s.objective_scores)
    finite = [s.score for s in single if np.isfinite(s.score)]
    replies = sum(s.replies for s in scores)
    refused = sum(s.invalid_replies for s in scores)
    return AgentSummary(
        env_id=", ".join(dict.fromkeys(s.env_id for s in scores)),
        agent=", ".join(dict.fromkeys(s.agent for s in scores)),
        episodes=len(scores),
        distinct=len(single),
        unscored=sum(s.flip is None for s in scores),
        flips=sum(bool(s.flip) for s in scores),
        distinct_flips=flips,
        flip_rate=flips / len(known) if known else None,
        flip_interval=wilson_interval(flips, len(known), level) if known else None,
        verdicts=dict(Counter(s.verdict or "unscored" for s in scores)),
        modes=dict(Counter(mode for s in scores for mode in sorted({m.mode for m in s.modes}))),
        median_onset=curve.median if curve is not None else None,
        recovered=sum(bool(s.recovered) for s in scores),
        runaway_index=float(ri.mean()) if len(ri) else None,
        runaway_interval=bootstrap_interval(ri, np.mean, level, resamples, seed),
        runaway_index_all=_mean([s.runaway_index for s in scores if s.runaway_index is not None]),
        runaway_unscored=sum(s.runaway_index is None for s in scores),
        regret=float(np.median(regret)) if len(regret) else None,
        regret_interval=bootstrap_interval(regret, np.median, level, resamples, seed),
        regret_unscored=sum(s.regret is None for s in scores),
        score=float(np.median(finite)) if finite else None,
        objective_scores={
            n: float(np.median([s.objective_scores[n] for s in single if n in s.objective_scores]))
            for n in names
        },
        reference_policy=", ".join(dict.fromkeys(s.reference_policy for s in scores if s.reference_policy)),
        replies=replies,
        invalid_replies=refused,
        invalid_rate=refused / replies if replies else None,
        invalid_steps=sum(s.invalid_steps for s in scores),
        settings=settings,
    )


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
