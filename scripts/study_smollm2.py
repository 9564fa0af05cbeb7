"""The embedded model under two benchmarks, three histories and two ways of decoding; offline, no key.

    python scripts/study_smollm2.py run              # hours on one core; stop and start it as you like
    python scripts/study_smollm2.py report           # tables, onset curves and a transcript so far

Every condition has a run folder of its own under --out, so that nothing finished is run twice. Seeds are
the outer loop: after every round of seeds the conditions are equally far.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from homeostasis_gym.agent import Task, make_agent
from homeostasis_gym.collapse import EpisodeScore, score, summarize
from homeostasis_gym.errors import RecordError
from homeostasis_gym.experiments.folder import RunFolder
from homeostasis_gym.experiments.spec import AgentSpec, Experiment, make_env
from homeostasis_gym.rollout import rollout
from homeostasis_gym.trajectory import Trajectory

T = TypeVar("T")

ENVIRONMENTS = {"mohon": "Homeostasis-MOHoN-v0", "mobuo": "Homeostasis-MOBUO-v0"}
# With a window of exactly 8 turns every step reads 8 turns again. This one grows from 8 to 16 and is then
# cut to 8, which costs a quarter of that.
HISTORIES = {
    "full": {"history": "full"},
    "last8": {"history": "window", "turns": 8, "slack": 8},
    "blind": {"history": "blind"},
}
DECODING = {"free": False, "grammar": True}
CONTROLS = ("random", "no-op", "copy-last", "handwritten")
# MO-BUO has no noise: at temperature 0 all seeds would be one and the same episode.
COMMON = {"temperature": 0.7, "retries": 1}


def conditions() -> list[tuple[str, str, AgentSpec]]:
    """Every condition: folder name, environment, agent."""
    found = []
    for (history, policy), (decoding, constrained), env in itertools.product(
        HISTORIES.items(), DECODING.items(), ENVIRONMENTS
    ):
        settings = {**COMMON, **policy, "constrained": constrained}
        found.append((f"{env}-{history}-{decoding}", env, AgentSpec("smollm2", 1, settings)))
    for agent, env in itertools.product(CONTROLS, ENVIRONMENTS):
        found.append((f"{env}-{agent}", env, AgentSpec(agent, 1)))
    return found


def run(out: Path, seeds: int, steps: int, only: str) -> None:
    for count in range(1, seeds + 1):
        for name, env, agent in conditions():
            if only and only not in name:
                continue
            spec = AgentSpec(agent.name, count, agent.settings)
            kwargs = {"max_consumption": None, "episode_length": steps}
            experiment = Experiment(ENVIRONMENTS[env], (spec,), kwargs, seed=1)
            folder = RunFolder(out / name)
            folder.open(experiment)
            if count - 1 in folder.finished(spec.name):
                continue
            began = time.monotonic()
            environment = make_env(experiment.env_id, kwargs)
            player = make_agent(spec.name, Task.from_env(environment), **spec.settings)
            episode = rollout(
                environment,
                player,
                seed=count,
                agent_name=spec.name,
                episode=count - 1,
                env_kwargs=kwargs,
                agent_settings=spec.settings,
                extra=getattr(player, "record", {}),
            )
            folder.add(spec.name, [episode])
            if time.monotonic() - began > 1:
                print(f"{name}: seed {count}, {time.monotonic() - began:.0f} s", flush=True)


def repeats(trajectory: Trajectory) -> float:
    """Share of steps that do exactly what the step before did."""
    actions = trajectory.actions
    return float(np.mean((actions[1:] == actions[:-1]).all(axis=1))) if len(actions) > 1 else 0.0


def moves(trajectory: Trajectory) -> tuple[float, float]:
    """Shares of steps that do more in sum, and less in sum, than the step before."""
    sums = trajectory.actions.sum(axis=1)
    return float(np.mean(np.diff(sums) > 0)), float(np.mean(np.diff(sums) < 0))


def episodes(out: Path, name: str, seeds: int) -> list[Trajectory]:
    """What is finished of a condition, of the model's conditions the first seeds alone."""
    try:
        found = RunFolder(out / name).trajectories()
    except RecordError:
        return []
    if name.partition("-")[2] in CONTROLS:
        return found  # they cost nothing, so all there are
    return [episode for episode in found if episode.header.episode < seeds]


def table(out: Path, seeds: int) -> dict[str, list[EpisodeScore]]:
    scored: dict[str, list[EpisodeScore]] = {}
    headings = (
        "condition",
        "episodes",
        "flipped",
        "95 %",
        "median onset",
        "Runaway Index",
        "self-imitation (S)",
        "repeats last action",
        "rises / falls",
        "largest action",
        "median regret",
        "invalid replies / step",
        "invalid steps",
    )
    print("| " + " | ".join(headings) + " |")
    print("|" + "---|" * len(headings))
    for name, _, _ in sorted(conditions(), key=lambda c: (c[2].name != "smollm2", c[1] == "mobuo")):
        trajectories = episodes(out, name, seeds)
        if not trajectories:
            continue
        scores = scored[name] = score(trajectories)
        s = summarize(scores)
        steps = sum(len(t) for t in trajectories)
        low, high = s.flip_interval or (float("nan"),) * 2
        imitation = np.mean([x.ri_imitation for x in scores if x.ri_imitation is not None])
        rises, falls = np.mean([moves(t) for t in trajectories], axis=0)
        largest = np.median([t.actions.max() for t in trajectories])
        cells = (
            name,
            s.episodes,
            s.flips,
            f"{low:.2f}-{high:.2f}",
            s.median_onset or "-",
            f"{s.runaway_index:.3f}",
            f"{imitation:.2f}",
            f"{np.mean([repeats(t) for t in trajectories]):.2f}",
            f"{rises:.2f} / {falls:.2f}",
            f"{largest:,.0f}",
            f"{s.regret:,.0f}",
            f"{s.invalid_replies / steps:.2f}",
            f"{s.invalid_steps / steps:.0%}",
        )
        print("| " + " | ".join(map(str, cells)) + " |")
    return scored


