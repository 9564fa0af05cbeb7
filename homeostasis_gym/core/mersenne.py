"""The Mersenne Twister as CPython and NumPy seed and read it, for many seeds at once.

Bit for bit what ``random.Random(seed).choice`` and ``numpy.random.RandomState(seed)`` draw from (Matsumoto
and Nishimura, 1998), without an object per seed: `LANES` generators advance side by side, so that the
compiler can put them into the lanes of a vector. All arithmetic is in 64-bit integers that never overflow,
and is cut to 32 bits where it is stored.
"""

from __future__ import annotations

import random
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.core._jit import formula, kernel
from homeostasis_gym.errors import HomeostasisError

__all__ = ["choices", "low_bytes", "seed_row"]

LANES: Final = 16

_N: Final = 624
_M: Final = 397
_MASK: Final = 0xFFFFFFFF
_UPPER: Final = 0x80000000
_LOWER: Final = 0x7FFFFFFF
_MAGIC: Final = 0x9908B0DF

Words = NDArray[np.uint32]
Ints = NDArray[np.int64]


@formula
def _seed(state: Words, seeds: Ints, first: int) -> None:
    """Seed each lane with one 32-bit word, as NumPy's legacy generator does."""
    for b in range(LANES):
        state[0, b] = seeds[min(first + b, seeds.size - 1)] & _MASK
    for i in range(1, _N):
        for b in range(LANES):
            x = np.int64(state[i - 1, b])
            state[i, b] = (1812433253 * (x ^ (x >> 30)) + i) & _MASK


@formula
def _seed_by_words(state: Words, even: Ints, odd: Ints, first: int) -> None:
    """Seed each lane with a row of words, as CPython does.

    The row's words are added in turn, with their places; `even` and `odd` are what is added at even and at
    odd places, which tells rows of one and of two words.
    """
    for b in range(LANES):
        state[0, b] = 19650218
    for i in range(1, _N):
        for b in range(LANES):
            x = np.int64(state[i - 1, b])
            state[i, b] = (1812433253 * (x ^ (x >> 30)) + i) & _MASK
    i = 1
    for k in range(_N):
        added = even if k % 2 == 0 else odd
        for b in range(LANES):
            x = np.int64(state[i - 1, b])
            x = np.int64(state[i, b]) ^ ((x ^ (x >> 30)) * 1664525)
            state[i, b] = (x + added[min(first + b, added.size - 1)]) & _MASK
        i += 1
        if i == _N:
            for b in range(LANES):
                state[0, b] = state[_N - 1, b]
            i = 1
    for _ in range(_N - 1):
        for b in range(LANES):
            x = np.int64(state[i - 1, b])
            x = np.int64(state[i, b]) ^ ((x ^ (x >> 30)) * 1566083941)
            state[i, b] = (x - i) & _MASK
        i += 1
        if i == _N:
            for b in range(LANES):
                state[0, b] = state[_N - 1, b]
            i = 1
    for b in range(LANES):
        state[0, b] = _UPPER


@formula
def _twist(state: Words, out: Words) -> None:
    """Advance every lane by `_N` words, and put them, tempered, into `out`."""
    for i in range(_N):
        following = i + 1 if i + 1 < _N else 0
        far = i + _M if i + _M < _N else i + _M - _N
        for b in range(LANES):
            y = (np.int64(state[i, b]) & _UPPER) | (np.int64(state[following, b]) & _LOWER)
            state[i, b] = np.int64(state[far, b]) ^ (y >> 1) ^ ((y & 1) * _MAGIC)
    for i in range(_N):
        for b in range(LANES):
            y = np.int64(state[i, b])
            y ^= y >> 11
            y ^= (y << 7) & 0x9D2C5680
            y ^= (y << 15) & 0xEFC60000
            out[i, b] = y ^ (y >> 18)


