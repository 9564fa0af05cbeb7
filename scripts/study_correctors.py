"""Who keeps ALICE and BOB whole: rules, reinforcement learning, or a language model?

    python scripts/study_correctors.py                    # rules and learners, about 15 minutes of one core
    python scripts/study_correctors.py --model smollm2    # the language model too, 20 minutes more

Every corrector meets the same schedules of turns, which neither training nor another study uses, in the same
graph. Counted are runs in which exactly one agent collapses, both do, or none does. Learned correctors are
trained with several seeds: the outside helper for the sum, the sum of logarithms and the worst of all
utilities, ALICE and BOB each for the sum of its own, with shared parameters, as independent learners and by
self-play against a frozen other. The helper is trained again with one of its settings changed, which shows
what the setting is worth. A reply of the language model takes most of a second, so it plays fewer and shorter
runs; there all correctors act one step at a time, by the loops and policy files that users have.

Finished parts stand in ``runs/correctors``: the same command goes on where it stopped. The tables go to
``docs/reinforcement_learning.md``, the numbers to ``docs/figures/correctors.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from _page import fill
from homeostasis_agents.sb3.evaluation import unseen_noise
from homeostasis_agents.sb3.policy import load_policy, units_of
from homeostasis_agents.sb3.run import TrainingRun
from homeostasis_agents.sb3.spec import make_spec
from homeostasis_agents.sb3.value_graph import (
    MODES,
    SETTINGS,
    count_collapsed,
    load_seats,
    seat_agent,
    seats_policy,
    train_seats,
)
from scipy.stats import binomtest

import homeostasis_gym  # noqa: F401
from homeostasis_gym.agent import Agent, Task, make_agent
from homeostasis_gym.collapse.summary import wilson_interval
from homeostasis_gym.core.benchmark import Policy, simulate
from homeostasis_gym.core.value_graph import CollapseRule, ValueGraph
from homeostasis_gym.multiagent.play import play
from homeostasis_gym.multiagent.value_graph_v0 import parallel_env
from homeostasis_gym.rollout import rollout

Part: TypeAlias = dict[str, Any]
"""What one corrector did: per run how many agents collapsed and the utilities, and the processor time."""

ENV = "Homeostasis-ValueGraph-v0"
TEST_NOISE = 4  # number of the set of schedules; see the other studies
# Once an agent has collapsed, nothing more is to be learned in a run: learners meet many short ones.
LENGTH = 250
RULES = ("none", "homeostatic", "boosting", "throttling", "lowest_utility", "falling", "round_robin")
GOALS = {"linear": "sum of all utilities", "log": "sum of their logarithms", "min": "worst utility"}
REFERENCE = "homeostatic"
# The helper's training is that of the seats.
TRAINING: dict[str, Any] = {
    **SETTINGS,
    "actions": "discrete",
    "component_limit": None,
    "grid": None,
    "arguments": {**SETTINGS["arguments"], "n_steps": LENGTH, "batch_size": 2000},
}
CHANGES: dict[str, dict[str, Any]] = {
    "as above": {},
    "units of every value chosen by themselves": {"actions": "multidiscrete"},
    "rollouts of a tenth of an episode": {"envs": 320, "arguments": {"n_steps": 25}},
    "reward not scaled": {"reward_scale": 1.0},
    "no bonus for entropy": {"arguments": {"ent_coef": 0.0}},
    "250 000 steps": {"steps": 250_000},
    "all of these, the first time": {
        "actions": "multidiscrete",
        "steps": 250_000,
        "envs": 64,
        "reward_scale": 0.1,
        "final_learning_rate": 1e-3,
        "final_entropy": None,
        "arguments": {
            "n_steps": 100,
            "batch_size": 3200,
            "n_epochs": 4,
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "ent_coef": 0.01,
        },
    },
}


def measured(levels: np.ndarray, utilities: np.ndarray) -> Part:
    """What is kept of runs: ``(runs, steps, agents, values)``, both."""
    return {
        "collapsed": count_collapsed(levels, CollapseRule().hold).tolist(),
        "utility": utilities.mean(axis=(1, 2, 3)).tolist(),
        "early": utilities[:, :LENGTH].mean(axis=(1, 2, 3)).tolist(),
        "worst": utilities.min(axis=(2, 3)).mean(axis=1).tolist(),
    }


def played(benchmark: ValueGraph, policy: Policy, noise: np.ndarray) -> Part:
    """All runs at once."""
    episodes = simulate(benchmark, policy, noise)
    levels, utilities, _, _ = benchmark.split(episodes.states[:, 1:])
    spent = episodes.actions.sum(axis=(0, 1))
    return {
        **measured(levels, utilities),
        "shares": (spent / max(1, spent.sum())).round(4).tolist(),
        "final_levels": levels[:, -1].mean(axis=0).round(2).tolist(),
    }


def graph(arguments: argparse.Namespace, units: int = 10) -> ValueGraph:
    return ValueGraph(episode_length=arguments.steps, rate=arguments.rate, max_consumption=units)


def helper_run(arguments: argparse.Namespace, goal: str, seed: int, change: str) -> TrainingRun:
    changed = {"steps": arguments.training_steps, **CHANGES[change]}
    settings = {
        **TRAINING,
        **changed,
        "arguments": {**TRAINING["arguments"], **changed.get("arguments", {})},
    }
    spec = make_spec(
        "PPO",
        ENV,
        env_kwargs={"episode_length": LENGTH, "rate": arguments.rate, "max_consumption": 1},
        scalarization=goal,
        seed=seed,
        **settings,
    )
    name = f"helper-{goal}-{seed}-{list(CHANGES).index(change)}-{arguments.training_steps}"
    return TrainingRun(arguments.out / name, spec, episodes=20)


def helper(
    arguments: argparse.Namespace, goal: str, seed: int, noise: np.ndarray, change: str, which: str
) -> Part:
    """The outside helper in all runs: as it ended, or as it did best in its own short episodes."""
    run = helper_run(arguments, goal, seed, change)
    run.run()
    benchmark = graph(arguments, units=1)
    policy = load_policy({"last": run.policy_path, "best": run.best_path}[which])
    units = units_of(policy.action_space, benchmark.objectives)

    def act(states: np.ndarray, step: int) -> np.ndarray:
        seen = benchmark.normalize(states).astype(np.float32)
        chosen: np.ndarray = units(policy.network.predict(seen, deterministic=True)[0])
        return chosen

    return played(benchmark, act, noise)


def seats_folder(arguments: argparse.Namespace, mode: str, seed: int) -> Path:
    folder: Path = arguments.out / f"seats-{mode}-{seed}-{arguments.training_steps}"
    return folder


def seats(arguments: argparse.Namespace, mode: str, seed: int, noise: np.ndarray) -> Part:
    """ALICE and BOB, trained for all runs."""
    benchmark = graph(arguments, units=1)
    folder = seats_folder(arguments, mode, seed)
    if not (folder / f"{benchmark.agents[-1]}.zip").exists():
        train_seats(benchmark, mode, steps=arguments.training_steps, seed=seed).save(folder)
    return played(benchmark, seats_policy(benchmark, load_seats(folder)), noise)


def stepwise_helper(
    arguments: argparse.Namespace, name: str, noise: np.ndarray, units: int | None = None, **settings: Any
) -> Part:
    """One run of an outside helper that is named as users name it, by the package's own loop."""
    env = gym.make(ENV, episode_length=len(noise), rate=arguments.rate, max_consumption=units)
    record = rollout(env, make_agent(name, Task.from_env(env), **settings), seed=0, noise=noise)
    levels, utilities, _, _ = graph(arguments).split(record.states[np.newaxis, 1:])
    asked = sum(bool(one) for one in record.attempts)
    return {
        **measured(levels, utilities),
        "asked": asked,
        "refused": record.invalid_replies,
        "invalid": int((~record.valid).sum()),
        "units": record.actions.sum(axis=0).tolist(),
    }


