"""The Mersenne Twister against CPython's and NumPy's own."""

import random

import numpy as np
import pytest

from homeostasis_gym.core.mersenne import choices, low_bytes
from homeostasis_gym.errors import HomeostasisError

# One word, the first of two words, two words, three; and enough of them for several groups of lanes.
SEEDS = [0, 1, 7, 2**31, 2**32 - 1, 2**32, 2**33 + 5, 2**40 + 123, 2**63 - 1, *range(100, 130)]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 127])
def test_choices_are_pythons_own(count):
    for seed, row in zip(SEEDS, choices(SEEDS, 1300, count), strict=True):
        stream = random.Random(seed)
        assert row.tolist() == [stream.choice(range(count)) for _ in range(1300)], seed


def test_seeds_of_any_size():
    seeds = [2**63, 2**70 + 1, 3]
    for seed, row in zip(seeds, choices(np.array(seeds, dtype=object), 200, 2), strict=True):
        stream = random.Random(seed)
        assert row.tolist() == [stream.choice((0, 1)) for _ in range(200)], seed


@pytest.mark.parametrize("count", [0, 1, 64, 624, 625, 2000])
def test_low_bytes_are_numpys_own(count):
    seeds = [seed for seed in SEEDS if seed < 2**32]
    for seed, row in zip(seeds, low_bytes(seeds, count), strict=True):
        words = np.frombuffer(np.random.RandomState(seed).bytes(4 * count), np.uint8)
        np.testing.assert_array_equal(row, words[::4])


def test_shapes():
    assert choices(3, 5, 2).shape == (5,)
    assert choices(np.arange(6).reshape(2, 3), 5, 2).shape == (2, 3, 5)
    assert choices([], 5, 2).shape == (0, 5)
    assert choices([1], 0, 2).shape == (1, 0)
    assert low_bytes([], 4).shape == (0, 4)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([-1], r"`seeds` must be at least 0, got -1"),
        ([0.5], r"`seeds` must be whole numbers, got 0.5"),
        ([True], r"`seeds` must be whole numbers, got True"),
        (["a"], r"`seeds` must be whole numbers, got 'a'"),
    ],
)
def test_seeds_that_are_refused(seeds, message):
    with pytest.raises(HomeostasisError, match=message):
        choices(seeds, 3, 2)


def test_ties_take_seeds_of_one_word():
    with pytest.raises(
        HomeostasisError, match=r"`seeds` must be at least 0 and below 2\*\*32, got 4294967296"
    ):
        low_bytes([2**32], 3)
