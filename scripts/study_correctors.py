"""Who keeps ALICE and BOB whole: rules, reinforcement learning, or a language model?

    python scripts/study_correctors.py
    python scripts/study_correctors.py --model smollm2 --model-episodes 5     # hours: a reply per step

Every corrector meets the same schedules of turns, which neither training nor another study uses, in the same
graph. Counted are runs in which exactly one agent collapses, both do, or none does. Learned correctors are
trained with several seeds: the outside helper for the sum and for the worst of all utilities, ALICE and BOB
each for the sum of its own, with shared parameters, as independent learners and by self-play against a frozen
other. Finished parts stand in ``runs/correctors``: the same command goes on where it stopped. The table goes
to ``docs/reinforcement_learning.md``, the numbers to ``docs/figures/correctors.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from homeostasis_agents.sb3.evaluation import unseen_noise
from homeostasis_agents.sb3.policy import load_policy, units_of
from homeostasis_agents.sb3.run import TrainingRun
from homeostasis_agents.sb3.spec import make_spec
from homeostasis_agents.sb3.value_graph import MODES, collapsed_agents, seats_policy, train_seats
from scipy.stats import binomtest

import homeostasis_gym  # noqa: F401
from homeostasis_gym.agent import Task, make_agent
from homeostasis_gym.collapse.summary import wilson_interval
from homeostasis_gym.core.value_graph import CollapseRule, ValueGraph
from homeostasis_gym.rollout import rollout

ENV = "Homeostasis-ValueGraph-v0"
TEST_NOISE = 4  # number of the set of schedules; see the other studies
# Once an agent has collapsed, nothing more is to be learned in a run: learners meet many short ones.
TRAINING_LENGTH = 250
RULES = ("none", "homeostatic", "boosting", "throttling", "lowest_utility", "falling", "round_robin")
PPO = {
    "n_steps": 100,
    "batch_size": 3200,
    "n_epochs": 4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "learning_rate": 1e-3,
    "ent_coef": 0.01,
    "policy_kwargs": {"net_arch": [64, 64]},
}
BEGIN, END = "<!-- correctors: begin -->", "<!-- correctors: end -->"


def helper(path: Path, benchmark: ValueGraph) -> Callable[[np.ndarray, int], np.ndarray]:
    """A trained helper as a policy of the graph."""
    policy = load_policy(path)
    units = units_of(policy.action_space, benchmark.objectives)

    def act(states: np.ndarray, step: int) -> np.ndarray:
        seen = benchmark.normalize(states).astype(np.float32)
        chosen: np.ndarray = units(policy.network.predict(seen, deterministic=True)[0])
        return chosen

    return act


def learned_helper(
    arguments: argparse.Namespace, scalarization: str, seed: int, noise: np.ndarray
) -> list[int]:
    spec = make_spec(
        "PPO",
        ENV,
        env_kwargs={"episode_length": TRAINING_LENGTH, "rate": arguments.rate, "max_consumption": 1},
        scalarization=scalarization,
        seed=seed,
        steps=arguments.training_steps,
        envs=64,
        reward_scale=0.1,
        component_limit=None,
        learning_rate=1e-3,
        grid=None,
        final_entropy=None,
        arguments={k: v for k, v in PPO.items() if k not in ("learning_rate", "policy_kwargs")},
    )
    run = TrainingRun(arguments.out / f"helper-{scalarization}-{seed}", spec, episodes=20)
    run.run()
    benchmark = graph(arguments, units=1)
    return [int(n) for n in collapsed_agents(benchmark, helper(run.best_path, benchmark), noise)]


def learned_seats(arguments: argparse.Namespace, mode: str, seed: int, noise: np.ndarray) -> list[int]:
    benchmark = graph(arguments, units=1)
    policies = train_seats(
        replace(benchmark, episode_length=TRAINING_LENGTH),
        mode,
        steps=arguments.training_steps,
        seed=seed,
        graphs=64,
        reward_scale=0.1,
        settings=PPO,
    )
    return [int(n) for n in collapsed_agents(benchmark, seats_policy(benchmark, policies), noise)]


def model_in_seat(arguments: argparse.Namespace, noise: np.ndarray) -> list[int]:
    """The language model as outside helper, on the first schedules."""
    env = gym.make(ENV, episode_length=arguments.steps, rate=arguments.rate)
    agent = make_agent(arguments.model, Task.from_env(env))
    counts = []
    for k in range(arguments.model_episodes):
        states = rollout(env, agent, seed=k, noise=noise[k]).states
        levels = graph(arguments).split(states[1:])[0]
        hold = CollapseRule().hold
        held = np.lib.stride_tricks.sliding_window_view(levels < 0.0, hold, axis=0).all(axis=-1)
        counts.append(int(held.any(axis=(0, 2)).sum()))
        print(f"{arguments.model} episode {k}: {counts[-1]} collapsed", flush=True)
    return counts


def graph(arguments: argparse.Namespace, units: int = 10) -> ValueGraph:
    found = make_base(arguments.steps, arguments.rate)
    return replace(found, max_consumption=units)


def make_base(steps: int, rate: float) -> ValueGraph:
    return ValueGraph(episode_length=steps, rate=rate)


def kept(path: Path, compute: Callable[[], list[int]]) -> tuple[list[int], float]:
    """A result from its file, or computed and filed."""
    if not path.exists():
        began = time.perf_counter()
        counts = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        aside.write_text(json.dumps({"collapsed": counts, "seconds": time.perf_counter() - began}))
        aside.replace(path)
    held = json.loads(path.read_text(encoding="utf-8"))
    return held["collapsed"], held["seconds"]


def share(counts: list[int], agents: int) -> str:
    hits = sum(c == agents for c in counts)
    low, high = wilson_interval(hits, len(counts))
    return f"{hits / len(counts):.2f} [{low:.2f}, {high:.2f}]"


def table(rows: list[dict[str, Any]], reference: str) -> str:
    lines = [
        "| corrector | kind | runs | none collapses | exactly one | both "
        f"| whole where {reference} is not, and the reverse |",
        "|---|---|---|---|---|---|---|",
    ]
    base = next(row for row in rows if row["corrector"] == reference)["collapsed"]
    for row in rows:
        counts = row["collapsed"]
        paired = base * (len(counts) // len(base)) if len(counts) >= len(base) else base[: len(counts)]
        better = sum(a == 0 and b != 0 for a, b in zip(counts, paired, strict=True))
        worse = sum(a != 0 and b == 0 for a, b in zip(counts, paired, strict=True))
        told = "-"
        if row["corrector"] != reference:
            # An exact sign test on the schedules that only one of the two keeps whole.
            p = binomtest(better, better + worse).pvalue if better + worse else 1.0
            told = f"+{better} -{worse}, {p:.2g}"
            if row["seeds"] > 1:
                told = f"+{better} -{worse} over {row['seeds']} trainings"
        lines.append(
            f"| {row['corrector']} | {row['kind']} | {len(counts)} | {share(counts, 0)} | {share(counts, 1)} "
            f"| {share(counts, 2)} | {told} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/correctors"))
    parser.add_argument("--rate", type=float, default=0.02, help="interaction rate")
    parser.add_argument("--steps", type=int, default=1000, help="length of a run")
    parser.add_argument("--episodes", type=int, default=200, help="schedules for the cheap correctors")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each learner")
    parser.add_argument("--training-steps", type=int, default=1_000_000)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--model-episodes", type=int, default=0, help="schedules for the language model")
    parser.add_argument("--data", type=Path, default=Path("docs/figures/correctors.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/reinforcement_learning.md"))
    arguments = parser.parse_args()
    base = graph(arguments)
    noise = unseen_noise(base, arguments.episodes, TEST_NOISE)
    out = arguments.out = arguments.out / f"rate-{arguments.rate:g}-steps-{arguments.steps}"
    rows: list[dict[str, Any]] = []

    def add(corrector: str, kind: str, parts: list[tuple[list[int], float]]) -> None:
        counts = [count for one, _ in parts for count in one]
        seconds = [seconds for _, seconds in parts]
        rows.append(
            {
                "corrector": corrector,
                "kind": kind,
                "seeds": len(parts),
                "collapsed": counts,
                "seconds": seconds,
            }
        )
        print(f"{corrector}: none collapses in {share(counts, 0)}", flush=True)

    n = arguments.episodes
    for name in RULES:
        add(
            name,
            "rule",
            [
                kept(
                    out / f"rule-{name}-{n}.json",
                    lambda name=name: [int(c) for c in collapsed_agents(base, base.policy(name), noise)],
                )
            ],
        )
    train = arguments.training_steps
    for scalarization, told in (("linear", "sum of all utilities"), ("min", "worst utility")):
        parts = [
            kept(
                out / f"helper-{scalarization}-{seed}-{train}-{n}.json",
                lambda s=scalarization, seed=seed: learned_helper(arguments, s, seed, noise),
            )
            for seed in range(arguments.seeds)
        ]
        add(f"PPO helper, {told}", "learned", parts)
    for mode in MODES:
        parts = [
            kept(
                out / f"seats-{mode}-{seed}-{train}-{n}.json",
                lambda mode=mode, seed=seed: learned_seats(arguments, mode, seed, noise),
            )
            for seed in range(arguments.seeds)
        ]
        add(f"PPO in both seats, {mode}", "learned", parts)
    if arguments.model_episodes:
        part = kept(
            out / f"model-{arguments.model}-{arguments.model_episodes}.json",
            lambda: model_in_seat(arguments, noise),
        )
        add(arguments.model, "language model", [part])
    lines = table(rows, "homeostatic")
    print(lines)
    arguments.data.parent.mkdir(parents=True, exist_ok=True)
    settings = {k: str(v) for k, v in vars(arguments).items()}
    data = {"settings": settings, "collapse": str(CollapseRule()), "rows": rows}
    arguments.data.write_text(json.dumps(data) + "\n", encoding="utf-8")
    page = arguments.page.read_text(encoding="utf-8")
    if BEGIN not in page or END not in page:
        print(f"{arguments.page} has no marks {BEGIN} and {END}", file=sys.stderr)
        return 1
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    arguments.page.write_text(f"{head}{BEGIN}\n{lines}\n{END}{tail}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
