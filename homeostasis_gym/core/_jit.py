"""One source of each formula: plain Python that Numba compiles on first use.

A formula is a plain function over scalars and one-dimensional sequences. The scalar environments
call it as it stands (plain floats are several times faster than tiny NumPy arrays); a kernel loops
it over a batch and is compiled the first time it is called, so that importing the package does not
import Numba. ``NUMBA_DISABLE_JIT=1`` runs the same kernels as plain Python.

Compiled code is cached beside the source file, keyed by that file's time stamp alone. A kernel and
every formula it calls must therefore stand in the same file (or in a file that never changes its
meaning), or an edit of the formula would leave a stale kernel behind.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

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
        self._compiled: Callable[P, R] | None = None
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._compiled is None:
            self._compiled = _compile(self.python)
        return self._compiled(*args, **kwargs)

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
    compiled: Callable[P, R] = njit(cache=True, nogil=True)(function)
    return compiled
