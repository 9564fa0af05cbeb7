"""One source of each formula: plain Python that Numba compiles on first use.

A formula is a plain function over scalars; a kernel loops formulas over a batch. A kernel is compiled
the first time it is called, so that importing the package does not import Numba, and its machine code
is cached beside its source file. ``NUMBA_DISABLE_JIT=1`` runs the same kernels as plain Python.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import update_wrapper
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

__all__ = ["formula", "kernel"]

P = ParamSpec("P")
R = TypeVar("R")

_formulas: list[Callable[..., Any]] = []
_registered = 0


def formula(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a plain function as callable from kernels; the function itself is returned as it is."""
    _formulas.append(function)
    return function


class kernel(Generic[P, R]):  # noqa: N801 (used as a decorator)
    """A loop over a batch, compiled by Numba when it is first called.

    Args:
        function: The loop, in the subset of Python that Numba compiles in nopython mode.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.python = function
        # The quick way to call: after the first call, the compiled function itself.
        self.call: Callable[P, R] = self._first_call
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.call(*args, **kwargs)

    def _first_call(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self.call == self._first_call:  # not where somebody has kept this very method
            self.call = _compile(self.python)
        return self.call(*args, **kwargs)

    def __reduce__(self) -> str:
        # Pickled by name, as functions are: the compiled code is found again, not carried along.
        return self.python.__qualname__


def _compile(function: Callable[P, R]) -> Callable[P, R]:
    global _registered
    from numba import njit
    from numba.extending import register_jitable

    # Lets compiled code call the plain function, while everybody else still gets plain Python.
    while _registered < len(_formulas):
        register_jitable(_formulas[_registered])
        _registered += 1
    compiled: Callable[P, R] = njit(cache=True, nogil=True)(_named_by_content(function))
    return compiled


def _named_by_content(function: Callable[..., Any]) -> FunctionType:
    """Copy a kernel under a name that changes with every formula that it uses.

    Numba's cache knows a kernel by its name and its own file's time stamp alone: without this, an edit of
    a formula in another file would leave the stale kernel in use.
    """
    source: Any = function
    digest = hashlib.sha256()
    waiting, seen = [source], set()
    while waiting:
        item = waiting.pop()
        code = item.__code__
        if code in seen:
            continue
        seen.add(code)
        digest.update(code.co_code + repr((code.co_consts, code.co_names)).encode())
        for name in code.co_names:
            used = item.__globals__.get(name)
            if isinstance(used, FunctionType) and used in _formulas:
                waiting.append(used)
            elif isinstance(used, (bool, int, float)):  # Numba freezes global numbers as well
                digest.update(f"{name}={used!r}".encode())
            elif isinstance(used, np.ndarray):  # and global arrays
                digest.update(used.tobytes())
    copy = FunctionType(
        source.__code__,
        source.__globals__,
        source.__name__,
        source.__defaults__,
        source.__closure__,
    )
    copy.__qualname__ = f"{source.__qualname__}_{digest.hexdigest()[:12]}"
    copy.__module__ = source.__module__
    return copy
