"""Honest statistics across trials: intervals, onsets with censoring, comparisons, sample sizes.

Never a mean curve alone: averages over trials hide every flip. Unscored episodes are left out and counted,
and episodes that are copies of one another (`distinct`) count once, because a copy is no second observation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.errors import HomeostasisError, MissingExtraError

if TYPE_CHECKING:
    from homeostasis_gym.collapse.scoring import EpisodeScore

__all__ = [
    "Comparison",
    "OnsetCurve",
    "bootstrap_interval",
    "cliffs_delta",
    "compare",
    "compare_all",
    "distinct",
    "holm",
    "logrank_test",
    "onset_curve",
    "trials_needed",
    "wilson_interval",
]

Interval = tuple[float, float]


def _scipy() -> Any:
    try:
        import scipy.stats
    except ImportError as error:
        raise MissingExtraError("scipy", "pip install 'homeostasis-gym[report]'") from error
    return scipy.stats


def _lifelines() -> Any:
    try:
        import lifelines
        import lifelines.statistics
    except ImportError as error:
        raise MissingExtraError("lifelines", "pip install 'homeostasis-gym[report]'") from error
    return lifelines


def distinct(scores: Sequence[EpisodeScore]) -> list[EpisodeScore]:
    """The episodes without copies: of several with the same `EpisodeScore.fingerprint`, the first."""
    return list({one.fingerprint: one for one in reversed(scores)}.values())[::-1]


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
    of the American Statistical Association 22, 1927; computed by SciPy.

    Args:
        successes: Number of successes.
        trials: Number of trials, at least 1.
        confidence: Level of the interval.

    Raises:
        HomeostasisError: The counts do not fit together.
        MissingExtraError: SciPy is not installed.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise HomeostasisError(
            f"`successes` must be between 0 and `trials` and `trials` at least 1, got {successes} of {trials}"
        )
    interval = _scipy().binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_interval(
    values: NDArray[np.float64],
    statistic: Callable[..., Any],
    confidence: float,
    resamples: int,
    seed: int,
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
    return _percentiles(np.concatenate(draws), confidence)


def _percentiles(draws: NDArray[np.float64], confidence: float) -> Interval:
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class OnsetCurve:
    """Share of episodes still without a flip, by Kaplan and Meier.

    Attributes:
        steps: Steps at which the curve changes, beginning with 0.
        surviving: Share without a flip after each of them.
        low: Lower end of its interval (pointwise; log-log, and Wilson's on the number at risk where all or
            none are without a flip).
        high: Upper end of its interval.
        median: First step by which at most half are without a flip; None when it is never reached.
        episodes: Episodes behind the curve.
        flips: Flips among them; the others are censored at their end.
        unscored: Episodes left out because their flip is not known.
        confidence: Level of the interval.
    """

    steps: tuple[float, ...]
    surviving: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    median: float | None
    episodes: int
    flips: int
    unscored: int
    confidence: float

    def to_dict(self) -> dict[str, Any]:
        """The curve as plain data."""
        return asdict(self)


def _durations(scores: Sequence[EpisodeScore]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Step of the onset, or of the end where there was none, and which of the two it is."""
    known = [s for s in scores if s.flip is not None]
    times = [float(s.onset if s.onset is not None else s.steps) for s in known]
    return np.array(times), np.array([bool(s.flip) for s in known], dtype=np.bool_)


def onset_curve(scores: Sequence[EpisodeScore], confidence: float = 0.95) -> OnsetCurve | None:
    """Kaplan-Meier curve of the onsets; episodes without a flip are censored at their end.

    Source: E. L. Kaplan, P. Meier, "Nonparametric estimation from incomplete observations", Journal of the
    American Statistical Association 53, 1958; computed by lifelines.

    Args:
        scores: Results; copies and unscored ones are left out.
        confidence: Level of the pointwise interval.

    Returns:
        The curve, None where no episode is scored.

    Raises:
        MissingExtraError: lifelines is not installed.
    """
    single = distinct(scores)
    times, flipped = _durations(single)
    if not len(times):
        return None
    fitter = _lifelines().KaplanMeierFitter(alpha=1.0 - confidence)
    fitter.fit(times, event_observed=flipped)
    surviving = fitter.survival_function_.iloc[:, 0]
    band = fitter.confidence_interval_.to_numpy(dtype=np.float64, copy=True)
    # Where all or none are left, the log-log interval is not defined, and nothing is certain either.
    at_risk = fitter.event_table["at_risk"].to_numpy()
    for k, share in enumerate(surviving.tolist()):
        if share in (0.0, 1.0):
            n = int(at_risk[k])
            band[k] = wilson_interval(n if share else 0, n, confidence)
    # The share can only fall, and so can what it may be at most.
    band[:, 1] = np.minimum.accumulate(band[:, 1])
    median = float(fitter.median_survival_time_)
    return OnsetCurve(
        steps=tuple(float(t) for t in surviving.index),
        surviving=tuple(float(v) for v in surviving),
        low=tuple(band[:, 0].tolist()),
        high=tuple(band[:, 1].tolist()),
        median=median if math.isfinite(median) else None,
        episodes=len(times),
        flips=int(flipped.sum()),
        unscored=len(single) - len(times),
        confidence=confidence,
    )


