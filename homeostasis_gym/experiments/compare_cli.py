"""The verbs ``compare``, ``score`` and ``report``."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from homeostasis_gym.agent import agent_traits
from homeostasis_gym.collapse import AgentSummary, EpisodeScore, score, summarize
from homeostasis_gym.errors import BudgetError, HomeostasisError, MissingExtraError
from homeostasis_gym.experiments.folder import RunFolder
from homeostasis_gym.experiments.payments import check_limit, pricing_of
from homeostasis_gym.experiments.runner import Event, run_experiment
from homeostasis_gym.experiments.spec import (
    AgentSpec,
    Experiment,
    default_agents,
    make_env,
    published_kwargs,
)
from homeostasis_gym.experiments.table import print_table
from homeostasis_gym.trajectory import Trajectory
from homeostasis_gym.usage import Pricing, Usage, usage

__all__ = ["add_parser"]

EPISODES = 10
# An episode of a slow agent takes one to three minutes of a core: this many keep the default comparison
# within eight minutes on two cores.
SLOW_EPISODES = 4


def add_parser(subparsers: Any) -> None:
    """Add the verbs to the command line."""
    compare = subparsers.add_parser(
        "compare",
        help="let agents play an environment and see who collapses",
        description="Let agents play an environment on the same noise; print the table, write the report. "
        "Started again with the same options, it goes on where it stopped.",
    )
    compare.add_argument("--env", default="Homeostasis-MOHoN-v0", help="Gymnasium id (default: %(default)s)")
    compare.add_argument(
        "--env-arg",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="argument for the environment, for example objectives=3; may be repeated",
    )
    compare.add_argument(
        "--agents",
        metavar="NAME[,NAME...]",
        help="agents, as NAME, NAME:ARGUMENT or module:attribute; NAME=EPISODES gives one its own number "
        "of episodes (default: all that come with the package and can play the environment)",
    )
    compare.add_argument(
        "--episodes",
        type=int,
        help=f"episodes per agent (default: {EPISODES}; {SLOW_EPISODES} for language models)",
    )
    compare.add_argument("--steps", type=int, help="steps per episode (default: the environment's)")
    compare.add_argument(
        "--seed", type=int, default=1, help="seed of the first episode (default: %(default)s)"
    )
    compare.add_argument("--out", type=Path, help="run folder (default: runs/ENV-DIGEST)")
    compare.add_argument("--workers", type=int, help="processes at once (default: one per core)")
    compare.add_argument(
        "--max-cost",
        type=float,
        metavar="DOLLARS",
        help="make no further request of a hosted model once this much is spent, everything that the run "
        "folder has paid before included; started again with more, the comparison goes on (exit status 3)",
    )
    _add_prices(compare)
    compare.add_argument("--json", action="store_true", help="print JSON instead of the table")
    compare.set_defaults(run=_compare)

    score_verb = subparsers.add_parser(
        "score",
        help="compute the metrics of a run again, from its records alone",
        description="Compute every episode's metrics again, from the records alone. Several run folders, "
        "imported ones among them, are shown in one table.",
    )
    score_verb.add_argument("run_folders", nargs="+", type=Path, metavar="RUN", help="run folder")
    _add_prices(score_verb)
    score_verb.add_argument("--json", action="store_true", help="print JSON instead of a table")
    score_verb.set_defaults(run=_score)

    report = subparsers.add_parser(
        "report", help="write a run's report.html again", description="Write a run's page again."
    )
    report.add_argument("run_folder", type=Path, metavar="RUN", help="run folder")
    _add_prices(report)
    report.add_argument("--json", action="store_true", help="print JSON instead of the page's name")
    report.set_defaults(run=_report)


def _add_prices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prices",
        type=Path,
        metavar="FILE",
        help="price file, JSON of {model: {input, cached, output}} in dollars per million tokens "
        "(default: the examples that come with the package, to be checked)",
    )


def _compare(arguments: argparse.Namespace) -> int:
    _need_report_extra()
    if arguments.workers is not None and arguments.workers < 1:
        raise HomeostasisError(f"`--workers` must be at least 1, got {arguments.workers}")
    check_limit(arguments.max_cost)
    if arguments.steps is not None and arguments.steps < 1:
        raise HomeostasisError(f"`--steps` must be at least 1, got {arguments.steps}")
    env_kwargs = {
        **published_kwargs(arguments.env, arguments.steps),
        **dict(_env_argument(text) for text in arguments.env_arg),
    }
    env = make_env(arguments.env, env_kwargs)
    names = default_agents(env) if arguments.agents is None else arguments.agents.split(",")
    env.close()
    experiment = Experiment(
        env_id=arguments.env,
        env_kwargs=env_kwargs,
        agents=tuple(_agent(name.strip(), arguments.episodes) for name in names),
        seed=arguments.seed,
    )
    short = arguments.env.split(":")[-1].split("/")[-1]
    folder = RunFolder(arguments.out or Path("runs") / f"{short}-{experiment.digest}")
    with _progress(enabled=not arguments.json) as on_event:
        try:
            run_experiment(
                experiment,
                folder,
                workers=arguments.workers,
                on_event=on_event,
                max_cost=arguments.max_cost,
                prices=arguments.prices,
            )
            stopped = ""
        except BudgetError as error:
            if not any(folder.finished(agent.name) for agent in folder.experiment.agents):
                raise
            stopped = str(error)
    trajectories, scores = _scored(folder)
    prices = _prices(folder, arguments.prices)
    page = _write_report(folder, trajectories, scores, prices)
    if arguments.json:
        print(_as_json([folder], trajectories, scores, prices, page))
    else:
        _print_table([folder], trajectories, scores, prices)
        print(f"\nreport: {page}\nrecords: {folder.path}")
    if stopped:
        raise BudgetError(stopped)
    return 0


def _score(arguments: argparse.Namespace) -> int:
    _need_report_extra()
    folders = [RunFolder(path) for path in dict.fromkeys(arguments.run_folders)]
    trajectories, prices = _joined(folders, arguments.prices)
    scores = score(trajectories)
    if arguments.json:
        print(_as_json(folders, trajectories, scores, prices))
    else:
        _print_table(folders, trajectories, scores, prices)
    return 0


def _joined(folders: Sequence[RunFolder], prices: Path | None) -> tuple[list[Trajectory], dict[str, Pricing]]:
    """Records of several run folders; an agent's name that several of them hold is told with the folder."""
    held = Counter(agent["name"] for folder in folders for agent in folder.manifest["agents"])
    trajectories: list[Trajectory] = []
    pricing: dict[str, Pricing] = {}
    for folder in folders:
        names = {n: f"{n} ({folder.path})" if held[n] > 1 else n for n in _prices(folder, prices)}
        pricing |= {names[name]: one for name, one in _prices(folder, prices).items()}
        trajectories += [
            replace(t, header=replace(t.header, agent=names.get(t.header.agent, t.header.agent)))
            for t in folder.trajectories()
        ]
    return trajectories, pricing


