"""``homeostasis-gym replay FILE...``: recorded BioBlue logs through our environments."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from homeostasis_gym.bioblue import read_recording, replay, to_trajectory
from homeostasis_gym.errors import RecordError
from homeostasis_gym.experiments.import_cli import write_run
from homeostasis_gym.trajectory import Trajectory

__all__ = ["add_parser"]


def add_parser(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "replay",
        help="replay recorded BioBlue logs, and say whether every state and reward agrees",
        description="Feed recorded BioBlue logs (tab-separated) through our environments, action by "
        "action on the recorded noise, and say whether every state, every reward, and the sums and metrics "
        "that a log tells agree exactly. "
        "Exit status: 0 when all agree, 1 when one differs, 2 when a file is no such log.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="recorded log")
    parser.add_argument("--json", action="store_true", help="print a list of results as JSON")
    parser.add_argument(
        "--convert",
        type=Path,
        metavar="RUN",
        help="also write the logs as records of ours to this new folder",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Replay the files.

    Raises:
        RecordError: The folder to convert to already holds something.
    """
    target: Path | None = arguments.convert
    if target is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RecordError(f"`--convert` must name a new or empty folder, but {target} is neither")
    results: list[dict[str, Any]] = []
    trajectories: list[Trajectory] = []
    malformed = 0
    for file in arguments.files:
        try:
            recording = read_recording(file)
        except RecordError as error:
            malformed += 1
            print(f"homeostasis-gym: error: {error}", file=sys.stderr)
            results.append(_result(file, 0, False, None) | {"error": str(error)})
            continue
        replayed = replay(recording)
        difference = replayed.first_difference
        results.append(_result(file, len(recording), difference is None, difference))
        if not arguments.json:
            verdict = "exact" if difference is None else f"differs at {difference}"
            print(f"{file}: {len(recording)} steps, {verdict}")
        trajectories.append(to_trajectory(recording, replayed, len(trajectories)))
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        exact = sum(result["exact"] for result in results)
        print(f"{exact} of {len(results)} files agree in every state and reward")
    if target is not None and trajectories:
        write_run(target, trajectories)
        print(f"{len(trajectories)} episodes written to {target}", file=sys.stderr)
    if malformed:
        return 2
    return 0 if all(result["exact"] for result in results) else 1


def _result(file: Path, steps: int, exact: bool, difference: Any) -> dict[str, Any]:
    return {
        "file": str(file),
        "steps": steps,
        "exact": exact,
        "first_difference": None if difference is None else vars(difference),
    }
