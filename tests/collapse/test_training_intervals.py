"""Intervals over trainings that all play the same paths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from homeostasis_gym.collapse.statistics import wilson_interval
from homeostasis_gym.collapse.trainings import mean_over_trainings, rate_over_trainings
from homeostasis_gym.errors import HomeostasisError


def test_of_one_path_the_mean_has_students_interval():
    values = np.array([[4.0], [7.0], [1.0], [9.0], [3.0]])
    expected = ttest_1samp(values[:, 0], 0.0).confidence_interval(0.95)
    assert mean_over_trainings(values) == pytest.approx((expected.low, expected.high))


def test_copies_of_an_episode_tell_nothing_more():
    values = np.array([[4.0], [7.0], [1.0], [9.0], [3.0]])
    assert mean_over_trainings(np.repeat(values, 100, axis=1)) == pytest.approx(mean_over_trainings(values))


def test_copies_of_a_training_leave_the_spread_of_the_paths():
    paths = np.random.default_rng(0).normal(size=40)
    expected = ttest_1samp(paths, 0.0).confidence_interval(0.95)
    assert mean_over_trainings(np.tile(paths, (3, 1))) == pytest.approx((expected.low, expected.high))


def test_a_table_computed_by_hand():
    values = np.array([[1.0, 2.0, 6.0], [3.0, 8.0, 10.0]])
    # Rows have the means 3 and 7, columns 2, 5 and 8; what is left is 1, -1, 0 and the reverse.
    trainings, paths, rest = 3 * (4 + 4) / 1, 2 * (9 + 0 + 9) / 2, 4 / 2
    total = trainings + paths - rest
    freedom = total**2 / (trainings**2 / 1 + paths**2 / 2 + rest**2 / 2)
    half = t.ppf(0.975, freedom) * np.sqrt(total / 6)
    assert mean_over_trainings(values) == pytest.approx((5.0 - half, 5.0 + half))


def test_an_interval_is_cut_to_what_is_possible():
    values = np.array([[0.0, 0.1], [0.4, 0.7]])
    low, high = mean_over_trainings(values)
    assert low < 0.0 and high > 1.0
    assert mean_over_trainings(values, bounds=(0.0, 1.0)) == (0.0, 1.0)


def test_one_training_has_no_interval():
    assert mean_over_trainings([[1.0, 2.0, 3.0]]) is None


@pytest.mark.parametrize(("of_trainings", "of_paths"), [(1.0, 0.0), (0.0, 1.0), (1.0, 3.0), (0.3, 0.3)])
def test_the_interval_covers_as_often_as_it_says(of_trainings, of_paths):
    generator = np.random.default_rng(1)
    covered, rounds = 0, 600
    for _ in range(rounds):
        values = (
            of_trainings * generator.normal(size=(5, 1))
            + of_paths * generator.normal(size=(1, 30))
            + generator.normal(size=(5, 30))
        )
        low, high = mean_over_trainings(values)
        covered += low <= 0.0 <= high
    assert 0.92 <= covered / rounds <= 0.995


def test_where_no_episode_flips_a_training_counts_as_one_observation():
    assert rate_over_trainings(np.zeros((5, 100))) == pytest.approx(wilson_interval(0, 5))
    assert rate_over_trainings(np.ones((3, 100))) == pytest.approx(wilson_interval(3, 3))


def test_a_few_flips_do_not_make_the_interval_narrower_than_none():
    one_flip = np.zeros((5, 100))
    one_flip[2, 7] = 1
    low, high = rate_over_trainings(one_flip)
    assert low < 0.002 < high
    assert high >= rate_over_trainings(np.zeros((5, 100)))[1]


@pytest.mark.parametrize(("rate", "spread"), [(0.3, 0.0), (0.3, 0.8), (0.8, 1.5)])
def test_the_interval_of_a_rate_covers_as_often_as_it_says(rate, spread):
    generator = np.random.default_rng(2)
    centre = np.log(rate / (1 - rate))
    true = float((1 / (1 + np.exp(-centre - spread * generator.normal(size=100_000)))).mean())
    covered, rounds = 0, 600
    for _ in range(rounds):
        of_training = 1 / (1 + np.exp(-centre - spread * generator.normal(size=(5, 1))))
        low, high = rate_over_trainings(generator.random((5, 40)) < of_training)
        covered += low <= true <= high
    assert 0.92 <= covered / rounds <= 0.999


def test_trainings_that_flip_always_or_never_count_as_one_observation_each():
    low, high = rate_over_trainings(np.repeat([[0], [1], [1], [0], [0]], 100, axis=1))
    pooled = wilson_interval(200, 500)
    assert low < 0.15 < pooled[0] and pooled[1] < 0.75 < high


def test_independent_episodes_count_in_full_and_no_more():
    flags = np.random.default_rng(3).random((40, 50)) < 0.3
    low, high = rate_over_trainings(flags)
    pooled = wilson_interval(int(flags.sum()), flags.size)
    assert (low, high) == pytest.approx(pooled, abs=0.02)
    assert high - low >= pooled[1] - pooled[0] - 1e-12


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: mean_over_trainings([1.0, 2.0]), r"shape \(trainings, paths\), got \(2,\)"),
        (lambda: mean_over_trainings([[1.0, np.nan]]), "finite, got 1 that are not"),
        (lambda: mean_over_trainings([[1.0, 2.0]], 1.0), "`confidence` must be between 0 and 1, got 1.0"),
        (lambda: mean_over_trainings([[0.5], [1.5]], bounds=(0, 1)), "`bounds` must hold all values, got"),
        (lambda: rate_over_trainings([[0.0, 2.0]]), "`flags` must be 0 or 1, got values from 0 to 2"),
    ],
)
def test_errors_name_argument_rule_and_value(call, told):
    with pytest.raises(HomeostasisError, match=told):
        call()