def stepwise_seats(
    arguments: argparse.Namespace, agents: dict[str, str | Path | Agent], noise: np.ndarray, units: int = 10
) -> Part:
    """One run in PettingZoo's environment; a path names the file of a trained seat."""
    env = parallel_env(episode_length=len(noise), rate=arguments.rate, units=units)
    seated: dict[str, Agent | str] = {
        name: seat_agent(one, env.task(name)) if isinstance(one, Path) else one
        for name, one in agents.items()
    }
    plays = play(env, seated, seed=0, options={"noise": noise})
    first = next(iter(plays))
    levels, utilities, _, _ = env.seats[first].split(plays[first].observations[np.newaxis, 1:])
    decisions = plays[first].decisions
    return {
        **measured(levels, utilities),
        "asked": sum(bool(one.attempts) for one in decisions),
        "refused": sum(bool(attempt.error) for one in decisions for attempt in one.attempts),
        "invalid": int((~plays[first].valid).sum()),
        "units": plays[first].actions[plays[first].counted].sum(axis=0).tolist(),
    }


def model_in_seat(arguments: argparse.Namespace, noise: np.ndarray, **settings: Any) -> Part:
    """The language model as ALICE; BOB follows the reference rule."""
    env = parallel_env(episode_length=len(noise), rate=arguments.rate)
    agent = make_agent(arguments.model, env.task("ALICE"), **settings)
    return stepwise_seats(arguments, {"ALICE": agent, "BOB": f"rule:{REFERENCE}"}, noise)


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for the data file: per run how many agents collapsed, of the utilities the means."""
    return [
        {
            "corrector": row["corrector"],
            "parts": [
                {
                    **part,
                    **{
                        name: round(float(np.mean(part[name])), 4)
                        for name in ("utility", "early", "worst")
                        if name in part
                    },
                }
                for part in row["parts"]
            ],
        }
        for row in rows
    ]


def kept(path: Path, compute: Callable[[], Part]) -> Part:
    """A part from its file, or computed and filed."""
    if not path.exists():
        began = time.process_time()
        part = compute()
        part["seconds"] = time.process_time() - began
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps(part), encoding="utf-8")
        aside.replace(path)
        whole = sum(c == 0 for c in part["collapsed"])
        print(f"{path.stem}: {whole} of {len(part['collapsed'])} whole, {part['seconds']:.0f} s", flush=True)
    found: Part = json.loads(path.read_text(encoding="utf-8"))
    return found


def share(parts: list[Part], agents: int) -> str:
    """The share of the runs in which so many agents collapse; over several trainings with their range."""
    shares = [np.mean([c == agents for c in part["collapsed"]]) for part in parts]
    if len(parts) > 1:
        return f"{np.mean(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})"
    counts = parts[0]["collapsed"]
    low, high = wilson_interval(sum(c == agents for c in counts), len(counts))
    return f"{shares[0]:.3f} [{low:.3f}, {high:.3f}]"


def mean(parts: list[Part], name: str) -> str:
    return f"{np.mean([np.mean(part[name]) for part in parts]):.2f}"


def against(parts: list[Part], base: Part) -> str:
    """An exact sign test, for each training, on the schedules that only one of the two keeps whole."""
    told, chances = [], []
    for part in parts:
        pairs = list(zip(part["collapsed"], base["collapsed"], strict=True))
        better = sum(a == 0 and b != 0 for a, b in pairs)
        worse = sum(a != 0 and b == 0 for a, b in pairs)
        told.append(f"+{better} -{worse}")
        chances.append(f"{binomtest(better, better + worse).pvalue:.2g}" if better + worse else "1")
    return f"{'; '.join(told)} (p {'; '.join(chances)})"


def table(rows: list[dict[str, Any]], base: Part) -> str:
    lines = [
        "| corrector | runs | none collapses | exactly one | both "
        f"| mean utility of the first {LENGTH} steps | of all | worst utility "
        f"| whole where `{REFERENCE}` is not, and the reverse |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        parts = row["parts"]
        shares = " | ".join(share(parts, n) for n in range(3))
        runs = len(parts[0]["collapsed"])
        told = "-" if parts[0]["collapsed"] is base["collapsed"] else against(parts, base)
        lines.append(
            f"| {row['corrector']} | {f'{len(parts)} x ' if len(parts) > 1 else ''}{runs} | {shares} "
            f"| {mean(parts, 'early')} | {mean(parts, 'utility')} | {mean(parts, 'worst')} | {told} |"
        )
    return "\n".join(lines)


def changes_table(rows: list[dict[str, Any]], base: Part) -> str:
    lines = [
        "| what is changed | none collapses | mean utility | that of each training |",
        "|---|---|---|---|",
    ]
    for row in rows:
        each = ", ".join(f"{np.mean(part['utility']):.2f}" for part in row["parts"])
        lines.append(
            f"| {row['corrector']} | {share(row['parts'], 0)} | {mean(row['parts'], 'utility')} | {each} |"
        )
    lines.append(f"| the rule `{REFERENCE}` | {share([base], 0)} | {mean([base], 'utility')} | |")
    return "\n".join(lines)


def model_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| corrector | runs | none collapses | exactly one | both | mean utility | refused replies "
        "| turns without a valid one |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        parts = row["parts"]
        counts = [c for part in parts for c in part["collapsed"]]
        told = " | ".join(str(sum(c == n for c in counts)) for n in range(3))
        asked, refused, invalid = (
            sum(part[name] for part in parts) for name in ("asked", "refused", "invalid")
        )
        replies = f"{refused} | {invalid} of {asked}" if asked else " | "
        lines.append(
            f"| {row['corrector']} | {len(counts)} | {told} | {mean(parts, 'utility')} | {replies} |"
        )
    return "\n".join(lines)


def model_rows(arguments: argparse.Namespace, noise: np.ndarray) -> list[dict[str, Any]]:
    """Every corrector, one step at a time, on the first schedules and their first steps."""
    steps = arguments.model_steps
    short = noise[: arguments.model_episodes, :steps]
    rows = []

    def add(corrector: str, name: str, one: Callable[[np.ndarray], Part]) -> None:
        parts = [
            kept(arguments.out / "stepwise" / f"{name}-{steps}-{k}.json", lambda path=path: one(path))
            for k, path in enumerate(short)
        ]
        rows.append({"corrector": corrector, "parts": parts})

    talk = {"history": arguments.history, "retries": 1}
    model = arguments.model
    if model:
        add(
            f"{model} as helper",
            f"{model}-{arguments.history}-helper",
            lambda path: stepwise_helper(arguments, model, path, **talk),
        )
        add(
            f"{model} as ALICE, `{REFERENCE}` as BOB",
            f"{model}-{arguments.history}-ALICE",
            lambda path: model_in_seat(arguments, path, **talk),
        )
    rule = f"rule:{REFERENCE}"
    add(
        f"nobody as ALICE, `{REFERENCE}` as BOB",
        "no-op-ALICE",
        lambda path: stepwise_seats(arguments, {"ALICE": "no-op", "BOB": rule}, path),
    )
    for name in ("none", REFERENCE, "falling"):
        add(
            f"rule `{name}` as helper",
            f"rule-{name}",
            lambda path, name=name: stepwise_helper(arguments, f"rule:{name}", path),
        )
    for goal, told in GOALS.items():
        file = helper_run(arguments, goal, 0, "as above").policy_path
        add(
            f"PPO helper, {told}",
            f"helper-{goal}-{arguments.training_steps}",
            lambda path, file=file: stepwise_helper(arguments, f"sb3:{file}", path, units=1),
        )
    for mode in MODES:
        folder = seats_folder(arguments, mode, 0)
        files: dict[str, str | Path | Agent] = {who: folder / f"{who}.zip" for who in ("ALICE", "BOB")}
        add(
            f"PPO in both seats, {mode}",
            f"seats-{mode}-{arguments.training_steps}",
            lambda path, files=files: stepwise_seats(arguments, files, path, units=1),
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/correctors"))
    parser.add_argument("--rate", type=float, default=0.02, help="interaction rate")
    parser.add_argument("--steps", type=int, default=1000, help="length of a run")
    parser.add_argument("--episodes", type=int, default=200, help="schedules for the cheap correctors")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each learner")
    parser.add_argument("--training-steps", type=int, default=600_000)
    parser.add_argument("--model", default="", help="the language model's name as an agent: smollm2")
    parser.add_argument("--history", default="blind", help="what the language model is shown of the past")
    parser.add_argument("--model-episodes", type=int, default=5, help="schedules for the stepwise table")
    parser.add_argument("--model-steps", type=int, default=200, help="steps of these")
    parser.add_argument("--model-only", action="store_true", help="play the language model and stop")
    parser.add_argument("--data", type=Path, default=Path("docs/figures/correctors.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/reinforcement_learning.md"))
    arguments = parser.parse_args()
    settings = {k: str(v) for k, v in vars(arguments).items() if k not in ("page", "data", "model_only")}
    base = graph(arguments)
    noise = unseen_noise(base, arguments.episodes, TEST_NOISE)
    out = arguments.out = arguments.out / f"rate-{arguments.rate:g}-steps-{arguments.steps}"
    n, train, seeds = arguments.episodes, arguments.training_steps, range(arguments.seeds)
    if arguments.model_only:
        talk = {"history": arguments.history, "retries": 1}
        for k, path in enumerate(noise[: arguments.model_episodes, : arguments.model_steps]):
            name = f"{arguments.model}-{arguments.history}"
            stem = f"{arguments.model_steps}-{k}.json"
            kept(
                out / "stepwise" / f"{name}-helper-{stem}",
                lambda path=path: stepwise_helper(arguments, arguments.model, path, **talk),
            )
            kept(
                out / "stepwise" / f"{name}-ALICE-{stem}",
                lambda path=path: model_in_seat(arguments, path, **talk),
            )
        return 0

    rows: list[dict[str, Any]] = []
    for name in RULES:
        part = kept(out / f"rule-{name}-{n}.json", lambda name=name: played(base, base.policy(name), noise))
        rows.append({"corrector": f"rule `{name}`", "parts": [part]})

    def helpers(goal: str, change: str, which: str) -> list[Part]:
        number = list(CHANGES).index(change)
        return [
            kept(
                out / f"helper-{goal}-{seed}-{number}-{train}-{which}-{n}.json",
                lambda seed=seed: helper(arguments, goal, seed, noise, change, which),
            )
            for seed in seeds
        ]

    for which, note in (("last", ""), ("best", ", best of its segments")):
        for goal, told in GOALS.items():
            parts = helpers(goal, "as above", which)
            rows.append({"corrector": f"PPO helper, {told}{note}", "parts": parts})
    for mode in MODES:
        parts = [
            kept(
                out / f"seats-{mode}-{seed}-{train}-{n}.json",
                lambda mode=mode, seed=seed: seats(arguments, mode, seed, noise),
            )
            for seed in seeds
        ]
        rows.append({"corrector": f"PPO in both seats, {mode}", "parts": parts})
    changed = [{"corrector": change, "parts": helpers("linear", change, "last")} for change in CHANGES]
    stepwise = model_rows(arguments, noise)
    reference = rows[RULES.index(REFERENCE)]["parts"][0]
    tables = {
        "correctors": table(rows, reference),
        "correctors-changes": changes_table(changed, reference),
        "correctors-model": model_table(stepwise),
    }
    for text in tables.values():
        print(text, end="\n\n", flush=True)
    arguments.data.parent.mkdir(parents=True, exist_ok=True)
    data = {
        "settings": settings,
        "collapse": str(CollapseRule()),
        "rows": plain(rows),
        "changes": plain(changed),
        "stepwise": plain(stepwise),
    }
    arguments.data.write_text(json.dumps(data) + "\n", encoding="utf-8")
    return max(fill(arguments.page, mark, text) for mark, text in tables.items())


if __name__ == "__main__":
    sys.exit(main())
