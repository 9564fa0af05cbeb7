"""The command line: ``homeostasis-gym VERB``.

Every verb stands in a module of its own with ``add_parser(subparsers)``; installed packages add verbs
through the entry-point group ``homeostasis_gym.commands``.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

from homeostasis_gym import __version__
from homeostasis_gym.errors import BudgetError, HomeostasisError

__all__ = ["main"]

# Modules that hold a verb or several.
_VERBS = (
    "homeostasis_gym.experiments.compare_cli",
    "homeostasis_gym.experiments.replay_cli",
    "homeostasis_gym.experiments.alice_bob_cli",
    "homeostasis_gym.experiments.agreement_cli",
    "homeostasis_gym.experiments.label_cli",
    "homeostasis_gym.experiments.import_cli",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit status: 0, 1 when a check that the user asked for failed, 2 for wrong input, 3 when the money
        that the user allowed is spent, 130 when interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="homeostasis-gym",
        description="Compare agents that must keep several values in balance, and see who collapses.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for module in _VERBS:
        importlib.import_module(module).add_parser(subparsers)
    for point in sorted(entry_points(group="homeostasis_gym.commands"), key=lambda p: p.name):
        point.load()(subparsers)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except BudgetError as error:
        print(f"homeostasis-gym: {error}", file=sys.stderr)
        return 3
    except HomeostasisError as error:
        print(f"homeostasis-gym: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("homeostasis-gym: interrupted; finished episodes are kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output went away, as `| head` does
        return 141


if __name__ == "__main__":
    sys.exit(main())