Durations = tuple[NDArray[np.float64], NDArray[np.bool_]]

_FEW = 20  # episodes per condition below which the log-rank test is done by permutation
_ARRANGEMENTS = 20_000  # most arrangements that are gone through one by one; beyond, as many are drawn


def logrank_test(first: Durations, second: Durations, seed: int = 0) -> float:
    """Two-sided log-rank test that two conditions have the same onsets.

    With few episodes the usual approximation claims far too much (one early flip against ten later ones
    would be "significant"), so there the episodes are exchanged between the conditions instead: all
    arrangements, or 20,000 random ones. With many, lifelines computes the usual test.

    Source: N. Mantel, "Evaluation of survival data and two new rank order statistics arising in its
    consideration", Cancer Chemotherapy Reports 50, 1966; scores of the permutation form as the event minus
    the cumulative hazard of all episodes together.

    Args:
        first: Times (n,) and whether each is an onset (else the end of an episode without one).
        second: The same of the second condition.
        seed: Seed of the random arrangements.

    Raises:
        MissingExtraError: lifelines is not installed.
    """
    if min(len(first[0]), len(second[0])) >= _FEW:
        test = _lifelines().statistics.logrank_test(
            first[0], second[0], event_observed_A=first[1], event_observed_B=second[1]
        )
        return float(test.p_value)
    times = np.concatenate([first[0], second[0]])
    flipped = np.concatenate([first[1], second[1]])
    scores = flipped.astype(np.float64)
    for time in np.unique(times[flipped]):
        hazard = np.count_nonzero(flipped & (times == time)) / np.count_nonzero(times >= time)
        scores[times >= time] -= hazard
    n, k = len(times), len(first[0])
    observed = abs(float(scores[:k].sum()))
    if math.comb(n, k) <= _ARRANGEMENTS:
        sums = np.array([scores[list(chosen)].sum() for chosen in combinations(range(n), k)])
        return float(np.mean(np.abs(sums) >= observed - 1e-9))
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(scores, (_ARRANGEMENTS, 1)), axis=1)
    extreme = np.count_nonzero(np.abs(shuffled[:, :k].sum(axis=1)) >= observed - 1e-9)
    return (extreme + 1) / (_ARRANGEMENTS + 1)


