"""Records from Inspect logs, and the plain form in which a log carries them.

    python -m homeostasis_agents.inspect_logs LOG... --out RUN

writes a run folder, which ``homeostasis-gym score`` and ``homeostasis-gym report`` take like any other.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from homeostasis_gym.agent import Attempt
from homeostasis_gym.errors import HomeostasisError, MissingExtraError, RecordError
from homeostasis_gym.trajectory import Header, Trajectory

__all__ = ["from_plain", "read_log", "to_plain", "write_run"]

_FORM = 1
_ARRAYS = ("observations", "states", "actions", "rewards", "noise", "valid", "forbidden", "seconds")


def to_plain(trajectory: Trajectory) -> dict[str, Any]:
    """A trajectory as data that JSON holds; `from_plain` gives it back to the last bit."""
    return {
        "form": _FORM,
        "header": asdict(trajectory.header),
        "types": {name: str(getattr(trajectory, name).dtype) for name in _ARRAYS},
        "shapes": {name: list(getattr(trajectory, name).shape) for name in _ARRAYS},
        **{name: getattr(trajectory, name).tolist() for name in _ARRAYS},
        "attempts": [[asdict(attempt) for attempt in step] for step in trajectory.attempts],
        "terminated": trajectory.terminated,
        "ended_by_agent": trajectory.ended_by_agent,
    }


def from_plain(data: Mapping[str, Any]) -> Trajectory:
    """The trajectory that `to_plain` described.

    Raises:
        RecordError: Not such a description.
    """
    try:
        if data["form"] != _FORM:
            raise RecordError(f"`trajectory` must have form {_FORM}, got {data['form']!r}")
        header = dict(data["header"])
        for name in ("objective_names", "reward_names"):
            header[name] = tuple(header[name])
        arrays = {
            name: np.array(data[name], dtype=data["types"][name]).reshape(data["shapes"][name])
            for name in _ARRAYS
        }
        attempts = tuple(tuple(Attempt(**one) for one in step) for step in data["attempts"])
        return Trajectory(
            header=Header(**header),
            attempts=attempts,
            terminated=bool(data["terminated"]),
            ended_by_agent=bool(data.get("ended_by_agent", False)),
            **arrays,
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, RecordError):
            raise
        raise RecordError(f"the log holds no record of an episode: {error!r}") from error


def read_log(path: Path | str) -> list[Trajectory]:
    """Every finished episode of an Inspect log, in the order of the episodes.

    Samples that ended in an error hold no record and are left out, as an unfinished episode is.

    Raises:
        RecordError: No log, or one without our episodes.
        MissingExtraError: Inspect AI is not installed.
    """
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as error:
        raise MissingExtraError("Inspect AI", "pip install 'homeostasis-gym[llm]'") from error
    try:
        log = read_eval_log(str(path))
    except Exception as error:  # Inspect raises whatever its readers do
        raise RecordError(f"{path} cannot be read as an Inspect log: {error}") from error
    found = [
        from_plain(sample.metadata["trajectory"])
        for sample in log.samples or ()
        if "trajectory" in sample.metadata
    ]
    if not found:
        raise RecordError(f"{path} holds no finished episode of homeostasis-gym")
    return sorted(found, key=lambda t: (t.header.agent, t.header.episode))


def write_run(logs: Sequence[Path | str], out: Path) -> Path:
    """Write the episodes of one or more logs of one task as a run folder.

    Args:
        logs: Inspect logs: the same environment and seeds, one model or several.
        out: The folder, new or empty.

    Raises:
        HomeostasisError: The logs do not fit together, or the folder is in use.
    """
    from homeostasis_gym.experiments import AgentSpec, Experiment, RunFolder

    episodes: dict[str, dict[int, Trajectory]] = {}
    for log in logs:
        for episode in read_log(log):
            episodes.setdefault(episode.header.agent, {})[episode.header.episode] = episode
    everything = [episode for found in episodes.values() for episode in found.values()]
    first = everything[0].header
    seeds = {episode.header.seed - episode.header.episode for episode in everything}
    environments = {(e.header.env_id, repr(sorted(e.header.env_kwargs.items()))) for e in everything}
    if len(seeds) != 1 or len(environments) != 1:
        raise HomeostasisError(
            "`logs` must be of one environment with one first seed, got "
            f"{', '.join(sorted(env_id for env_id, _ in environments))} with seeds {sorted(seeds)}"
        )
    agents = []
    for name, found in episodes.items():
        settings = next(iter(found.values())).header.agent_settings
        agents.append(AgentSpec(name, max(found) + 1, settings))
    folder = RunFolder(out)
    folder.open(Experiment(first.env_id, tuple(agents), first.env_kwargs, seeds.pop()))
    for name, found in episodes.items():
        for number in sorted(found):
            folder.add(name, [found[number]])
    return folder.path


def main(argv: Sequence[str] | None = None) -> int:
    """Convert logs from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m homeostasis_agents.inspect_logs",
        description="Turn Inspect logs into a run folder for `homeostasis-gym score` and `report`.",
    )
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="Inspect log (.eval or .json)")
    parser.add_argument("--out", type=Path, required=True, help="run folder to make")
    arguments = parser.parse_args(argv)
    try:
        print(write_run(arguments.logs, arguments.out))
    except HomeostasisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
