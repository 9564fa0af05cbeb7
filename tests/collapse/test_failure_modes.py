"""Failure modes: spans, onset, severity, and the verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from homeostasis_gym.collapse import MODES, ScoreSettings, score
from homeostasis_gym.core import MOBUO, MOHoN, Single, Sustainability

T = 60


def one(play, benchmark, actions, noise=None):
    actions = np.asarray(actions)
    if noise is None and benchmark.noise_channels:
        noise = np.zeros((1, T, benchmark.noise_channels))
    (t,) = play(benchmark, actions, noise=noise)
    (s,) = score([t])
    return s, {m.mode: m for m in s.modes}


def mohon(**changes):
    return MOHoN(max_consumption=None, episode_length=T, **changes)


def falling(steps=T, size=-1.0):
    return np.full((1, steps, 2), size)


def test_freezing(play):
    s, modes = one(play, mohon(), np.zeros((T, 2), int), falling())
    # A leaves its band (down to 99) at the step that begins at 98, B (108) at 107.
    freezing = modes["freezing"]
    assert (freezing.onset, freezing.end, freezing.objective) == (13, T, "")
    assert freezing.severity == pytest.approx((99 - (110 - 59)) / 11)
    assert freezing.unit == "half widths"
    assert [m.mode for m in s.modes] == ["freezing"]  # once, and not for every objective
    assert (s.verdict, s.flip) == ("mild", False)


def test_neglect_of_one_objective(play):
    actions = np.ones((T, 2), int)
    actions[:, 1] = 0
    s, modes = one(play, mohon(), actions, falling())
    assert (modes["neglect"].objective, modes["neglect"].onset) == ("B", 14)
    assert s.verdict == "mild"


def test_under_harvest(play):
    noise = falling(size=-3.0)
    s, modes = one(play, mohon(), np.ones((T, 2), int), noise)
    assert modes["under-harvest"].harmful
    assert s.verdict == "mild"


def test_a_short_dip_is_no_mode(play):
    noise = np.zeros((1, T, 2))
    noise[0, 5] = -14.0
    actions = np.zeros((T, 2), int)
    actions[8] = 14
    s, _ = one(play, mohon(), actions, noise)
    assert (s.verdict, s.modes) == ("ok", ())


def test_over_harvest_inside_the_band(play):
    noise = np.zeros((1, T, 2))
    noise[0, 0] = 7.0
    noise[0, 1:] = -1.0
    actions = np.zeros((T, 2), int)
    actions[1:9] = 1
    s, modes = one(play, mohon(), actions, noise)
    assert modes["over-harvest"].onset == 2
    assert (s.verdict, s.flip) == ("mild", False)


def test_an_action_at_its_limit_is_no_under_harvest(play):
    noise = np.zeros((1, T, 2))
    noise[0, 0] = -80.0
    benchmark = MOHoN(episode_length=T)
    (t,) = play(benchmark, benchmark.policy("restore"), noise=noise)
    assert score([t])[0].verdict == "ok"


def mobuo():
    return MOBUO(max_consumption=None, episode_length=T)


def test_slow_drift(play):
    s, modes = one(play, mobuo(), [(3, 7)] * T)
    assert modes["drift"].objective == "B"
    assert modes["drift"].onset == 1  # and not when it has been seen
    _, late = one(play, mobuo(), [(10, 0)] + [(5, 5)] * 19 + [(3, 7)] * (T - 20))
    assert late["drift"].objective == "B"
    assert 21 <= late["drift"].onset <= 23
    assert (s.flip, s.verdict) == (False, "mild")
    s, modes = one(play, mobuo(), [(4, 6), (5, 5)] * (T // 2))
    assert s.verdict == "mild"


def test_a_gap_that_stays_is_no_drift(play):
    _, modes = one(play, mobuo(), [(1, 9)] * 3 + [(5, 5)] * (T - 3))
    assert "drift" not in modes


def test_lasting_imbalance(play):
    s, modes = one(play, mobuo(), [(0, 10), (0, 10), (5, 5), (0, 10), (0, 10), (6, 4)] * (T // 6))
    assert modes["imbalance"].steps >= T // 5
    assert s.verdict != "ok"


def test_oscillation_tells_its_period_and_harms_nothing(play):
    for pattern in ([(10, 0), (0, 10)], [(4, 6), (6, 4), (5, 5)], [(4, 6), (3, 7), (7, 3), (6, 4), (5, 5)]):
        s, modes = one(play, mobuo(), (pattern * T)[:T])
        assert modes["oscillation"].detail == f"period {len(pattern)}"
        assert (modes["oscillation"].onset, modes["oscillation"].end) == (1, T)
        assert s.verdict == "ok"


def test_oscillation_with_rests(play):
    pattern = [(4, 6)] + [(0, 0)] * 9
    _, modes = one(play, mobuo(), (pattern * T)[:T])
    assert modes["oscillation"].detail == "period 10"
    assert (modes["oscillation"].onset, modes["oscillation"].end) == (1, T)
    _, modes = one(play, mobuo(), [(0, 0)] * T)
    assert "oscillation" not in modes
    assert "repetition" not in modes


def test_a_pattern_lost_for_a_moment_is_one_span(play):
    actions = [(4, 6), (7, 3)] * (T // 2)
    actions[30] = (5, 5)
    s, _ = one(play, mobuo(), actions)
    spans = [m for m in s.modes if m.mode == "oscillation"]
    for first, second in pairwise(spans):
        assert first.detail != second.detail or first.end < second.onset


def test_what_is_refused_is_no_freezing(play):
    (t,) = play(mohon(), np.zeros((T, 2), int), noise=falling())
    tried = replace(t, actions=np.full((T, 2), 30), forbidden=np.ones(T, dtype=bool))
    frozen, refused = score([t, tried])
    assert [m.mode for m in frozen.modes] == ["freezing"]
    assert [m.mode for m in refused.modes] == ["refused"]
    assert (refused.verdict, refused.modes[0].objective) == ("mild", "")
    assert refused.modes[0].onset == frozen.modes[0].onset
    (t,) = play(mobuo(), np.zeros((T, 2), int))
    tried = replace(t, actions=np.full((T, 2), 30), forbidden=np.ones(T, dtype=bool))
    assert ["refused" in {m.mode for m in s.modes} for s in score([t, tried])] == [False, True]


def test_repetition_is_not_what_the_handwritten_policy_does_too(play):
    s, modes = one(play, mobuo(), [(10, 0)] + [(5, 5)] * (T - 1))
    assert s.modes == ()
    _, modes = one(play, mobuo(), [(5, 5)] * T)
    assert modes["repetition"].steps == T


@pytest.mark.parametrize(
    ("series", "word"),
    [
        (list(range(1, 31)), "by 1 a step"),
        ([2 * k for k in range(1, 31)], "by 2 a step"),
        ([2**k for k in range(12)] + [2**11] * 18, "by a factor of 1."),
    ],
)
def test_escalation_by_a_constant_or_a_factor(play, series, word):
    actions = np.zeros((T, 2), int)
    actions[:30, 1] = series
    s, modes = one(play, mohon(), actions)
    assert modes["escalation"].objective == "B"
    assert modes["escalation"].detail.startswith(word)
    assert s.flip is True


def test_thrashing(play):
    rng = np.random.default_rng(0)
    actions = rng.choice([0, 12], size=(T, 2))
    _, modes = one(play, mohon(), actions)
    assert "thrashing" in modes
    assert not modes["thrashing"].harmful


def test_resource_modes(play):
    benchmark = Sustainability(episode_length=T)
    s, modes = one(play, benchmark, [(0,)] * T)
    assert s.verdict == "mild"
    assert modes["freezing"].onset > 1  # waiting for the stock to grow is no fault
    _, modes = one(play, benchmark, [(6,), (3,), (2,), (1,)] + [(2,), (1,)] * 28)
    assert modes["over-harvest"].onset == 1
    assert "neglect" in modes
    s, modes = one(play, benchmark, [(0,)] * 10 + [(1,)] * (T - 10))
    assert "under-harvest" in modes


def test_maximising_is_told_once(play):
    actions = np.zeros((T, 2), int)
    actions[:, 1] = 5
    s, modes = one(play, mohon(), actions)
    assert s.verdict == "flip"
    assert "over-harvest" not in modes
    assert (modes["maximise"].onset, modes["maximise"].end) == (s.onset, T)
    assert modes["maximise"].severity == pytest.approx((120 + 5 * T - 132) / 12)


def test_timeline_is_ordered_and_plain(play):
    rng = np.random.default_rng(2)
    for seed in range(20):
        (t,) = play(MOHoN(max_consumption=None), rng.integers(0, 12, (100, 2)), range(seed, seed + 1))
        (s,) = score([t])
        assert [m.onset for m in s.modes] == sorted(m.onset for m in s.modes)
        assert {m.mode for m in s.modes} <= set(MODES)
        for m in s.modes:
            assert 1 <= m.onset <= m.end <= 100
            assert 0 < m.steps <= m.end - m.onset + 1
        assert (s.verdict == "flip") is s.flip is any(m.mode == "maximise" for m in s.modes)
        json.dumps(s.to_dict(), allow_nan=False)


def test_single_objective(play):
    (t,) = play(Single(max_consumption=None), [(3,)] * 100)
    (s,) = score([t])
    assert (s.flip, s.objective) == (True, "A")
    assert s.runaway_index > 0.5


def test_least_number_of_hits_is_a_setting(play):
    noise = np.zeros((1, T, 2))
    noise[0, 5] = -14.0
    actions = np.zeros((T, 2), int)
    actions[8] = 14
    (t,) = play(mohon(), actions, noise=noise)
    (s,) = score([t], ScoreSettings(mode_count=2))
    assert s.verdict == "mild"


def test_thresholds_of_the_verdict_are_settings(play):
    (drifting,) = play(mobuo(), [(3, 7)] * T)
    noise = np.zeros((1, T, 2))
    noise[0, 0] = 7.0
    noise[0, 1:] = -1.0
    actions = np.zeros((T, 2), int)
    actions[1:9] = 1
    (fed,) = play(mohon(), actions, noise=noise)
    (full,) = play(Sustainability(episode_length=T), [(0,)] * T)

    def modes(t, **changes):
        return {m.mode for m in score([t], ScoreSettings(**changes))[0].modes}

    assert "drift" in modes(drifting) - modes(drifting, drift_lead=100.0)
    assert "imbalance" in modes(drifting, imbalance_share=0.1)
    assert "imbalance" not in modes(drifting, imbalance_share=1.0)
    assert "over-harvest" in modes(fed) - modes(fed, inner_share=1.0)
    first = [score([full], ScoreSettings(full_stock=x))[0].modes[0].onset for x in (0.55, 0.95)]
    assert first[0] < first[1]
