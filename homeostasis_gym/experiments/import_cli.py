"""The verb ``import``: other people's logs as a run folder of ours."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from homeostasis_gym.errors import RecordError
from homeostasis_gym.experiments.folder import MANIFEST, RunFolder
from homeostasis_gym.imports import read_logs
from homeostasis_gym.trajectory import Trajectory

__all__ = ["add_parser", "write_run"]


def add_parser(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "import",
        help="read other people's logs into a run folder",
        description="Read logs (BioBlue's .tsv, a .csv or .jsonl of the form that docs/collapse.md tells) "
        "into a new run folder, which score, report, label and agreement understand.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="logs, or folders of logs")
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="new run folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a sentence")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read and write."""
    trajectories = [t for path in arguments.files for t in read_logs(path)]
    write_run(arguments.out, trajectories)
    if arguments.json:
        print(json.dumps({"run": str(arguments.out), "episodes": len(trajectories)}))
    else:
        print(f"{len(trajectories)} episodes written to {arguments.out}")
    return 0


def write_run(path: Path, trajectories: list[Trajectory]) -> None:
    """Write trajectories as a new run folder, numbered anew for each agent.

    Where several environments, benchmarks or conditions are mixed, each gets an agent's name of its own.

    Raises:
        RecordError: The folder already holds something.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RecordError(f"`out` must name a new or empty folder, but {path} is neither")
    several = len({_setting(t) for t in trajectories}) > 1
    groups: dict[str, list[Trajectory]] = {}
    for t in trajectories:
        name = " ".join(part for part in (t.header.agent, _setting(t) if several else "") if part)
        groups.setdefault(name, []).append(t)
    path.mkdir(parents=True, exist_ok=True)
    envs = Counter(t.header.env_id for t in trajectories)
    manifest = {
        "env_id": ", ".join(envs),
        "env_kwargs": {},
        "seed": -1,
        "agents": [{"name": n, "episodes": len(ts), "settings": {}} for n, ts in groups.items()],
        "starts": [],
        "source": dict(Counter(t.header.source for t in trajectories)),
    }
    (path / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    folder = RunFolder(path)
    for name, group in groups.items():
        numbered = [
            replace(
                t,
                header=replace(
                    t.header,
                    agent=name,
                    episode=k,
                    extra={**t.header.extra, "agent": t.header.agent, "episode": t.header.episode},
                ),
            )
            for k, t in enumerate(group)
        ]
        # Records of one file share their columns: other shapes go into files of their own.
        start = 0
        for k in range(1, len(numbered) + 1):
            if k == len(numbered) or _shape(numbered[k]) != _shape(numbered[start]):
                folder.add(name, numbered[start:k])
                start = k


def _setting(t: Trajectory) -> str:
    condition = str(t.header.extra.get("condition", ""))
    return " ".join(
        part for part in (str(t.header.benchmark.get("name", t.header.env_id)), condition) if part
    )


def _shape(t: Trajectory) -> tuple[Any, ...]:
    return (t.actions.dtype.kind, t.actions.shape[1:], t.states.shape[1:], t.rewards.shape[1:])
