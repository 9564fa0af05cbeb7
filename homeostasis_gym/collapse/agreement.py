"""Agreement between raters: human readers and the detector.

Cohen's kappa for two, Krippendorff's alpha for any number, each with a bootstrap interval over the rated
episodes, in which copies of an episode are drawn together; the confusion table, the disagreements one by
one, and the distance between onsets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.errors import HomeostasisError

__all__ = ["Agreement", "Rating", "cohens_kappa", "krippendorffs_alpha", "measure_agreement"]

LABELS = ("ok", "mild", "flip")
"""The words of a rating, from good to bad."""


@dataclass(frozen=True)
class Rating:
    """One rater's judgement of one episode.

    Attributes:
        label: ``ok``, ``mild`` (sloppy or failing, not runaway) or ``flip``.
        onset: Step at which it began, from 1; None where the rater gave none.
        objective: Name of the objective, empty where none is meant.
        reason: The rater's words.
    """

    label: str
    onset: int | None = None
    objective: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.label not in LABELS:
            raise HomeostasisError(f"`label` must be one of {', '.join(LABELS)}, got {self.label!r}")


def cohens_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Agreement of two raters beyond chance: 1 is perfect, 0 is chance; NaN where chance is perfect.

    Source: J. Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological
    Measurement 20, 1960.

    Args:
        first: One rater's labels.
        second: The other's, of the same episodes in the same order.
    """
    if len(first) != len(second):
        raise HomeostasisError(
            f"`second` must hold as many labels as `first` ({len(first)}), got {len(second)}"
        )
    codes = {label: k for k, label in enumerate(dict.fromkeys([*first, *second]))}
    pairs = np.array([[codes[a], codes[b]] for a, b in zip(first, second, strict=True)]).reshape(-1, 2)
    return _kappa(pairs, len(codes))


def _kappa(pairs: NDArray[np.int64], categories: int) -> float:
    n = len(pairs)
    if n == 0:
        return math.nan
    table = np.zeros((categories, categories))
    np.add.at(table, (pairs[:, 0], pairs[:, 1]), 1.0)
    observed = np.trace(table) / n
    expected = float(table.sum(axis=1) @ table.sum(axis=0)) / (n * n)
    return math.nan if expected >= 1.0 else float((observed - expected) / (1.0 - expected))


def krippendorffs_alpha(ratings: Sequence[Sequence[Hashable | None]]) -> float:
    """Agreement of any number of raters beyond chance, on nominal labels, with missing ratings.

    Source: K. Krippendorff, "Content Analysis: An Introduction to Its Methodology".

    Args:
        ratings: One sequence per rater, each with one label per episode; None where a rater gave none.

    Returns:
        1 for perfect agreement, 0 for chance, NaN where only one label was ever used or nothing was
        rated twice.
    """
    labels = dict.fromkeys(label for rater in ratings for label in rater if label is not None)
    codes = {label: k for k, label in enumerate(labels)}
    table = np.array(
        [[-1 if label is None else codes[label] for label in rater] for rater in ratings], dtype=np.int64
    )
    return _alpha(table, len(codes))


def _alpha(table: NDArray[np.int64], categories: int) -> float:
    """Alpha from codes, shape (raters, episodes), -1 for missing."""
    counts = np.stack([(table == k).sum(axis=0) for k in range(categories)], axis=1).astype(np.float64)
    rated = counts.sum(axis=1)
    counts, rated = counts[rated >= 2], rated[rated >= 2]
    total = rated.sum()
    if total == 0:
        return math.nan
    # Pairs of different labels within an episode, and among all labels.
    within = (rated**2 - (counts**2).sum(axis=1)) / (rated - 1.0)
    sums = counts.sum(axis=0)
    among = (total**2 - (sums**2).sum()) / (total - 1.0)
    return math.nan if among == 0.0 else float(1.0 - within.sum() / among)


@dataclass(frozen=True)
class Coefficient:
    """An agreement with its interval.

    Attributes:
        kappa: Cohen's kappa over all episodes; None where it is not defined.
        interval: Percentile bootstrap interval over the distinct episodes, each drawn with all its copies;
            with no disagreement it has no width, which is no proof of perfection.
        alpha: Krippendorff's alpha over all raters; None where it is not defined.
        alpha_interval: Its bootstrap interval.
        observed: Share of episodes with the same label.
        episodes: Episodes that both rated.
        distinct: Episodes among them that are no copies of an earlier one.
        kappa_distinct: Kappa over these alone; None where it is not defined.
        raters: Raters behind alpha.
        undefined: Bootstrap samples in which kappa was not defined (one label only), left out.
        confusion: Episodes by the reader's label, then by the detector's.
    """

    kappa: float | None
    interval: tuple[float, float] | None
    alpha: float | None
    alpha_interval: tuple[float, float] | None
    observed: float
    episodes: int
    distinct: int
    kappa_distinct: float | None
    raters: int
    undefined: int
    confusion: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Agreement:
    """How far the detector and one or more readers agree.

    Attributes:
        flag: On flip or no flip.
        verdict: On ok, mild or flip.
        onset_error: Of flips that both see: detector's onset minus the reader's: number, median, median
            of the absolute values, largest absolute value, all of them.
        objective_agreement: Share of those flips whose objective is the same; None without any.
        disagreements: Every episode on which they disagree.
        unrated: Episodes without a reader's label.
        unmatched: Labels without an episode.
        unscored: Episodes that the detector could not score, left out.
        readers: Names of the readers; kappa is against the first.
        settings: Parameters of the detector.
    """

    flag: Coefficient
    verdict: Coefficient
    onset_error: Mapping[str, Any]
    objective_agreement: float | None
    disagreements: Sequence[Mapping[str, Any]]
    unrated: Sequence[str]
    unmatched: Sequence[str]
    unscored: Sequence[str]
    readers: Sequence[str] = ()
    settings: ScoreSettings = field(default_factory=ScoreSettings)

    def to_dict(self) -> dict[str, Any]:
        """The agreement as data that JSON can hold."""
        return {**asdict(self), "settings": self.settings.to_dict()}


