"""Warnings that point at the place where a user can do something about them."""

from __future__ import annotations

import sys
import warnings

__all__ = ["warn"]

_OURS = ("homeostasis_gym", "homeostasis_agents")
_COMMAND_LINE = ("homeostasis_gym.cli", "homeostasis_agents.sb3.train_cli")
_WORKERS = ("concurrent", "multiprocessing")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the caller's place outside this package; as one line on stderr where the command line called.

    A user of the command line, or of a process that it started, has no place in any code to look at.

    Args:
        message: What to say.
        category: Kind of warning, for those who filter it.
    """
    frame, level = sys._getframe(1), 2
    while True:
        name = str(frame.f_globals.get("__name__", ""))
        top = name.partition(".")[0]
        if name in _COMMAND_LINE or top in _WORKERS:
            print(f"homeostasis-gym: warning: {message}", file=sys.stderr, flush=True)
            return
        if top not in _OURS or frame.f_back is None:
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
