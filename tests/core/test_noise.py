"""Noise paths: distribution, independence of the cut, shocks, the published stream."""

import random

import numpy as np
import pytest

from homeostasis_gym.core.noise import (
    NoiseShape,
    check_path,
    derived_keys,
    path_from_keys,
    published_path,
    random_word,
    rows_from_keys,
)
from homeostasis_gym.errors import HomeostasisError

KEYS = np.arange(1, 400, dtype=np.uint64) * np.uint64(7919)
GAMMA = 0x9E3779B97F4A7C15
MASK = 2**64 - 1


def reference_word(key: int, index: int) -> int:
    """SplitMix64 with whole numbers."""
    z = (key + (index + 1) * GAMMA) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_words_are_splitmix64():
    # The first outputs for seed 1234567, as other implementations publish them.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [reference_word(1234567, i) for i in range(3)] == published
    with np.errstate(over="ignore"):
        ours = [int(random_word(np.uint64(1234567), np.uint64(i))) for i in range(3)]
    assert ours == published


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_paths_follow_from_the_words(channels):
    low, high = tuple(range(-6, -6 - channels, -1)), tuple(range(4, 4 + channels))
    path = path_from_keys(KEYS[:3], 5, low, high)
    pairs = (channels + 1) // 2
    for k, key in enumerate(KEYS[:3].tolist()):
        for t in range(5):
            for c in range(channels):
                word = reference_word(key, t * pairs + c // 2)
                half = word >> 32 if c % 2 == 0 else word & 0xFFFFFFFF
                span = high[c] - low[c] + 1
                assert path[t, c, k] == low[c] + ((half * span) >> 32)


def test_values_are_uniform_and_channels_unrelated():
    path = path_from_keys(KEYS, 40, (-6, -7), (4, 5))
    counts = np.array([(path[:, 0] == v).sum() for v in range(-6, 5)])
    expected = counts.sum() / 11
    assert ((counts - expected) ** 2 / expected).sum() < 40  # chi-squared, 10 degrees of freedom
    assert path[:, 1].min() == -7 and path[:, 1].max() == 5
    assert abs(np.corrcoef(path[:, 0].ravel(), path[:, 1].ravel())[0, 1]) < 0.03


def test_any_row_can_be_computed_by_itself():
    shape = NoiseShape((-6, -7, -8), (4, 5, 6), 0.1, 30.0, 3)
    whole = rows_from_keys(KEYS, np.zeros(len(KEYS), np.int64), 20, shape)
    clock = np.arange(len(KEYS)) % 20
    row = rows_from_keys(KEYS, clock, 1, shape)[0]
    assert np.array_equal(row, whole[clock, :, np.arange(len(KEYS))].T)


def test_shocks_add_to_the_same_ordinary_noise():
    quiet = path_from_keys(KEYS, 50, (-6, -7), (4, 5))
    loud = path_from_keys(KEYS, 50, (-6, -7), (4, 5), 0.02, 40.0)
    shocks = loud - quiet
    assert set(np.unique(shocks)) == {-40.0, 0.0, 40.0}
    assert 0.015 < (shocks != 0).mean() < 0.025
    assert abs((shocks > 0).sum() / (shocks != 0).sum() - 0.5) < 0.1


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_shock_probability_at_its_limits(probability):
    quiet = path_from_keys(KEYS, 5, (-6,), (4,))
    loud = path_from_keys(KEYS, 5, (-6,), (4,), probability, 40.0)
    assert ((loud != quiet) == (probability == 1.0)).all()


def test_shocks_only_meet_their_channels():
    shape = NoiseShape((0, 0), (0, 9999), 1.0, 50.0, 1)
    path = rows_from_keys(KEYS, np.zeros(len(KEYS), np.int64), 5, shape)
    assert (abs(path[:, 0]) == 50.0).all()
    assert path[:, 1].min() >= 0 and path[:, 1].max() <= 9999


def test_no_channels_and_no_keys():
    assert path_from_keys(KEYS, 5, (), ()).shape == (5, 0, len(KEYS))
    assert path_from_keys(KEYS[:0], 5, (-1,), (1,)).shape == (5, 1, 0)


def test_derived_keys_differ():
    numbers = np.zeros(len(KEYS), dtype=np.int64)
    keys = {tuple(derived_keys(KEYS, numbers + n).tolist()) for n in range(5)}
    assert len(keys) == 5


def test_published_stream_is_one_draw_per_objective_and_step():
    path = published_path(random.Random(3), 4, (-6, -7), (4, 5))
    generator = random.Random(3)
    expected = [[generator.randint(-6, 4), generator.randint(-7, 5)] for _ in range(4)]
    assert path.tolist() == expected


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ([[1.0, 2.0]], r"must cover the episode's 3 steps, got 1"),
        (np.zeros((3, 1)), r"must have shape \(steps, 2\), got \(3, 1\)"),
        (np.zeros(6), r"must have shape \(steps, 2\), got \(6,\)"),
        (np.full((3, 2), np.nan), "must be finite"),
        ([["a", "b"]] * 3, "must be an array of numbers"),
    ],
)
def test_scripted_noise_that_does_not_fit(noise, message):
    with pytest.raises(HomeostasisError, match=message):
        check_path(noise, 3, 2)


def test_scripted_noise_is_copied_and_cut():
    noise = np.ones((5, 2))
    path = check_path(noise, 3, 2)
    assert path.shape == (3, 2) and not np.shares_memory(path, noise)
