"""Scalarisations: values by hand, shape, concavity, refusals."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostasis_gym.core import MOBUO, MOHoN, Single
from homeostasis_gym.core.utility import SCALARIZATIONS, make_scalarization, make_utility
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

REWARD = np.array([3.0, -20.0, 0.0])


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("linear", -17.0),
        ({"name": "linear", "weights": [2, 1, 5]}, -14.0),
        ({"name": "log", "scale": 1.0}, math.log(4.0) - 20.0),
        ({"name": "sfella", "scale": 10.0}, math.log1p(0.3) - math.expm1(2.0)),
        ({"name": "sfella", "scale": 1.0, "knee": 2.0}, math.log(4.0) - math.expm1(2.0) - 18 * math.exp(2.0)),
        ("min", -20.0),
        ({"name": "chebyshev", "ideal": [10, 0, 0]}, -20.0),
        ({"name": "chebyshev", "ideal": [10, 0, 0], "weights": [4, 1, 1]}, -28.0),
        ({"name": "chebyshev", "ideal": [2, -30, -5]}, 0.0),
        ({"name": "chebyshev", "weights": [7, 0, 7]}, 0.0),
    ],
)
def test_values(spec, value):
    scalarization = make_scalarization(spec, 3)
    assert float(scalarization(REWARD)) == pytest.approx(value, rel=1e-12)
    batch = scalarization(np.stack([[REWARD, REWARD], [REWARD, REWARD]]))
    assert batch.shape == (2, 2) and np.ptp(batch) == 0.0


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(sorted(SCALARIZATIONS)),
    st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3),
    st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3),
)
def test_concave_and_growing(name, a, b):
    f = make_scalarization(name, 3)
    x, y = np.array(a), np.array(b)
    middle, ends = float(f((x + y) / 2)), (float(f(x)) + float(f(y))) / 2
    assert math.isfinite(middle)
    assert middle >= ends - 1e-9 * (1 + abs(ends))
    assert float(f(np.maximum(x, y))) >= float(f(x)) - 1e-9


def test_more_than_the_ideal_costs_nothing():
    f = make_scalarization("chebyshev", 2)
    assert [float(f(np.array(r))) for r in ([0.0, 0.0], [9.0, 0.0], [9.0, -2.0])] == [0.0, 0.0, -2.0]


def test_negative_weights_are_for_the_sum_alone():
    assert float(make_scalarization({"name": "linear", "weights": [1, -1, 1]}, 3)(REWARD)) == 23.0


def test_drive_reduction():
    f = make_utility({"name": "drive-reduction", "n": 2.0, "m": 2.0}, 6, MOHoN())
    before, after = np.array([110.0 + 11.0, 120.0]), np.array([110.0, 120.0 - 12.0 * 3])
    assert f(before, after) == pytest.approx(1.0 - 3.0)
    assert f(np.stack([before, after]), np.stack([after, before])).tolist() == [-2.0, 2.0]


@pytest.mark.parametrize(
    ("spec", "benchmark", "message"),
    [
        ("nonsense", None, "`scalarization` must be one of linear, log, .*drive-reduction, got 'nonsense'"),
        ({"weights": [1, 1, 1]}, None, "got None"),
        ({"name": "linear", "weights": [1, 2]}, None, r"`weights` must be 3 finite numbers, got \[1, 2\]"),
        ({"name": "linear", "weights": "abc"}, None, "`weights` must be 3 finite numbers"),
        ({"name": "log", "scale": 0.0}, None, "`scale` must be a positive number, got 0.0"),
        ({"name": "sfella", "knee": 701.0}, None, "`knee` must be at most 700, got 701.0"),
        ({"name": "min", "weights": [1, -1, 1]}, None, r"`weights` must not be negative here, .* -1, 1\]"),
        ({"name": "log", "weights": [1, -1, 1]}, None, "`weights` must not be negative"),
        ({"name": "sfella", "weights": [1, -1, 1]}, None, "`weights` must not be negative"),
        ({"name": "chebyshev", "weights": [1, -1, 1]}, None, "`weights` must not be negative"),
        ({"name": ["linear"]}, None, r"must be one of linear, .*, got \['linear'\]"),
        (sum, None, "`scalarization` must be a name or a mapping .*, got <built-in function sum>"),
        ([1.0, 2.0, 3.0], None, "`scalarization` must be a name or a mapping"),
        (2, None, "`scalarization` must be a name or a mapping with `name` and arguments, got 2"),
        ({"name": "min", "scale": 1}, None, "unexpected keyword argument 'scale'"),
        ("drive-reduction", None, "needs levels with set points, got an environment that is not ours"),
        ("drive-reduction", MOBUO(), "needs levels with set points, got mobuo"),
        ({"name": "drive-reduction", "n": -1}, Single(), "`n` must be a positive number"),
    ],
)
def test_refusals(spec, benchmark, message):
    with pytest.raises((UnknownNameError, HomeostasisError), match=message):
        make_utility(spec, 3, benchmark)
