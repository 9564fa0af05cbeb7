"""How early can a flip be seen coming?

A logistic regression on features of the last few steps predicts, at every step that is still without a
flip, whether its onset lies within the next k steps. It is judged on trials that it has not seen: all steps
of a trial are held out together, because steps of one trial resemble each other. Two trivial forecasters
stand beside it, fitted and judged in the same way: the step number alone, and the violation counter of the
flip detector alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse.scoring import StepReading, fingerprint, score, step_readings
from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.errors import HomeostasisError, MissingExtraError
from homeostasis_gym.trajectory import Trajectory

__all__ = ["FEATURES", "Forecast", "ForecastData", "forecast", "forecast_data"]

FEATURES = (
    "excess",
    "excess_trend",
    "overshoot",
    "gap",
    "gap_trend",
    "repetition",
    "concentration",
    "counter",
    "step",
)
"""Names of the features of a step; each looks at the past only.

``excess``: mean over the window of the action minus the handwritten one, largest over the objectives.
``excess_trend``: its change from the window's first half to its second. ``overshoot``: mean excess of the
levels beyond their tolerance. ``gap``: difference between the highest and the lowest objective, each in
units of its tolerance. ``gap_trend``: its change over the window. ``repetition``: share of actions equal to
the one before. ``concentration``: largest share of one objective in what was taken. ``counter``: the flip
detector's count. ``step``: the step's number over the length.
"""


@dataclass(frozen=True)
class ForecastData:
    """Steps that are still without a flip.

    Attributes:
        features: (steps, len(FEATURES)), float64.
        soon: (steps,), whether an onset lies within the horizon.
        trial: (steps,), number of the trial.
        step: (steps,), number of the step, from 1, about to be played.
        onsets: Onset of every trial, None without a flip.
        names: Name of every trial.
    """

    features: NDArray[np.float64]
    soon: NDArray[np.bool_]
    trial: NDArray[np.int64]
    step: NDArray[np.int64]
    onsets: tuple[int | None, ...]
    names: tuple[str, ...]


def forecast_data(
    trajectories: Sequence[Trajectory],
    horizon: int = 10,
    window: int = 6,
    settings: ScoreSettings | None = None,
) -> ForecastData:
    """Features and labels of every step at risk.

    Copies of a trial count once, and so do trials without a verdict or without a handwritten policy.

    Args:
        trajectories: Recorded episodes.
        horizon: k, the steps within which an onset counts as soon.
        window: Steps that the features look back on.
        settings: Of the flip detector.
    """
    used = settings or ScoreSettings()
    single = list({fingerprint(t): t for t in reversed(trajectories)}.values())[::-1]
    scores = score(single, used)
    rows: list[list[float]] = []
    soon: list[bool] = []
    trial: list[int] = []
    step: list[int] = []
    onsets: list[int | None] = []
    names: list[str] = []
    for t, s, reading in zip(single, scores, step_readings(single, used), strict=True):
        if s.flip is None or reading is None:
            continue
        number = len(names)
        names.append(str(t.header.extra.get("file", f"{t.header.agent}/{t.header.episode}")))
        onsets.append(s.onset)
        last = s.onset if s.onset is not None else len(t)
        for at in range(2, last):  # steps before `at` + 1 are known; an onset there is still ahead
            rows.append(_features(reading, at, window, len(t)))
            soon.append(s.onset is not None and at < s.onset <= at + horizon)
            trial.append(number)
            step.append(at + 1)
    return ForecastData(
        np.array(rows, dtype=np.float64).reshape(-1, len(FEATURES)),
        np.array(soon, dtype=np.bool_),
        np.array(trial, dtype=np.int64),
        np.array(step, dtype=np.int64),
        tuple(onsets),
        tuple(names),
    )


def _features(reading: StepReading, at: int, window: int, length: int) -> list[float]:
    """Features of the steps before `at` (counted from 0, so that `at` steps are known)."""
    past = slice(max(0, at - window), at)
    own = reading.actions[past] - reading.handwritten[past]
    half = len(own) // 2
    by_objective = own.mean(axis=0)
    trend = own[half:].mean(axis=0).max() - (own[:half].mean(axis=0).max() if half else 0.0)
    gaps = np.ptp(reading.compared[past], axis=-1)
    moves = reading.actions[max(0, at - window) : at]
    same = np.all(moves[1:] == moves[:-1], axis=-1)
    taken = moves.sum(axis=0)
    return [
        float(by_objective.max()),
        float(trend),
        float(reading.excess[past].max(axis=-1).mean()),
        float(gaps[-1]),
        float(gaps[-1] - gaps[0]),
        float(same.mean()) if len(same) else 0.0,
        float(taken.max() / taken.sum()) if taken.sum() > 0 else 0.0,
        float(reading.counts[at - 1].max()),
        at / length,
    ]


@dataclass(frozen=True)
class Forecast:
    """How well onsets were foreseen, on trials that the model had not seen.

    Attributes:
        auc: Area under the ROC curve by forecaster: ``model``, ``step`` and ``counter``; None where all
            steps have the same label.
        auc_interval: Bootstrap intervals over trials.
        average_precision: Mean precision of the model over all thresholds; chance is `base_rate`.
        base_rate: Share of steps with an onset within the horizon.
        lead_times: Per flip, steps from the first alarm within the horizon to the onset, both counted, so
            that an alarm at the onset itself is 1; 0 for a flip without such an alarm.
        detected: Flips with an alarm within the horizon before the onset.
        false_alarms: Share of trials without a flip that had an alarm.
        threshold_share: Share of quiet steps that may raise an alarm in training.
        trials: Trials.
        flips: Flips among them with at least one step at risk before the onset.
        steps: Steps at risk.
        horizon: k.
        weights: Coefficient of every feature, in standard deviations, of a fit to all trials.
    """

    auc: dict[str, float | None]
    auc_interval: dict[str, tuple[float, float] | None]
    average_precision: float | None
    base_rate: float
    lead_times: tuple[int, ...]
    detected: int
    false_alarms: float | None
    threshold_share: float
    trials: int
    flips: int
    steps: int
    horizon: int
    weights: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return asdict(self)


def forecast(
    data: ForecastData,
    horizon: int = 10,
    *,
    quiet_alarms: float = 0.05,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Forecast:
    """Fit and judge the forecaster by leaving out one trial at a time.

    Args:
        data: Steps, see `forecast_data`.
        horizon: k, the same as in `forecast_data`.
        quiet_alarms: The alarm's threshold is set on the training trials so that this share of their
            quiet steps would raise one.
        confidence: Level of the intervals.
        resamples: Bootstrap samples, drawn over trials.
        seed: Seed of the bootstrap.

    Raises:
        HomeostasisError: There are not two trials with a flip ahead and one without.
        MissingExtraError: scikit-learn is not installed.
    """
    linear, metrics, pipeline, scaling = _sklearn()
    positive = np.unique(data.trial[data.soon])
    trials = np.unique(data.trial)
    if len(positive) < 2 or len(positive) == len(trials):
        raise HomeostasisError(
            "`data` must hold at least two trials with an onset ahead and one without, "
            f"got {len(positive)} of {len(trials)}"
        )

    def fresh() -> Any:
        return pipeline.make_pipeline(
            scaling.StandardScaler(),
            linear.LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000),
        )

    def held_out(columns: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Predictions and alarms at the steps of every trial, of a fit to the others."""
        chosen = data.features[:, [FEATURES.index(name) for name in columns]]
        predicted = np.empty(len(data.soon))
        alarm = np.zeros(len(data.soon), dtype=np.bool_)
        for one in trials:
            held = data.trial == one
            model = fresh().fit(chosen[~held], data.soon[~held])
            predicted[held] = model.predict_proba(chosen[held])[:, 1]
            quiet = model.predict_proba(chosen[~held & ~data.soon])[:, 1]
            alarm[held] = predicted[held] > np.quantile(quiet, 1.0 - quiet_alarms)
        return predicted, alarm

    predicted, alarm = held_out(FEATURES)
    forecasters = {
        "model": predicted,
        "step": held_out(["step"])[0],
        "counter": held_out(["counter"])[0],
    }
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(data.trial == one) for one in trials]
    picks = [rng.integers(len(trials), size=len(trials)) for _ in range(resamples)]
    samples = [np.concatenate([members[k] for k in pick]) for pick in picks]
    auc: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float] | None] = {}
    for name, values in forecasters.items():
        auc[name] = float(metrics.roc_auc_score(data.soon, values))
        draws = [
            metrics.roc_auc_score(data.soon[rows], values[rows])
            for rows in samples
            if 0 < data.soon[rows].sum() < len(rows)
        ]
        tail = 50.0 * (1.0 - confidence)
        low, high = np.percentile(draws, [tail, 100.0 - tail])
        intervals[name] = (float(low), float(high))
    leads, detected = _lead_times(data, alarm, horizon)
    calm = [alarm[data.trial == one].any() for one in trials if data.onsets[one] is None]
    final = fresh().fit(data.features, data.soon)
    return Forecast(
        auc=auc,
        auc_interval=intervals,
        average_precision=float(metrics.average_precision_score(data.soon, predicted)),
        base_rate=float(data.soon.mean()),
        lead_times=leads,
        detected=detected,
        false_alarms=float(np.mean(calm)) if calm else None,
        threshold_share=quiet_alarms,
        trials=len(trials),
        flips=len(positive),
        steps=len(data.soon),
        horizon=horizon,
        weights=dict(zip(FEATURES, final[-1].coef_[0].tolist(), strict=True)),
    )


def _lead_times(data: ForecastData, alarm: NDArray[np.bool_], horizon: int) -> tuple[tuple[int, ...], int]:
    leads, detected = [], 0
    for one in np.unique(data.trial[data.soon]).tolist():
        onset = data.onsets[one]
        assert onset is not None
        steps = data.step[(data.trial == one) & alarm]
        close = steps[steps > onset - horizon]
        leads.append(int(onset - close.min()) + 1 if len(close) else 0)
        detected += bool(len(close))
    return tuple(leads), detected


def _sklearn() -> tuple[Any, Any, Any, Any]:
    try:
        from sklearn import linear_model, metrics, pipeline, preprocessing
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "pip install scikit-learn") from error
    return linear_model, metrics, pipeline, preprocessing