def _report(arguments: argparse.Namespace) -> int:
    _need_report_extra()
    folder = RunFolder(arguments.run_folder)
    page = str(_write_report(folder, *_scored(folder), _prices(folder, arguments.prices)))
    print(json.dumps({"report": page}) if arguments.json else page)
    return 0


def _prices(folder: RunFolder, prices: Path | None) -> dict[str, Pricing]:
    """What the exchanges of every agent of a folder cost."""
    agents = folder.manifest["agents"]
    return {agent["name"]: pricing_of(agent["name"], agent.get("settings", {}), prices) for agent in agents}


def _used(trajectories: Sequence[Trajectory], prices: Mapping[str, Pricing]) -> dict[str, Usage | None]:
    by_agent: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        by_agent.setdefault(trajectory.header.agent, []).append(trajectory)
    return {agent: usage(members, prices.get(agent)) for agent, members in by_agent.items()}


def _scored(folder: RunFolder) -> tuple[list[Trajectory], list[EpisodeScore]]:
    trajectories = folder.trajectories()
    return trajectories, score(trajectories)


def _summaries(trajectories: Sequence[Trajectory], scores: Sequence[EpisodeScore]) -> dict[str, AgentSummary]:
    by_agent: dict[str, list[EpisodeScore]] = {}
    for trajectory, episode in zip(trajectories, scores, strict=True):
        by_agent.setdefault(trajectory.header.agent, []).append(episode)
    return {agent: summarize(episodes) for agent, episodes in by_agent.items()}


