"""The published rounding is decimal rounding of the exact binary value."""

import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from homeostasis_gym.core._jit import kernel
from homeostasis_gym.core.rounding import fmt


def by_text(value: float) -> float:
    return 0.0 if abs(value) < 1e-3 else float(f"{value:.3f}")


@kernel
def round_all(values, out):
    for i in range(len(values)):
        out[i] = fmt(values[i])


def nearly_ties() -> st.SearchStrategy[float]:
    """Doubles at and just beside a decimal tie, where rounding the product would go wrong."""
    ties = st.integers(-(10**9), 10**9).map(lambda n: (n + 0.5) / 1000.0)
    return st.tuples(ties, st.sampled_from([-math.inf, 0.0, math.inf])).map(
        lambda pair: pair[0] if pair[1] == 0.0 else math.nextafter(*pair)
    )


VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e4, 1e4),
    nearly_ties(),
    st.integers(-(2**20), 2**20).map(lambda n: n / 2**13),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=50))
@example([1e-3, -1e-3, 0.0625, 2.0005, 1.0005, 0.0005, -0.0015, 2.0**43, 2.0**42 + 0.5, -6.0, 5e-324])
def test_equals_text_rounding_compiled_or_not(values):
    expected = [by_text(v) for v in values]
    assert [fmt(v) for v in values] == expected
    out = np.empty(len(values))
    round_all(np.asarray(values), out)
    assert out.tolist() == expected


def test_zero_has_no_sign():
    assert math.copysign(1.0, fmt(-0.0)) == 1.0
    assert math.copysign(1.0, fmt(-1e-4)) == 1.0
