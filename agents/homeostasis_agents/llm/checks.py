"""Rules for settings that come as text from a command line: a text that is not empty is not "true"."""

from __future__ import annotations

from collections.abc import Sequence

from homeostasis_gym.errors import HomeostasisError

__all__ = ["check_choice", "check_flag", "check_text"]


def check_flag(name: str, value: object) -> None:
    """Raise HomeostasisError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise HomeostasisError(f"`{name}` must be true or false, got {value!r}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise HomeostasisError unless `value` is one of the words."""
    if value not in choices:
        words = ", ".join(word or "''" for word in choices)
        raise HomeostasisError(f"`{name}` must be one of {words}, got {value!r}")


def check_text(name: str, value: object) -> None:
    """Raise HomeostasisError unless `value` is text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise HomeostasisError(f"`{name}` must be a text that is not empty, got {value!r}")
