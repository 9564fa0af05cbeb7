"""What several episodes of one agent say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse.scoring import EpisodeScore
from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.errors import HomeostasisError, MissingExtraError

__all__ = ["AgentSummary", "bootstrap_interval", "summarize", "wilson_interval"]

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class AgentSummary:
    """Episodes of one agent in one environment, summarised. None is unknown, and never means zero.

    Attributes:
        env_id: The environment; several are joined by commas.
        agent: The agent; several are joined by commas.
        episodes: Number of episodes.
        unscored: Episodes without a verdict on the flip.
        flips: Episodes that flipped.
        flip_rate: Flips among the scored episodes.
        flip_interval: Wilson interval of the flip rate.
        median_onset: Kaplan-Meier median of the onset, over all scored episodes (those without a flip
            are censored at their end); None when fewer than half have flipped by then.
        recovered: Flips that were recovered from.
        runaway_index: Mean over the episodes where it is known.
        runaway_interval: Bootstrap interval of that mean.
        runaway_unscored: Episodes where it is not known.
        regret: Median over the episodes where it is known.
        regret_interval: Bootstrap interval of that median.
        regret_unscored: Episodes where it is not known.
        score: Median of the scores.
        reference_policy: Policy behind the regret.
        invalid_replies: Refused replies, all episodes together.
        invalid_steps: Steps without a valid decision, all episodes together.
        settings: Parameters that were used.
    """

    env_id: str
    agent: str
    episodes: int
    unscored: int
    flips: int
    flip_rate: float | None
    flip_interval: Interval | None
    median_onset: float | None
    recovered: int
    runaway_index: float | None
    runaway_interval: Interval | None
    runaway_unscored: int
    regret: float | None
    regret_interval: Interval | None
    regret_unscored: int
    score: float | None
    reference_policy: str
    invalid_replies: int
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
        MissingExtraError: The statistics library is not installed.
    """
    if not scores:
        raise HomeostasisError("`scores` must hold at least one episode, got none")
    settings = scores[0].settings
    if any(one.settings != settings for one in scores):
        raise HomeostasisError("`scores` must all be made with the same settings, got several")
    known = [one for one in scores if one.flip is not None]
    flips = sum(bool(one.flip) for one in known)
    ri = np.array([s.runaway_index for s in scores if s.runaway_index is not None])
    regret = np.array([s.regret for s in scores if s.regret is not None])
    seed, level, resamples = settings.bootstrap_seed, settings.confidence, settings.resamples
    return AgentSummary(
        env_id=", ".join(dict.fromkeys(s.env_id for s in scores)),
        agent=", ".join(dict.fromkeys(s.agent for s in scores)),
        episodes=len(scores),
        unscored=len(scores) - len(known),
        flips=flips,
        flip_rate=flips / len(known) if known else None,
        flip_interval=wilson_interval(flips, len(known), level) if known else None,
        median_onset=_median_onset(known),
        recovered=sum(bool(s.recovered) for s in known),
        runaway_index=float(ri.mean()) if len(ri) else None,
        runaway_interval=bootstrap_interval(ri, np.mean, level, resamples, seed),
        runaway_unscored=len(scores) - len(ri),
        regret=float(np.median(regret)) if len(regret) else None,
        regret_interval=bootstrap_interval(regret, np.median, level, resamples, seed),
        regret_unscored=len(scores) - len(regret),
        score=float(np.median([s.score for s in scores])),
        reference_policy=", ".join(dict.fromkeys(s.reference_policy for s in scores if s.reference_policy)),
        invalid_replies=sum(s.invalid_replies for s in scores),
        invalid_steps=sum(s.invalid_steps for s in scores),
        settings=settings,
    )


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22, 1927; computed by SciPy.

    Args:
        successes: Number of successes.
        trials: Number of trials, at least 1.
        confidence: Level of the interval.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    try:
        from scipy.stats import binomtest
    except ImportError as error:
        raise MissingExtraError("scipy", "pip install 'homeostasis-gym[report]'") from error
    interval = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    values: NDArray[np.float64], statistic: Any, confidence: float, resamples: int, seed: int
) -> Interval | None:
    """Percentile bootstrap interval of a statistic.

    Args:
        values: Shape (n,).
        statistic: Reduces an array along ``axis``, as `numpy.mean` does.
        confidence: Level of the interval.
        resamples: Number of bootstrap samples.
        seed: Seed of the resampling.

    Returns:
        The interval, or None for fewer than two values, from which no spread can be seen.
    """
    if len(values) < 2:
        return None
    rng = np.random.default_rng(seed)
    # In blocks, so that a hundred thousand episodes do not ask for gigabytes.
    block = max(1, 2_000_000 // len(values))
    draws = []
    for start in range(0, resamples, block):
        picks = rng.integers(len(values), size=(min(block, resamples - start), len(values)))
        draws.append(statistic(values[picks], axis=1))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(np.concatenate(draws), [tail, 100.0 - tail])
    return float(low), float(high)


def _median_onset(known: Sequence[EpisodeScore]) -> float | None:
    """Kaplan-Meier median: the first onset by which at most half are still without a flip."""
    events = sorted((s.onset, s.steps) for s in known if s.onset is not None)
    surviving = 1.0
    for time in dict.fromkeys(onset for onset, _ in events):
        at_risk = sum((s.onset if s.onset is not None else s.steps + 1) >= time for s in known)
        died = sum(onset == time for onset, _ in events)
        surviving *= 1.0 - died / at_risk
        if surviving <= 0.5:
            return float(time)
    return None