@kernel
def _choices_kernel(even: Ints, odd: Ints, count: int, shift: int, out: NDArray[np.int8]) -> None:
    """Fill each row of `out` with numbers below `count`, from words shifted and rejected."""
    runs, steps = out.shape
    state = np.empty((_N, LANES), dtype=np.uint32)
    words = np.empty((_N, LANES), dtype=np.uint32)
    filled = np.empty(LANES, dtype=np.int64)
    rows = np.empty((LANES, steps + 1), dtype=np.int8)
    for first in range(0, runs, LANES):
        _seed_by_words(state, even, odd, first)
        filled[:] = 0
        while filled.min() < steps:
            _twist(state, words)
            for i in range(_N):
                for b in range(LANES):
                    # Written first and kept only if it counts: no branch that cannot be foreseen.
                    drawn = np.int64(words[i, b]) >> shift
                    n = filled[b]
                    rows[b, n] = drawn
                    filled[b] = n + (1 if (drawn < count and n < steps) else 0)
        for b in range(min(LANES, runs - first)):
            for t in range(steps):
                out[first + b, t] = rows[b, t]


@kernel
def _low_bytes_kernel(seeds: Ints, out: NDArray[np.uint8]) -> None:
    """Fill each row of `out` with the low bytes of the words of one seed."""
    runs, count = out.shape
    state = np.empty((_N, LANES), dtype=np.uint32)
    words = np.empty((_N, LANES), dtype=np.uint32)
    for first in range(0, runs, LANES):
        lanes = min(LANES, runs - first)
        _seed(state, seeds, first)
        for begun in range(0, count, _N):
            _twist(state, words)
            for b in range(lanes):
                for i in range(min(_N, count - begun)):
                    out[first + b, begun + i] = np.int64(words[i, b]) & 0xFF


def seed_row(seeds: ArrayLike, limit: int | None = None) -> NDArray[Any]:
    """Check seeds and lay them out in one row.

    Args:
        seeds: Whole numbers from 0. ``(...)``.
        limit: All must be below this power of two; None for no limit.

    Returns:
        ``(seeds,)``, int64; Python's own integers where one of them is too great for that.

    Raises:
        HomeostasisError: Something in it is no such number.
    """
    row = np.asarray(seeds).reshape(-1)
    found = row.tolist()
    for seed in found if row.dtype == object else found[:1]:
        if type(seed) is not int:
            raise HomeostasisError(f"`seeds` must be whole numbers, got {seed!r}")
    if not found:
        return np.empty(0, dtype=np.int64)
    low, high = min(found), max(found)
    if low < 0 or (limit is not None and high >= limit):
        below = "" if limit is None else f" and below 2**{limit.bit_length() - 1}"
        raise HomeostasisError(f"`seeds` must be at least 0{below}, got {low if low < 0 else high}")
    return row.astype(np.int64 if high < 2**63 else object)


def choices(seeds: ArrayLike, steps: int, count: int) -> NDArray[np.int8]:
    """What ``random.Random(seed).choice(range(count))`` gives, again and again, for every seed.

    Args:
        seeds: At least 0. ``(...)``.
        steps: How many draws of each.
        count: How many numbers to choose from, 1 to 127.

    Returns:
        ``(..., steps)``.
    """
    row = seed_row(seeds)
    out = np.empty((*np.shape(seeds), steps), dtype=np.int8)
    rows = out.reshape(len(row), steps)
    if row.dtype == object:
        # Seeds of three words and more: by Python itself, one at a time.
        for one, seed in zip(rows, row.tolist(), strict=True):
            stream = random.Random(seed)
            one[:] = [stream.choice(range(count)) for _ in range(steps)]
    elif out.size:
        low, high = row & _MASK, row >> 32
        odd = np.where(high > 0, high + 1, low)
        _choices_kernel(low, odd, count, 32 - count.bit_length(), rows)
    return out


def low_bytes(seeds: ArrayLike, count: int) -> NDArray[np.uint8]:
    """The low bytes of the first words of ``numpy.random.RandomState(seed)``, for every seed.

    Args:
        seeds: 0 to 2**32 - 1. ``(runs,)``.
        count: How many.

    Returns:
        ``(runs, count)``.
    """
    row = seed_row(seeds, 2**32)
    out = np.empty((len(row), count), dtype=np.uint8)
    if out.size:
        _low_bytes_kernel(row, out)
    return out
