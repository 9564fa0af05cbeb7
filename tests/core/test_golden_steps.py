"""Single steps computed by hand from the documented formulas, so that no formula can change unnoticed."""

import numpy as np
import pytest

from homeostasis_gym.core import MOBUO, MOBUON, MOHoN, Single, SleepWake, Sustainability, simulate

# Odd parameters on purpose: every one of them must matter. High set points 110, 120, 130, half widths 11, 12,
# 13; the low ones lie three half widths below: 77, 84, 91.
BODY = SleepWake(objectives=3, clearance=1.5, hop=3.0)

STEPS = {
    "mohon": (
        MOHoN(objectives=3),
        [110, 120, 130],
        ([1, 2, 9], [-13, 11, 4]),
        [98, 133, 143],
        # 12 below, half width 11; 13 above, half width 12; 13 above, half width 13: still inside.
        [1, -120, 0, 2, 0, -130, 9, 0, 0],
    ),
    "mobuo": (
        MOBUO(objectives=3),
        [110, 120, 130],
        ([4, 3, 2], []),
        [114, 123, 132],
        # Mean 123; distances 9, 0 and 9, of which 8 + 0 + 8 count, halved.
        [3.59, 2.482, 1.534, -8],
    ),
    "mobuon": (
        MOBUON(objectives=3),
        [110, 120, 130],
        ([4, 3, 2], [-6, 7, 0]),
        [108, 130, 132],
        # The harvest is paid before the noise; mean 370 / 3, distances 46 / 3, 20 / 3 and 26 / 3.
        [3.59, 2.482, 1.534, -13.833],
    ),
    "sleepwake, awake": (
        BODY,
        [110, 84, 130, 1, 0],
        ([2, 5, 0], [-12, 20, 3]),
        [98.5, 107.5, 131.5, 1, 1],
        [2, -115, 0, 5, 0, -235, 0, 0, 0],
    ),
    "sleepwake, asleep": (
        BODY,
        [98.5, 107.5, 131.5, 0, 7],
        ([0, 0, 0], [0, 0, 0]),
        [97, 106, 130, 1, 0],  # the eighth step asleep: it wakes up
        [0, 0, -200, 0, -140, 0, 0, 0, -390],
    ),
    "sustainability": (
        Sustainability(),
        [10, 6, 2],
        ([7], []),
        [4**1.1, 13, 3],
        [7, -0.833],  # mean 13 / 3, 8 / 3 away, of which 5 / 3 count, halved
    ),
}


@pytest.mark.parametrize("case", STEPS)
def test_one_step(case):
    benchmark, state, (action, noise), after, reward = STEPS[case]
    found = benchmark.step(np.array(state, dtype=float), action, np.array(noise, dtype=float))
    assert found[0].tolist() == after
    assert found[1].tolist() == reward
    assert found[2] == 0


def test_where_a_body_starts():
    assert BODY.initial_state == (110.0, 84.0, 130.0, 1.0, 0.0)
    low, high = BODY.bands(np.array([[0.0] * 3 + [0.0, 0.0]]))
    assert low.tolist() == [[66, 108, 78]] and high.tolist() == [[88, 132, 104]]


@pytest.mark.parametrize(
    ("benchmark", "low", "high"),
    [
        (Single(), (-5,), (3,)),
        (MOHoN(objectives=3), (-6, -7, -8), (4, 5, 6)),
        (MOBUON(objectives=3), (-6, -7, -8), (4, 5, 6)),
        (SleepWake(objectives=3), (-6, -7, -8), (4, 5, 6)),
        (SleepWake(objectives=3, switching="chance"), (-6, -7, -8, 0), (4, 5, 6, 9999)),
        (MOBUO(objectives=3), (), ()),
        (Sustainability(), (), ()),
    ],
    ids=str,
)
def test_ranges_of_the_noise(benchmark, low, high):
    assert (benchmark.noise_low, benchmark.noise_high) == (low, high)
    if low:  # and the paths fill them
        levels = benchmark.objectives
        paths = benchmark.noise_paths(np.arange(200, dtype=np.uint64))[:, :levels]
        assert paths.min(axis=(0, 2)).tolist() == list(low[:levels])
        assert paths.max(axis=(0, 2)).tolist() == list(high[:levels])


@pytest.mark.parametrize("kind", [Single, MOHoN, MOBUON, SleepWake])
def test_certain_shocks_meet_every_objective(kind):
    more = {} if kind is Single else {"objectives": 3}
    quiet, loud = kind(**more), kind(**more, shock_probability=1.0, shock_size=50.0)
    keys = np.arange(5, dtype=np.uint64)
    shocks = loud.noise_paths(keys) - quiet.noise_paths(keys)
    assert shocks.shape[1] == quiet.objectives
    assert (abs(shocks) == 50.0).all()


def test_shocks_leave_the_switching_of_regimes_alone():
    quiet = SleepWake(switching="chance")
    loud = SleepWake(switching="chance", shock_probability=1.0, shock_size=50.0)
    keys = np.arange(5, dtype=np.uint64)
    shocks = loud.noise_paths(keys) - quiet.noise_paths(keys)
    assert (abs(shocks[:, :2]) == 50.0).all() and (shocks[:, 2] == 0.0).all()


@pytest.mark.parametrize(
    ("benchmark", "observation", "normalized"),
    [
        (Single(), [95], [-0.5]),
        (MOHoN(objectives=3), [121, 108, 143], [1, -1, 1]),
        # They start at a mean of 115; at 460 that has doubled twice.
        (MOBUO(), [450, 470], [-1, 1, 2]),
        (MOBUO(harvest_limit=5), [450, 470], [-2, 2, 2]),
        (MOBUON(objectives=3), [110, 120, 130], [-1, 0, 1, 0]),
        (Sustainability(), [5], [0.25]),
        # Awake with set points 110, 84, 130, then asleep with 77, 120, 91.
        (BODY, [121, 84, 117, 1, 4], [1, 0, -1, 1, 0.25]),
        (BODY, [77, 126, 91, 0, 4], [0, 0.5, 0, 0, 0.25]),
        (SleepWake(switching="chance"), [110, 96, 1, 4], [0, 0, 1, 0.04]),
    ],
    ids=str,
)
def test_normalized_observations(benchmark, observation, normalized):
    assert benchmark.normalize(observation).tolist() == normalized


def test_scores_of_the_policies_of_two_regimes():
    benchmark = SleepWake()
    noise = benchmark.noise_paths(np.arange(3, dtype=np.uint64)).transpose(2, 0, 1)
    scores = {name: simulate(benchmark, benchmark.policy(name), noise).scores for name in benchmark.policies}
    assert scores["anticipate"].tolist() == [-901, -376, -590]
    assert scores["restore"].tolist() == [-4611, -3389, -4112]
    assert scores["base-stock"].tolist() == [-5501, -4389, -4782]


@pytest.mark.parametrize(("age", "units"), [(9, 0), (10, 9), (15, 9)])
def test_foresight_begins_six_steps_before_the_switch(age, units):
    """B is at 98, awake: set point 96, half width 12, soon 120; it is filled to 103 after clearing 4."""
    action = SleepWake().policy("anticipate")(np.array([110.0, 98.0, 1.0, age]), 0)
    assert action[1] == units
