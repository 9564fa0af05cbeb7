"""The published rounding of rewards, exact to the last bit, inside compiled kernels."""

from __future__ import annotations

import numpy as np

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
    # No branches: this is what lets the compiler round many values at once.
    near = value if abs(value) < _COARSE else 0.0
    product = near * 1000.0
    scaled = _SPLITTER * near
    high = scaled - (scaled - near)
    error = (high * 1000.0 - product) + (near - high) * 1000.0
    whole = np.floor(product)
    rest = product - whole  # exact
    odd = np.floor(whole * 0.5) * 2.0 != whole
    up = (rest > 0.5) | ((rest == 0.5) & ((error > 0.0) | ((error == 0.0) & odd)))
    rounded = (whole + (1.0 if up else 0.0)) / 1000.0
    rounded = rounded if abs(value) < _COARSE else value  # infinity and NaN as well
    return float(0.0 if abs(value) < 1e-3 else rounded)