def _as_json(
    folders: Sequence[RunFolder],
    trajectories: Sequence[Trajectory],
    scores: Sequence[EpisodeScore],
    prices: Mapping[str, Pricing],
    page: Path | None = None,
) -> str:
    manifests = [folder.manifest for folder in folders]
    used = _used(trajectories, prices)
    content: dict[str, Any] = {
        "run": ", ".join(str(folder.path) for folder in folders),
        "env_id": _env_ids(folders),
        # What several folders do not share is no fact of the table; every record has its own.
        "env_kwargs": manifests[0]["env_kwargs"] if len(manifests) == 1 else None,
        "episodes": [
            {
                "agent": t.header.agent,
                "episode": t.header.episode,
                "seed": t.header.seed,
                "steps": len(t),
                "seconds": None if np.isnan(t.seconds).any() else float(t.seconds.sum()),
                **s.to_dict(),
            }
            for t, s in zip(trajectories, scores, strict=True)
        ],
        "agents": {
            name: {**s.to_dict(), "usage": None if (one := used[name]) is None else one.to_dict()}
            for name, s in _summaries(trajectories, scores).items()
        },
    }
    if page is not None:
        content["report"] = str(page)
    return json.dumps(content, allow_nan=False)


def _write_report(
    folder: RunFolder,
    trajectories: Sequence[Trajectory],
    scores: Sequence[EpisodeScore],
    prices: Mapping[str, Pricing],
) -> Path:
    from homeostasis_gym.report import write_report

    try:
        return write_report(folder.path, folder.manifest, trajectories, scores, prices)
    except OSError as error:
        raise HomeostasisError(f"the report cannot be written to {folder.path}: {error.strerror}") from error


def _agent(text: str, episodes: int | None) -> AgentSpec:
    if not text or text.startswith("="):
        raise HomeostasisError(
            f"`--agents` must hold names separated by commas, got an empty name in {text!r}"
        )
    name, sign, count = text.rpartition("=")
    if not sign:
        if episodes is None:
            episodes = SLOW_EPISODES if agent_traits(text).slow else EPISODES
        return AgentSpec(text, episodes)
    if not count.isdigit():
        raise HomeostasisError(f"`--agents` must give episodes as a whole number, got {text!r}")
    return AgentSpec(name, int(count))


def _env_argument(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise HomeostasisError(f"`--env-arg` must be NAME=JSON, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value  # a bare word is a string


def _need_report_extra() -> None:
    """Everything that a finished run will need is there before a run of minutes begins."""
    for module in ("pyarrow", "scipy", "lifelines", "jinja2", "rich", "filelock"):
        try:
            __import__(module)
        except ImportError as error:
            raise MissingExtraError(module, "pip install 'homeostasis-gym[report]'") from error


@contextmanager
def _progress(enabled: bool) -> Iterator[Callable[[Event], None]]:
    """A bar per agent on a terminal, a line per finished agent elsewhere."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    if not enabled:
        yield lambda event: None
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        finished: set[str] = set()

        def say(event: Event) -> None:
            if event.done >= event.total and event.agent not in finished:
                finished.add(event.agent)
                print(f"{event.agent}: {event.total} episodes done", file=sys.stderr, flush=True)

        yield say
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as progress:
        bars: dict[str, Any] = {}

        def show(event: Event) -> None:
            if event.agent not in bars:
                bars[event.agent] = progress.add_task(event.agent, total=event.total, note="")
            progress.update(bars[event.agent], completed=event.done, note=event.note)

        yield show


def _env_ids(folders: Sequence[RunFolder]) -> str:
    return ", ".join(dict.fromkeys(folder.manifest["env_id"] for folder in folders))


def _print_table(
    folders: Sequence[RunFolder],
    trajectories: Sequence[Trajectory],
    scores: Sequence[EpisodeScore],
    prices: Mapping[str, Pricing],
) -> None:
    seconds: dict[str, float] = {}
    for t in trajectories:
        seconds[t.header.agent] = seconds.get(t.header.agent, 0.0) + float(t.seconds.sum())
    first = {folder.manifest["seed"] for folder in folders}
    seeds = f", seeds from {min(first)}" if len(first) == 1 and min(first) >= 0 else ""  # imported: unknown
    title = f"{_env_ids(folders)}{seeds}"
    print_table(title, _summaries(trajectories, scores), seconds, _used(trajectories, prices))