def measure_agreement(
    detector: Mapping[str, Rating | None],
    readers: Mapping[str, Mapping[str, Rating]],
    settings: ScoreSettings | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> Agreement:
    """Compare the detector with human readers.

    Args:
        detector: Its rating of every episode by the episode's name; None for unscored.
        readers: Every reader's ratings, by the reader's name, then by the episode's.
        settings: Parameters of the detector; level, samples and seed of the intervals.
        fingerprints: By the episode's name; episodes with the same one are copies
            (`EpisodeScore.fingerprint`). By default none is a copy.

    Raises:
        HomeostasisError: No reader, or no episode that the first reader and the detector both rated.
    """
    if not readers:
        raise HomeostasisError("`readers` must hold at least one reader, got none")
    used = settings or ScoreSettings()
    first_name, first = next(iter(readers.items()))
    rated = {name: r for name, r in detector.items() if r is not None}
    both = [name for name in rated if name in first]
    if not both:
        raise HomeostasisError(
            f"labels and episodes must share names, but none of the {len(first)} labels of {first_name!r} "
            f"is among the {len(detector)} episodes"
        )
    machine = [rated[name] for name in both]
    human = [first[name] for name in both]
    clusters = [name if fingerprints is None else fingerprints[name] for name in both]
    others = [[ratings.get(name) for name in both] for ratings in list(readers.values())[1:]]
    flag = _coefficient(
        human,
        machine,
        others,
        lambda r: "flip" if r.label == "flip" else "no flip",
        ("no flip", "flip"),
        clusters,
        used,
    )
    three = _coefficient(human, machine, others, lambda r: r.label, LABELS, clusters, used)
    errors = [
        m.onset - h.onset
        for h, m in zip(human, machine, strict=True)
        if h.label == m.label == "flip" and h.onset is not None and m.onset is not None
    ]
    same = [
        h.objective == m.objective
        for h, m in zip(human, machine, strict=True)
        if h.label == m.label == "flip" and h.objective
    ]
    return Agreement(
        flag=flag,
        verdict=three,
        onset_error={
            "episodes": len(errors),
            "median": float(np.median(errors)) if errors else None,
            "median_absolute": float(np.median(np.abs(errors))) if errors else None,
            "largest_absolute": int(np.max(np.abs(errors))) if errors else None,
            "errors": errors,
        },
        objective_agreement=sum(same) / len(same) if same else None,
        disagreements=[
            {
                "episode": name,
                "reader": h.label,
                "detector": m.label,
                "reader_onset": h.onset,
                "detector_onset": m.onset,
                "reader_reason": h.reason,
                "detector_reason": m.reason,
            }
            for name, h, m in zip(both, human, machine, strict=True)
            if h.label != m.label
        ],
        unrated=[name for name in detector if name not in first],
        unmatched=[name for name in first if name not in detector],
        unscored=[name for name, r in detector.items() if r is None],
        readers=tuple(readers),
        settings=used,
    )


def _coefficient(
    human: Sequence[Rating],
    machine: Sequence[Rating],
    others: Sequence[Sequence[Rating | None]],
    word: Callable[[Rating], str],
    words: Sequence[str],
    clusters: Sequence[str],
    settings: ScoreSettings,
) -> Coefficient:
    codes = {label: k for k, label in enumerate(words)}
    raters = [human, machine, *others]
    table = np.array(
        [[-1 if r is None else codes[word(r)] for r in rater] for rater in raters], dtype=np.int64
    )
    n = table.shape[1]
    rng = np.random.default_rng(settings.bootstrap_seed)
    members: dict[str, list[int]] = {}
    for k, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(k)
    groups = [np.array(rows) for rows in members.values()]
    draws = rng.integers(len(groups), size=(settings.resamples, len(groups)))
    picks = [np.concatenate([groups[g] for g in draw]) for draw in draws]
    single = table[:2, [rows[0] for rows in groups]]
    kappas = np.array([_kappa(table[:2, rows].T, len(words)) for rows in picks])
    alphas = np.array([_alpha(table[:, rows], len(words)) for rows in picks])
    confusion = {
        a: {b: int(((table[0] == codes[a]) & (table[1] == codes[b])).sum()) for b in words} for a in words
    }
    kappa, alpha = _kappa(table[:2].T, len(words)), _alpha(table, len(words))
    kappa_distinct = _kappa(single.T, len(words))
    return Coefficient(
        kappa=None if math.isnan(kappa) else kappa,
        interval=_interval(kappas, settings.confidence),
        alpha=None if math.isnan(alpha) else alpha,
        alpha_interval=_interval(alphas, settings.confidence),
        observed=float((table[0] == table[1]).mean()),
        episodes=n,
        distinct=len(groups),
        kappa_distinct=None if math.isnan(kappa_distinct) else kappa_distinct,
        raters=len(raters),
        undefined=int(np.isnan(kappas).sum()),
        confusion=confusion,
    )


def _interval(draws: NDArray[np.float64], confidence: float) -> tuple[float, float] | None:
    known = draws[~np.isnan(draws)]
    if len(known) < 2:
        return None
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(known, [tail, 100.0 - tail])
    return float(low), float(high)
