"""The errors that a user can cause; the command line shows each as one line with exit status 2."""

from __future__ import annotations

__all__ = ["BudgetError", "HomeostasisError", "MissingExtraError", "RecordError", "UnknownNameError"]


class HomeostasisError(ValueError):
    """Something that the user gave cannot be used; the message names it, the rule and the value."""


class UnknownNameError(HomeostasisError):
    """A name that stands for nothing installed (an agent, an environment, a scalarisation)."""


class BudgetError(HomeostasisError):
    """The money that the user allowed is spent; what was finished is kept."""


class RecordError(HomeostasisError):
    """A file or folder of records that cannot be read or does not hold what it must."""


class MissingExtraError(HomeostasisError):
    """An optional dependency is not installed; the message gives the command that installs it."""

    def __init__(self, what: str, command: str) -> None:
        super().__init__(f"{what} is not installed; install it with: {command}")
        self.what = what
        self.command = command

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        # Workers send their errors to the main process; the default would pass the message alone.
        return type(self), (self.what, self.command)
