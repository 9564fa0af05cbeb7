"""The published rounding of rewards, exact to the last bit, inside compiled kernels."""

from __future__ import annotations

import math

from homeostasis_gym.core._jit import formula

__all__ = ["fmt"]

_SPLITTER = 134217729.0  # 2**27 + 1 (Dekker, 1971)
_COARSE = 8796093022208.0  # 2**43: from here on neighbouring doubles lie more than 0.001 apart


@formula
def fmt(value: float) -> float:
    """0 if |value| < 1e-3, else exactly ``float(f"{value:.3f}")``.

    Decimal formatting rounds the exact binary value, and `value * 1000` is not exact: the error of the
    product is computed as well (Dekker's algorithm) and decides where the product looks like a tie.
    """
    if abs(value) < 1e-3:
        return 0.0
    if not abs(value) < _COARSE:  # infinity and NaN as well
        return value
    product = value * 1000.0
    scaled = _SPLITTER * value
    high = scaled - (scaled - value)
    error = (high * 1000.0 - product) + (value - high) * 1000.0
    whole = float(math.floor(product))
    rest = product - whole  # exact
    if rest > 0.5 or (rest == 0.5 and (error > 0.0 or (error == 0.0 and whole % 2.0 != 0.0))):
        whole += 1.0
    return whole / 1000.0
