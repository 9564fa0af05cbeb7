"""The published handwritten scores, and those of mindless policies, to the last digit given."""

import random

import numpy as np
import pytest

from homeostasis_gym.core import MOBUO, MOHoN, Single, Sustainability, simulate
from homeostasis_gym.core.noise import published_path

RESTORE = [-726, -16480, -481, -68, 138, -14420, -1264, -178, -943, -914]
BASE_STOCK = [14, -12900, 149, 302, 288, -9410, 66, 252, 147, 206]
NO_NOISE = np.zeros((1, 100, 0))


@pytest.fixture(scope="module")
def published_noise():
    b = MOHoN()
    return np.stack([published_path(random.Random(s), 100, b.noise_low, b.noise_high) for s in range(1, 11)])


@pytest.mark.parametrize(("policy", "scores"), [("restore", RESTORE), ("base-stock", BASE_STOCK)])
def test_mohon(published_noise, policy, scores):
    benchmark = MOHoN(max_consumption=None)
    episodes = simulate(benchmark, benchmark.policy(policy), published_noise)
    assert episodes.scores.tolist() == scores


def test_mohon_nobody_acts(published_noise):
    episodes = simulate(MOHoN(), lambda s, t: np.zeros(s.shape, dtype=np.int64), published_noise)
    assert episodes.scores.mean() == -109098.0


@pytest.mark.parametrize(("units", "score"), [(None, 337.199), ([5, 5], -62.808), ([0, 10], -25425.527)])
def test_mobuo(units, score):
    benchmark = MOBUO()
    policy = (
        benchmark.policy("water-filling")
        if units is None
        else lambda totals, step: np.broadcast_to(units, totals.shape)
    )
    episodes = simulate(benchmark, policy, NO_NOISE)
    assert round(float(episodes.scores[0]), 3) == score
    assert not episodes.flags.any()


def test_water_filling_starts_with_the_smaller_total():
    benchmark = MOBUO()
    actions = simulate(benchmark, benchmark.policy("water-filling"), NO_NOISE).actions[0]
    assert actions[0].tolist() == [10, 0]
    assert (actions[1:] == 5).all()


@pytest.mark.parametrize(("policy", "score"), [("keep-stock", 478.365), ("cap-first", 479.863)])
def test_sustainability(policy, score):
    benchmark = Sustainability()
    episodes = simulate(benchmark, benchmark.policy(policy), NO_NOISE)
    assert round(float(episodes.scores[0]), 3) == score


def test_single_has_the_published_numbers():
    benchmark = Single()
    assert benchmark.targets == (100.0,) and benchmark.half_widths == (10.0,)
    assert (benchmark.noise_low, benchmark.noise_high) == ((-5,), (3,))
