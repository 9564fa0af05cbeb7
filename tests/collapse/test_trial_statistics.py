"""Statistics across trials, against values from the literature, by hand, or from other libraries."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from homeostasis_gym.collapse import (
    ScoreSettings,
    compare,
    compare_all,
    distinct,
    onset_curve,
    score,
    summarize,
    trials_needed,
    wilson_interval,
)
from homeostasis_gym.collapse.forecast import FEATURES, forecast, forecast_data
from homeostasis_gym.collapse.scoring import fingerprint
from homeostasis_gym.collapse.statistics import bootstrap_interval, cliffs_delta, holm, logrank_test
from homeostasis_gym.core import MOBUO, MOHoN
from homeostasis_gym.errors import HomeostasisError, MissingExtraError

_NUMBER = count()


@pytest.fixture
def base(play):
    return score(play(MOHoN(), MOHoN().policy("restore")))[0]


def made(base, onsets, steps=100):
    """Results with these onsets; None is an episode without a flip, "?" an unscored one."""
    found = []
    for k, onset in enumerate(onsets):
        flip = None if onset == "?" else onset is not None
        found.append(
            replace(
                base,
                fingerprint=str(next(_NUMBER)),
                flip=flip,
                onset=onset if flip else None,
                verdict=None if flip is None else "flip" if flip else "ok",
                recovered=False if flip else None,
                steps=steps,
                regret=float(k),
            )
        )
    return found


def test_wilson():
    # Newcombe 1998, table I: 81 of 263 and 0 of 20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    with pytest.raises(HomeostasisError, match="`trials` at least 1, got 0 of 0"):
        wilson_interval(0, 0)


def test_kaplan_meier_by_hand(base):
    curve = onset_curve(made(base, [10, 20, 20, None, "?"], steps=30))
    assert curve.steps == (0.0, 10.0, 20.0, 30.0)
    assert curve.surviving == pytest.approx((1.0, 0.75, 0.25, 0.25))
    assert curve.median == 20
    assert (curve.episodes, curve.flips, curve.unscored) == (4, 3, 1)
    assert all(low <= s <= high for low, s, high in zip(curve.low, curve.surviving, curve.high, strict=True))
    # Censored early: at step 20 only one of the two still at risk flips.
    scores = [*made(base, [10, 20], steps=30), *made(base, [None], steps=15), *made(base, [None], steps=40)]
    assert onset_curve(scores).surviving == pytest.approx((1.0, 0.75, 0.75, 0.375, 0.375))
    assert onset_curve(made(base, [None, None])).median is None
    assert onset_curve(made(base, ["?"])) is None
    json.dumps(curve.to_dict(), allow_nan=False)


def test_the_band_of_onsets_is_certain_of_nothing(base):
    quiet = onset_curve(made(base, [None] * 10, steps=30))
    assert set(quiet.surviving) == {1.0}
    assert quiet.low == pytest.approx([1.0 - wilson_interval(0, 10)[1]] * len(quiet.low))
    assert set(quiet.high) == {1.0}
    sudden = onset_curve(made(base, [1] * 5))
    assert sudden.surviving[-1] == 0.0
    assert (sudden.low[-1], sudden.high[-1]) == pytest.approx((0.0, wilson_interval(0, 5)[1]))
    curve = onset_curve([*made(base, [10, 20, 25]), *made(base, [None], steps=5)])
    assert curve.low[0] == pytest.approx(1.0 - wilson_interval(0, 4)[1])
    assert curve.low[1] == pytest.approx(1.0 - wilson_interval(0, 4)[1])  # four until the one that ends at 5
    assert (np.diff(curve.high) <= 0).all()
    assert all(low <= s <= high for low, s, high in zip(curve.low, curve.surviving, curve.high, strict=True))


def test_the_same_course_under_other_rules_is_no_copy(play):
    (t,) = play(MOBUO(), [(5, 5)] * 100)
    other = replace(t, header=replace(t.header, benchmark={**t.header.benchmark, "harvest_limit": 11}))
    refused = replace(t, forbidden=np.ones(len(t), dtype=bool))
    unanswered = replace(t, valid=np.zeros(len(t), dtype=bool))
    again = replace(t, header=replace(t.header, seed=9, agent="another"))
    prints = [fingerprint(one) for one in (t, other, refused, unanswered, again)]
    assert len(set(prints)) == 4
    assert prints[0] == prints[4]


def test_copies_count_once(play):
    runs = play(MOBUO(), [(0, 10)] * 100, range(10))
    scores = score(runs)
    assert len(distinct(scores)) == 1
    summary = summarize(scores)
    assert (summary.episodes, summary.distinct, summary.flips, summary.distinct_flips) == (10, 1, 10, 1)
    assert summary.flip_interval == wilson_interval(1, 1)
    assert summary.runaway_interval is None
    assert summary.runaway_index == pytest.approx(summary.runaway_index_all)
    noisy = score(play(MOHoN(), MOHoN().policy("restore"), range(10)))
    assert len(distinct(noisy)) == 10


def test_summary_counts_what_is_unscored(base):
    scores = made(base, [5, None, "?", 9])
    s = summarize(scores)
    assert (s.episodes, s.unscored, s.flips) == (4, 1, 2)
    assert s.flip_rate == pytest.approx(2 / 3)
    assert s.median_onset == 9
    assert s.verdicts == {"flip": 2, "ok": 1, "unscored": 1}
    unknown = summarize(made(base, ["?", "?"]))
    assert unknown.flip_rate is None
    assert unknown.flip_interval is None
    assert unknown.median_onset is None
    json.dumps(s.to_dict(), allow_nan=False)
    with pytest.raises(HomeostasisError, match="at least one episode"):
        summarize([])
    with pytest.raises(HomeostasisError, match="same settings"):
        summarize([*scores, replace(scores[0], settings=ScoreSettings(flip_count=9))])


def test_comparison(base):
    early, late = made(base, [3, 4, 5, 6, 7, 8]), made(base, [None, None, None, None, None, 50])
    c = compare(early, late, ("early", "late"))
    assert (c.flips, c.episodes) == ((6, 1), (6, 6))
    assert c.difference == pytest.approx(5 / 6)
    assert c.difference_interval[0] < c.difference <= c.difference_interval[1] <= 1.0
    assert c.fisher_p == pytest.approx(0.015152, abs=1e-6)
    assert c.logrank_p < 0.01
    assert c.cohens_h == pytest.approx(2 * (np.pi / 2 - np.arcsin(np.sqrt(1 / 6))))
    assert c.regret_delta == 0.0
    same = compare(made(base, [None] * 4), made(base, [None] * 5))
    assert same.fisher_p == 1.0
    assert same.logrank_p is None
    with pytest.raises(HomeostasisError, match="'second' holds none"):
        compare(early, made(base, ["?"]))


def test_logrank_by_permutation_and_by_the_library(base):
    one, ten = made(base, [1]), made(base, [2, 3, 3, 4, 5, 5, 6, 7, 8, 9])
    assert compare(one, ten).logrank_p == pytest.approx(3 / 11)  # two late ones lie further out
    rng = np.random.default_rng(5)
    times = [rng.integers(1, 90, 25).astype(float) for _ in range(2)]
    flipped = [rng.random(25) < 0.7 for _ in range(2)]
    times[1] *= 1.5
    full = logrank_test((times[0], flipped[0]), (times[1], flipped[1]))
    few = logrank_test((times[0][:19], flipped[0][:19]), (times[1][:19], flipped[1][:19]))
    lifelines = pytest.importorskip("lifelines.statistics")
    usual = lifelines.logrank_test(times[0][:19], times[1][:19], flipped[0][:19], flipped[1][:19]).p_value
    assert full == lifelines.logrank_test(times[0], times[1], flipped[0], flipped[1]).p_value
    assert few == pytest.approx(usual, abs=0.03)  # two roads to nearly the same


def test_newcombes_interval_as_published(base):
    # Newcombe 1998 (difference), table II: 56/70 - 48/80, method 10.
    a = made(base, [1] * 56 + [None] * 14)
    b = made(base, [1] * 48 + [None] * 32)
    assert compare(a, b).difference_interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_many_comparisons_are_corrected(base):
    groups = {
        "a": made(base, [2] * 8),
        "b": made(base, [None] * 8),
        "c": made(base, [2] * 7 + [None]),
        "d": [],
    }
    pairs = compare_all(groups)
    assert [(p.first, p.second) for p in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [p.fisher_adjusted for p in pairs] == holm([p.fisher_p for p in pairs])
    assert all(p.fisher_adjusted >= p.fisher_p and p.comparisons == 3 for p in pairs)


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_cliffs_delta():
    assert cliffs_delta([1, 2, 3], [0, 0]) == 1.0
    assert cliffs_delta([1, 2], [1, 2]) == 0.0
    assert cliffs_delta([1, 2], [2, 3]) == -0.75


@pytest.mark.parametrize("rate", [None, 0.0, 0.1, 0.5])
def test_trials_needed(rate):
    n = trials_needed(0.2, rate)
    p = 0.5 if rate is None else rate

    def width(trials):  # at the expected rate, whole or not
        z = 1.959963984540054
        return 2 * z / (1 + z * z / trials) * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))

    assert width(n) <= 0.2 < width(n - 1)
    if rate == 0.0:
        low, high = wilson_interval(0, n)
        assert high - low <= 0.2
    with pytest.raises(HomeostasisError, match="`width` must be above 0"):
        trials_needed(0.0)
    with pytest.raises(HomeostasisError, match="`rate` must be in"):
        trials_needed(0.1, 2.0)


def test_bootstrap_is_seeded_and_honest_about_one_value():
    values = np.arange(20.0)
    a = bootstrap_interval(values, np.mean, 0.95, 500, 7)
    assert a == bootstrap_interval(values, np.mean, 0.95, 500, 7)
    assert a[0] < values.mean() < a[1]
    assert bootstrap_interval(values[:1], np.mean, 0.95, 500, 7) is None


def test_missing_library_is_named(monkeypatch):
    import builtins

    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'homeostasis-gym\[report\]'"):
        wilson_interval(1, 2)


def late_flippers(play, seed=0):
    """Agents that slide into a flip over a few steps, at random times, and agents that do not."""
    rng = np.random.default_rng(seed)
    benchmark = MOHoN(max_consumption=None)
    restore = benchmark.policy("restore")
    found = []
    for k in range(16):
        start = int(rng.integers(30, 70)) if k % 2 else 1000

        def policy(states, step, start=start):
            slide = max(0, step - start)
            return restore(states, step) + np.array([0, slide // 2])

        found += play(benchmark, policy, range(k, k + 1), agent=f"agent-{k}")
    return found


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_forecast_finds_what_is_there_and_nothing_else(play):
    from sklearn.metrics import roc_auc_score

    runs = late_flippers(play)
    data = forecast_data(runs, horizon=6)
    assert data.features.shape == (len(data.soon), len(FEATURES))
    assert np.isfinite(data.features).all()
    for number, onset in enumerate(data.onsets):
        mine = data.trial == number
        expected = set() if onset is None else set(range(max(3, onset - 5), onset + 1))
        assert set(data.step[mine & data.soon]) == expected
    result = forecast(data, horizon=6, resamples=50)
    assert result.auc["model"] > 0.8
    assert result.auc["model"] > result.auc["step"]
    assert result.detected >= 6
    assert max(result.lead_times) <= 6
    # A baseline is fitted like the model: a ranking without a fit would stand at some other value.
    raw = data.features[:, FEATURES.index("step")]
    assert result.auc["step"] != roc_auc_score(data.soon, raw)
    json.dumps(result.to_dict(), allow_nan=False)
    with pytest.raises(HomeostasisError, match="at least two trials with an onset ahead"):
        forecast(forecast_data(runs[::2], horizon=6), horizon=6)


def test_features_look_at_the_past_only(play):
    (t, *_) = late_flippers(play)[1:]
    whole = forecast_data([t], horizon=6)
    onset = whole.onsets[0]
    changed = replace(t, actions=np.concatenate([t.actions[: onset - 1], t.actions[onset - 1 :] + 3]))
    again = forecast_data([changed], horizon=6)
    assert np.array_equal(whole.features, again.features)
