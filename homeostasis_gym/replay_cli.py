"""``homeostasis-gym replay FILE...``: recorded BioBlue logs through our environments."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from homeostasis_gym.errors import RecordError

__all__ = ["add_parser"]


def add_parser(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "replay",
        help="replay recorded BioBlue logs, and say whether every state and reward agrees",
        description="Feed recorded BioBlue logs (tab-separated) through our environments, action by "
        "action on the recorded noise, and say whether every state and every reward agrees exactly. "
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
    from homeostasis_gym.bioblue import read_recording, replay, to_trajectory

    target: Path | None = arguments.convert
    if target is not None and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RecordError(f"`--convert` must name a new or empty folder, but {target} is neither")
    results: list[dict[str, Any]] = []
    groups: dict[str, list[Any]] = {}
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
        condition = ""
        if recording.env_id.startswith("Homeostasis-MOBUO"):
            condition = "-hint" if recording.shows_imbalance else "-no-hint"
        group = f"{recording.benchmark.name}{condition}-{recording.model}"
        batch = groups.setdefault(re.sub(r"[^\w.-]", "_", group), [])
        batch.append(to_trajectory(recording, replayed, len(batch)))
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        exact = sum(result["exact"] for result in results)
        print(f"{exact} of {len(results)} files agree in every state and reward")
    if target is not None:
        _write(target, groups)
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


def _write(target: Path, groups: dict[str, list[Any]]) -> None:
    from homeostasis_gym.trajectory import write_trajectories

    for group, batch in groups.items():
        folder = target / "records" / group
        folder.mkdir(parents=True)
        write_trajectories(folder / f"{0:06d}-{len(batch) - 1:06d}.parquet", batch)
    count = sum(map(len, groups.values()))
    print(f"{count} episodes written to {target}", file=sys.stderr)
