"""Schedules of turns."""

import random

import numpy as np
import pytest

from homeostasis_gym.core import schedules
from homeostasis_gym.errors import HomeostasisError, UnknownNameError


@pytest.mark.parametrize("agents", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", [0, 7, 2**31, 2**40 + 3, 2**70 + 1])
def test_random_is_pythons_own_stream(agents, seed):
    stream = random.Random(seed)
    expected = [stream.choice(range(agents)) for _ in range(500)]
    found = schedules.random(np.array(seed, dtype=object) if seed > 2**62 else seed, 500, agents)
    assert found.tolist() == expected


def test_random_keeps_the_seeds_axes():
    batch = schedules.random(np.arange(6).reshape(2, 3), 40)
    assert batch.shape == (2, 3, 40)
    np.testing.assert_array_equal(batch[1, 2], schedules.random(5, 40))


def test_fast_random_is_fair_and_repeats():
    drawn = schedules.fast_random(np.arange(50), 1000, 4)
    np.testing.assert_array_equal(drawn, schedules.fast_random(np.arange(50), 1000, 4))
    counts = np.bincount(drawn.reshape(-1), minlength=4)
    assert (abs(counts - 12500) < 5 * np.sqrt(50000 * 3 / 16)).all()
    assert len({row.tobytes() for row in drawn}) == 50


def test_alternating_and_blocks():
    assert schedules.alternating(5).tolist() == [0, 1, 0, 1, 0]
    assert schedules.alternating(4, 3, first=2).tolist() == [2, 0, 1, 2]
    assert schedules.blocks(7, 3).tolist() == [0, 0, 0, 1, 1, 1, 0]


def test_thue_morse():
    assert schedules.thue_morse(8).tolist() == [0, 1, 1, 0, 1, 0, 0, 1]
    assert schedules.thue_morse(9, 3).tolist() == [0, 1, 2, 1, 2, 0, 2, 0, 1]
    assert schedules.thue_morse(3, 1).tolist() == [0, 0, 0]


def test_equal_totals_are_equal_in_any_order():
    drawn = schedules.equal_totals(np.arange(20), 60, 3)
    assert (schedules.totals(drawn, 3) == 20).all()
    assert len({row.tobytes() for row in drawn}) == 20
    with pytest.raises(HomeostasisError, match="`steps` must be a multiple of 2 agents, got 7"):
        schedules.equal_totals(0, 7)


@pytest.mark.parametrize(("share", "length"), [(0.8, 50), (0.6, 100), (1.0, 10), (0.5, 40), (0.7, 0)])
def test_front_loading_changes_the_order_alone(share, length):
    turns = schedules.front_loaded(200, share, length)
    assert schedules.same_totals(turns, schedules.alternating(200))
    assert np.count_nonzero(turns[:length] == 0) == round(share * length)
    np.testing.assert_array_equal(turns[200 - length :], 1 - turns[:length][::-1])
    np.testing.assert_array_equal(schedules.front_loaded(200, share, length, agent=1), 1 - turns)


def test_front_loading_is_spread_evenly():
    turns = schedules.front_loaded(1000, 0.8, 50)
    # Never more than one turn ahead or behind of four in five.
    given = np.cumsum(turns[:50] == 0)
    assert (abs(given - 0.8 * np.arange(1, 51)) < 1).all()


def test_missed_turns_are_repaid():
    turns = schedules.missed_and_repaid(100, 5, at=10, repaid_at=60)
    plain = schedules.alternating(100)
    assert schedules.same_totals(turns, plain)
    changed = np.flatnonzero(turns != plain)
    assert changed.tolist() == [11, 13, 15, 17, 19, 60, 62, 64, 66, 68]
    assert (turns[10:20] == 0).all()
    assert (turns[60:70] == 1).all()
    with pytest.raises(HomeostasisError, match="`repaid_at` must lie after the last missed turn"):
        schedules.missed_and_repaid(100, 5, at=10, repaid_at=12)
    with pytest.raises(HomeostasisError, match="must fit into 100 steps"):
        schedules.missed_and_repaid(100, 30, at=60, repaid_at=70)


def test_totals_leave_out_who_nobody_is():
    assert schedules.totals([0, -1, 1, 1]).tolist() == [1, 2]
    assert not schedules.same_totals([0, 1], [0, 0])


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_every_schedule_by_name(name):
    source = schedules.schedule_source(name, 1000)
    turns = source(np.arange(3))
    assert turns.shape == (3, 1000)
    assert set(np.unique(turns)) == {0, 1}


def test_names_that_are_refused():
    with pytest.raises(UnknownNameError, match="`schedule` must be one of random, "):
        schedules.schedule_source("whim", 10)
    with pytest.raises(
        UnknownNameError, match="schedule blocks has no parameter share; it has length, first"
    ):
        schedules.schedule_source("blocks", 10, share=0.5)
    with pytest.raises(HomeostasisError, match="schedule front_loaded is for 2 agents, got 3"):
        schedules.schedule_source("front_loaded", 10, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.random(-1, 5), "`seeds` must be at least 0, got -1"),
        (lambda: schedules.alternating(-1), "`steps` must be at least 0, got -1"),
        (lambda: schedules.alternating(5, 0), r"`agents` must be in 1\.\.127, got 0"),
        (lambda: schedules.alternating(5, first=2), r"`first` must be in 0\.\.1, got 2"),
        (lambda: schedules.blocks(5, 0), "`length` must be at least 1, got 0"),
        (lambda: schedules.front_loaded(100, 1.5, 10), r"`share` must be in \[0, 1\], got 1\.5"),
        (lambda: schedules.front_loaded(100, 0.8, 60), r"`length` must be in 0\.\.50, got 60"),
        (lambda: schedules.front_loaded(100, 0.8, 5), "`steps` and `length` must be even, got 100 and 5"),
    ],
)
def test_arguments_that_are_refused(call, message):
    with pytest.raises(HomeostasisError, match=message):
        call()