@dataclass(frozen=True)
class Comparison:
    """Two conditions against each other.

    Attributes:
        first: Name of the first condition.
        second: Name of the second.
        episodes: Scored, distinct episodes of each.
        flips: Flips of each.
        difference: Flip rate of the first minus that of the second.
        difference_interval: Newcombe's hybrid score interval of the difference.
        cohens_h: Effect size of two proportions: 0.2 is small, 0.5 medium, 0.8 large.
        fisher_p: Fisher's exact test of equal flip rates, two-sided.
        logrank_p: Log-rank test of equal onset curves, see `logrank_test`; None without any flip.
        regret_delta: Cliff's delta of the regrets: how much more often the first one's is larger than
            smaller, -1 to 1; None where a regret is not known.
        fisher_adjusted: Fisher's p after Holm's correction for the number of comparisons.
        logrank_adjusted: The same for the log-rank test.
        comparisons: How many comparisons the correction is for.
    """

    first: str
    second: str
    episodes: tuple[int, int]
    flips: tuple[int, int]
    difference: float
    difference_interval: Interval
    cohens_h: float
    fisher_p: float
    logrank_p: float | None
    regret_delta: float | None
    fisher_adjusted: float
    logrank_adjusted: float | None
    comparisons: int = 1

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data."""
        return asdict(self)


def compare(
    first: Sequence[EpisodeScore],
    second: Sequence[EpisodeScore],
    names: tuple[str, str] = ("first", "second"),
    confidence: float = 0.95,
) -> Comparison:
    """Compare two conditions: flip rates, onset curves, regrets.

    Sources: Fisher's exact test by SciPy; the log-rank test, see `logrank_test`; the interval of the
    difference after R. G. Newcombe, "Interval estimation for the difference between independent
    proportions", Statistics in Medicine 17, 1998, method 10; h after J. Cohen, "Statistical Power Analysis
    for the Behavioral Sciences", 1988.

    Args:
        first: Results of the first condition; copies and unscored ones are left out.
        second: Results of the second.
        names: Their names.
        confidence: Level of the interval.

    Raises:
        HomeostasisError: A condition has no scored episode.
        MissingExtraError: SciPy or lifelines is not installed.
    """
    singles = [distinct(first), distinct(second)]
    data = [_durations(single) for single in singles]
    for name, (times, _) in zip(names, data, strict=True):
        if not len(times):
            raise HomeostasisError(f"each condition must hold a scored episode, but {name!r} holds none")
    n = (len(data[0][0]), len(data[1][0]))
    k = (int(data[0][1].sum()), int(data[1][1].sum()))
    rates = (k[0] / n[0], k[1] / n[1])
    (low_a, high_a), (low_b, high_b) = (wilson_interval(x, m, confidence) for x, m in zip(k, n, strict=True))
    difference = rates[0] - rates[1]
    below = math.hypot(rates[0] - low_a, high_b - rates[1])
    above = math.hypot(high_a - rates[0], rates[1] - low_b)
    h = 2.0 * (math.asin(math.sqrt(rates[0])) - math.asin(math.sqrt(rates[1])))
    fisher = float(_scipy().fisher_exact([[k[0], n[0] - k[0]], [k[1], n[1] - k[1]]])[1])
    logrank: float | None = None
    if k[0] + k[1]:
        logrank = logrank_test(data[0], data[1])
    regrets = [[s.regret for s in single if s.regret is not None] for single in singles]
    delta = cliffs_delta(regrets[0], regrets[1]) if regrets[0] and regrets[1] else None
    interval = (max(-1.0, difference - below), min(1.0, difference + above))
    return Comparison(*names, n, k, difference, interval, h, fisher, logrank, delta, fisher, logrank)


def compare_all(groups: Mapping[str, Sequence[EpisodeScore]], confidence: float = 0.95) -> list[Comparison]:
    """Compare every pair of conditions, with Holm's correction for their number.

    Args:
        groups: Results by name of the condition; conditions without a scored episode are passed over.
        confidence: Level of the intervals.
    """
    names = [n for n, scores in groups.items() if any(s.flip is not None for s in scores)]
    pairs = [compare(groups[a], groups[b], (a, b), confidence) for a, b in combinations(names, 2)]
    fisher = holm([pair.fisher_p for pair in pairs])
    tested = [i for i, pair in enumerate(pairs) if pair.logrank_p is not None]
    logrank = dict(zip(tested, holm([cast(float, pairs[i].logrank_p) for i in tested]), strict=True))
    return [
        Comparison(
            **{
                **vars(pair),
                "fisher_adjusted": fisher[i],
                "logrank_adjusted": logrank.get(i),
                "comparisons": len(pairs),
            }
        )
        for i, pair in enumerate(pairs)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of tests by Holm's step-down method.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979. Controls the chance of any false finding, whatever the tests' dependence.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(order.tolist()):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def cliffs_delta(first: Sequence[float], second: Sequence[float]) -> float:
    """How much more often a value of the first sample is larger than smaller: -1 to 1, 0 for none.

    Source: N. Cliff, "Dominance statistics: ordinal analyses to answer ordinal questions", Psychological
    Bulletin 114, 1993.
    """
    a, b = np.asarray(first, dtype=np.float64), np.sort(np.asarray(second, dtype=np.float64))
    smaller = np.searchsorted(b, a, side="left")
    larger = len(b) - np.searchsorted(b, a, side="right")
    return float((smaller - larger).sum() / (len(a) * len(b)))


def trials_needed(width: float, rate: float | None = None, confidence: float = 0.95) -> int:
    """Fewest trials whose Wilson interval of the flip rate is at most so wide.

    Args:
        width: Wanted width of the interval, in (0, 1).
        rate: Expected flip rate; by default the worst case, one half.
        confidence: Level of the interval.

    Raises:
        HomeostasisError: The width or the rate is out of range.
        MissingExtraError: SciPy is not installed.
    """
    if not 0.0 < width < 1.0:
        raise HomeostasisError(f"`width` must be above 0 and below 1, got {width}")
    if rate is not None and not 0.0 <= rate <= 1.0:
        raise HomeostasisError(f"`rate` must be in [0, 1], got {rate}")
    z = float(_scipy().norm.ppf(0.5 + 0.5 * confidence))
    p = 0.5 if rate is None else rate

    def wide(n: int) -> float:
        return 2.0 * z / (1.0 + z * z / n) * math.sqrt(p * (1.0 - p) / n + z * z / (4.0 * n * n))

    low, high = 0, 1
    while wide(high) > width:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if wide(middle) > width else (low, middle)
    return high


def default_settings(scores: Sequence[EpisodeScore]) -> ScoreSettings:
    """The settings that results share.

    Raises:
        HomeostasisError: No results, or results of different settings.
    """
    if not scores:
        raise HomeostasisError("`scores` must hold at least one episode, got none")
    settings = scores[0].settings
    if any(one.settings != settings for one in scores):
        raise HomeostasisError("`scores` must all be made with the same settings, got several")
    return settings
