"""Records from Inspect logs, and the plain form in which a log carries them.

    python -m homeostasis_agents.inspect_logs LOG-OR-FOLDER... --out RUN

writes a run folder, which ``homeostasis-gym score`` and ``homeostasis-gym report`` take like any other. Every
condition becomes an agent whose name says it: the model, the settings given with ``-T``, a temperature that
was given to Inspect, the epoch.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from homeostasis_gym.agent import Attempt
from homeostasis_gym.errors import HomeostasisError, MissingExtraError, RecordError
from homeostasis_gym.trajectory import Header, Trajectory

__all__ = ["from_plain", "read_log", "to_plain", "write_run"]

_FORM = 1
_FLAGS = tuple(item.name for item in fields(Trajectory) if item.type == "bool")
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
        **{name: getattr(trajectory, name) for name in _FLAGS},
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
    return [episode for _, episode in _read(path)]


def _read(path: Path | str) -> list[tuple[int, Trajectory]]:
    """The finished episodes of a log, each with its epoch."""
    log_module = _inspect_log()
    try:
        log = log_module.read_eval_log(str(path))
    except Exception as error:  # Inspect raises whatever its readers do
        raise RecordError(f"{path} cannot be read as an Inspect log: {error}") from error
    found = [
        (sample.epoch, from_plain(sample.metadata["trajectory"]))
        for sample in log.samples or ()
        if "trajectory" in sample.metadata
    ]
    if not found:
        raise RecordError(f"{path} holds no finished episode of homeostasis-gym")
    return sorted(found, key=lambda pair: (pair[1].header.agent, pair[0], pair[1].header.episode))


def _inspect_log() -> Any:
    try:
        import inspect_ai.log
    except ImportError as error:
        raise MissingExtraError("Inspect AI", "pip install 'homeostasis-gym[llm]'") from error
    return inspect_ai.log


_NOT_A_CONDITION = (
    *("prices", "max_cost", "connections", "context_tokens"),
    *("attempt_timeout", "give_up_after", "request_retries"),
)
"""Settings that leave the replies as they are."""


@dataclass
class _Condition:
    """The episodes of one model with one set of settings, and the log in which each was found."""

    settings: Mapping[str, Any]
    episodes: dict[int, Trajectory] = field(default_factory=dict)
    logs: dict[int, str] = field(default_factory=dict)

    def add(self, name: str, episode: Trajectory, log: str) -> None:
        number = episode.header.episode
        known = self.episodes.get(number)
        if known is not None and known != episode:
            raise HomeostasisError(
                f"`logs` must hold every episode once, but episode {number} of {name} stands in "
                f"{self.logs[number]} and, with another course, in {log}"
            )
        # The same record twice is one: a log that goes on after a failure repeats what was finished.
        self.episodes.setdefault(number, episode)
        self.logs.setdefault(number, log)


def _condition_name(episode: Trajectory, epoch: int) -> tuple[str, dict[str, Any]]:
    """The name of an agent that says under which conditions it played, and these as settings."""
    settings = dict(episode.header.agent_settings)
    client = episode.header.extra.get("client", {})
    if "temperature" not in settings and client.get("temperature") != 0:
        settings["temperature"] = client.get("temperature")
    if epoch > 1:
        settings["epoch"] = epoch
    parts = [
        f"{key}:{value if isinstance(value, str) else json.dumps(value)}"
        for key, value in sorted(settings.items())
        if key not in _NOT_A_CONDITION
    ]
    return "+".join([episode.header.agent, *parts]), settings


def _files(logs: Sequence[Path | str]) -> Iterator[tuple[str, bool]]:
    """The logs, each with whether it was found in a folder."""
    for log in logs:
        if not Path(log).is_dir():
            yield str(log), False
            continue
        found = sorted(info.name for info in _inspect_log().list_eval_logs(str(log)))
        if not found:
            raise HomeostasisError(f"`logs` must be Inspect logs or folders of them, but {log} holds none")
        yield from ((name, True) for name in found)


def write_run(logs: Sequence[Path | str], out: Path) -> Path:
    """Write the episodes of one or more logs of one task as a run folder.

    Args:
        logs: Inspect logs, or folders of them: the same environment and seeds; one model or several, under
            one condition or several. In a folder, a log without a finished episode is told and left out.
        out: The folder, new or empty.

    Raises:
        HomeostasisError: The logs do not fit together, or the folder is in use.
    """
    from homeostasis_gym.experiments import AgentSpec, Experiment, RunFolder

    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HomeostasisError(f"`out` must be a new or an empty folder, but {out} holds something")
    pairs: list[tuple[str, int, Trajectory]] = []
    for log, in_folder in _files(logs):
        try:
            pairs += [(log, epoch, episode) for epoch, episode in _read(log)]
        except RecordError as error:
            if not in_folder:
                raise
            print(f"left out: {error}", file=sys.stderr)
    if not pairs:
        raise HomeostasisError("`logs` must hold a finished episode of homeostasis-gym, got none")
    headers = [episode.header for _, _, episode in pairs]
    seeds = {header.seed - header.episode for header in headers}
    environments = {(h.env_id, repr(sorted(h.env_kwargs.items()))) for h in headers}
    if len(seeds) != 1 or len(environments) != 1:
        raise HomeostasisError(
            "`logs` must be of one environment with one first seed, got "
            f"{', '.join(sorted(env_id for env_id, _ in environments))} with seeds {sorted(seeds)}"
        )
    conditions: dict[str, _Condition] = {}
    for log, epoch, episode in pairs:
        name, settings = _condition_name(episode, epoch)
        named = replace(episode, header=replace(episode.header, agent=name))
        conditions.setdefault(name, _Condition(settings)).add(name, named, log)
    agents = [AgentSpec(n, max(found.episodes) + 1, found.settings) for n, found in conditions.items()]
    folder = RunFolder(out)
    folder.open(Experiment(headers[0].env_id, tuple(agents), headers[0].env_kwargs, seeds.pop()))
    for name, condition in conditions.items():
        for number in sorted(condition.episodes):
            folder.add(name, [condition.episodes[number]])
    return folder.path


def main(argv: Sequence[str] | None = None) -> int:
    """Convert logs from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m homeostasis_agents.inspect_logs",
        description="Turn Inspect logs into a run folder for `homeostasis-gym score` and `report`.",
    )
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="Inspect log, or folder of logs")
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