def onset_curves(scored: dict[str, list[EpisodeScore]], file: Path) -> None:
    """Share of episodes flipped by each step, a curve per condition."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    # Curves that coincide show through each other: the later ones are thinner and broken.
    looks = {
        "free": ("-", "#1b6ca8", 4.0),
        "grammar": ("--", "#d1802b", 2.0),
        "random": ("-", "#bbbbbb", 4.0),
        "no-op": ("-", "#5a9a4a", 4.0),
        "copy-last": ("--", "#8050a0", 2.0),
        "handwritten": (":", "#222222", 2.0),
    }
    panels = [*HISTORIES, "controls"]
    figure, axes = plt.subplots(
        len(ENVIRONMENTS), len(panels), figsize=(12, 5.2), sharex=True, sharey=True, squeeze=False
    )
    for row, env in zip(axes, ENVIRONMENTS, strict=True):
        for axis, panel in zip(row, panels, strict=True):
            kinds = CONTROLS if panel == "controls" else DECODING
            for kind in kinds:
                scores = scored.get(f"{env}-{kind}" if panel == "controls" else f"{env}-{panel}-{kind}", [])
                if not scores:
                    continue
                onsets = [s.onset for s in scores if s.onset is not None]
                steps = np.arange(max(s.steps for s in scores) + 1)
                share = [sum(o <= t for o in onsets) / len(scores) for t in steps]
                style, colour, width = looks[kind]
                label = f"{kind} ({len(scores)})"
                axis.step(steps, share, style, where="post", color=colour, label=label, linewidth=width)
            axis.set_title(f"{env}: {panel}", fontsize=10)
            axis.set_ylim(-0.04, 1.04)
            if env == next(iter(ENVIRONMENTS)):
                axis.legend(fontsize=7, loc="center right")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    figure.supylabel("share of episodes whose onset has come", fontsize=10)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    print(f"\nonset curves: {file}")


def transcript(out: Path, name: str, steps: int = 14) -> None:
    """The first steps and the last ones of the first episode of a condition."""
    episode = RunFolder(out / name).trajectories()[0]
    print(f"\n{name}, seed {episode.header.seed}:\n")
    shown = [*range(min(steps, len(episode))), *range(max(steps, len(episode) - 3), len(episode))]
    for t in shown:
        for attempt in episode.attempts[t]:
            said = attempt.prompt.rsplit("\n", 1)[-1]
            note = f"   ({attempt.error})" if attempt.error else ""
            print(f"    step {t + 1:3d}  {said}  ->  {attempt.reply!r}{note}")
    reasons = Counter(a.error for step in episode.attempts for a in step if a.error)
    if reasons:
        print(f"\nrefused replies: {dict(reasons.most_common(4))}")


def costs(out: Path, seeds: int) -> None:
    """Tokens and cache share per episode."""
    print("| condition | prompt tokens read | from the cache | cache share | written | seconds |")
    print("|---|---|---|---|---|---|")
    for name, _, spec in conditions():
        if spec.name != "smollm2":
            continue
        trajectories = episodes(out, name, seeds)
        if not trajectories:
            continue
        read, cached, written = (
            np.mean([t.tokens(kind) for t in trajectories]) for kind in ("prompt", "cached", "completion")
        )
        seconds = np.mean([t.seconds.sum() for t in trajectories])
        print(
            f"| {name} | {read:,.0f} | {cached:,.0f} | {cached / (cached + read):.1%} | {written:,.0f} | "
            f"{seconds:.0f} |"
        )


def update(page: Path, seeds: int, results: str, cost: str) -> None:
    """Put the tables and the number of seeds into the page, between its markers."""
    text = page.read_text(encoding="utf-8")
    for name, content in (("seeds", str(seeds)), ("results", f"\n{results}"), ("costs", f"\n{cost}")):
        head, _, rest = text.partition(f"<!-- {name} -->")
        _, _, tail = rest.partition("<!-- end -->")
        text = f"{head}<!-- {name} -->{content}<!-- end -->{tail}"
    page.write_text(text, encoding="utf-8")


def printed(what: Callable[[], T]) -> tuple[T, str]:
    """The result of a call, and what it printed, which is shown as well."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        result = what()
    print(shown.getvalue())
    return result, shown.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--out", type=Path, default=Path("runs/study-smollm2"))
    parser.add_argument("--seeds", type=int, default=10, help="how many seeds, from 1 (default: 10)")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--only", default="", help="conditions whose name contains this")
    parser.add_argument("--page", type=Path, help="page whose tables and figure are brought up to date")
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments.out, arguments.seeds, arguments.steps, arguments.only)
        return 0
    scored, results = printed(lambda: table(arguments.out, arguments.seeds))
    if not scored:
        print(f"error: no finished episodes under {arguments.out}", file=sys.stderr)
        return 2
    _, cost = printed(lambda: costs(arguments.out, arguments.seeds))
    figure = arguments.out / "onset.png"
    if arguments.page is not None:
        update(arguments.page, arguments.seeds, results, cost)
        figure = arguments.page.parent / "figures" / "study_smollm2_onset.png"
    onset_curves(scored, figure)
    for name in ("mohon-full-free", "mobuo-full-grammar"):
        if name in scored:
            transcript(arguments.out, name)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
