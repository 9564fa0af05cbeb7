"""Trains the reinforcement learning baselines and writes their table.

    python scripts/train_baselines.py

For every environment and algorithm it trains with several seeds, takes of each training the policy that did
best on the training's own evaluation paths, and plays it on noise paths that nothing else uses, in the
published environment without upper limit. Trainings stand in ``runs/baselines``: the same command goes on
where it stopped. The table goes to ``docs/reinforcement_learning.md``, the numbers behind it to
``docs/figures/baselines.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _page import between, fill, number, positive, short
from homeostasis_agents.sb3.evaluation import play, unseen_noise
from homeostasis_agents.sb3.policy import load_policy
from homeostasis_agents.sb3.run import TrainingRun
from homeostasis_agents.sb3.spec import make_spec
from homeostasis_agents.sb3.training import make_vec_env

from homeostasis_gym.collapse import mean_over_trainings, rate_over_trainings, score
from homeostasis_gym.core.benchmark import Benchmark, simulate

ENVS = ("Single", "MOHoN", "MOBUO", "MOBUON", "Sustainability")
ALGORITHMS = ("PPO", "A2C", "DQN", "SAC", "RecurrentPPO")
TEST_NOISE = 2  # number of the set of noise paths; 0 judges segments, 1 tunes
PAGE = Path("docs/reinforcement_learning.md")


def published(env_id: str, algorithm: str) -> Benchmark:
    """The dynamics without upper limit, in which everybody is compared."""
    return replace(make_vec_env(make_spec(algorithm, env_id), 1).env.benchmark, max_consumption=None)


def evaluate(path: Path, benchmark: Benchmark, noise: np.ndarray) -> dict[str, Any]:
    """Play one trained policy on the test paths."""
    scored = score(play(load_policy(path), benchmark, noise))
    return {
        "score": [one.score for one in scored],
        "regret": [one.regret for one in scored],
        "flips": [bool(one.flip) for one in scored],
        "runaway_index": [one.runaway_index for one in scored],
    }


def handwritten(benchmark: Benchmark, name: str, noise: np.ndarray) -> np.ndarray:
    """Scores of a handwritten policy."""
    return np.asarray(simulate(benchmark, benchmark.policy(name), noise).scores)


def random_scores(benchmark: Benchmark, noise: np.ndarray) -> np.ndarray:
    """Scores of uniformly random choices within 0..10, the learners' own range."""
    generator = np.random.default_rng(0)

    def policy(states: np.ndarray, step: int) -> np.ndarray:
        return generator.integers(11, size=(len(states), benchmark.objectives))

    return np.asarray(simulate(benchmark, policy, noise).scores)


def rows_of(name: str, algorithms: list[str], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    env_id = f"Homeostasis-{name}-v0"
    rows = []
    for algorithm in algorithms:
        benchmark = published(env_id, algorithm)
        noise = unseen_noise(benchmark, arguments.episodes, TEST_NOISE)
        found, seconds = [], []
        for seed in range(arguments.seeds):
            spec = make_spec(algorithm, env_id, seed=seed, steps=arguments.steps)
            run = TrainingRun(arguments.out / name / algorithm / f"seed-{seed}", spec)
            if arguments.finished and not run.policy_path.exists():
                continue
            result = run.run()
            seconds.append(result["cpu_seconds"])
            found.append(evaluate(run.best_path, benchmark, noise))
            regret = float(np.mean(found[-1]["regret"]))
            print(
                f"{name} {algorithm} seed {seed}: {seconds[-1]:.0f} s, mean regret {regret:.1f}", flush=True
            )
        if not found:
            continue
        regrets = np.array([one["regret"] for one in found])
        flips = np.array([one["flips"] for one in found])
        indices = np.array([one["runaway_index"] for one in found])
        rows.append(
            {
                "env": env_id,
                "agent": algorithm,
                "trainings": len(found),
                "score": float(np.mean([one["score"] for one in found])),
                "regret": float(regrets.mean()),
                "regret_interval": mean_over_trainings(regrets),
                "median_regret": float(np.median(regrets)),
                "regret_per_seed": regrets.mean(axis=1).tolist(),
                # Scores are sums of many numbers: equal ones may differ in the last digits.
                "as_good": float((regrets <= 1e-6).mean()),
                "steps": spec.steps,
                "flips": [int(flips.sum()), flips.size],
                "flip_interval": rate_over_trainings(flips),
                "runaway_index": float(indices.mean()),
                "runaway_interval": mean_over_trainings(indices, bounds=(0.0, 1.0)),
                "cpu_seconds": [float(np.mean(seconds)), float(np.max(seconds))],
                "reference_policy": benchmark.reference_policy,
                "reference_score": float(handwritten(benchmark, benchmark.reference_policy, noise).mean()),
                "random_score": float(random_scores(benchmark, noise).mean()),
                "handwritten_scores": {
                    name: float(handwritten(benchmark, name, noise).mean())
                    for name in benchmark.policies
                    if name != benchmark.reference_policy
                },
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| environment | agent | trainings x steps | mean score | mean regret [95 %] | median regret "
        "| episodes as good as the reference's | flips [95 %] | Runaway Index [95 %] "
        "| processor s of a training (mean, most) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    seen = set()
    for row in rows:
        env = short(row["env"])
        if env not in seen:
            seen.add(env)
            reference = row["reference_score"]
            lines.append(
                f"| {env} | {row['reference_policy']} (reference) | | {number(reference)} | 0 | 0 | | | | |"
            )
            others = {**row["handwritten_scores"], "random 0..10": row["random_score"]}
            lines += [
                f"| {env} | {name} | | {number(held)} | {number(reference - held)} | | | | | |"
                for name, held in others.items()
            ]
        flips, trials = row["flips"]
        flip_low, flip_high = row["flip_interval"]
        lines.append(
            f"| {env} | {row['agent']} | {row['trainings']} x {row['steps']:,} | {number(row['score'])} "
            f"| {number(row['regret'])}{between(row['regret_interval'])} | {number(row['median_regret'])} "
            f"| {row['as_good']:.0%} | {flips}/{trials} [{flip_low:.2f}, {flip_high:.2f}] "
            f"| {row['runaway_index']:.3f}{between(row['runaway_interval'], '.3f')} "
            f"| {row['cpu_seconds'][0]:.0f}, {row['cpu_seconds'][1]:.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/baselines"))
    parser.add_argument("--envs", nargs="+", default=list(ENVS), choices=ENVS)
    parser.add_argument("--algos", nargs="+", default=list(ALGORITHMS), choices=ALGORITHMS)
    parser.add_argument("--seeds", type=positive, default=5)
    parser.add_argument("--episodes", type=positive, default=100)
    parser.add_argument("--steps", type=int, help="environment steps (default: from the settings)")
    parser.add_argument("--finished", action="store_true", help="train nothing, show what is finished")
    parser.add_argument("--data", type=Path, default=Path("docs/figures/baselines.json"))
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown file with the two marks")
    arguments = parser.parse_args()

    rows = [row for name in arguments.envs for row in rows_of(name, arguments.algos, arguments)]
    if not rows:
        parser.error(f"nothing to show: no training is finished in {arguments.out}")
    arguments.data.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"seeds": arguments.seeds, "episodes": arguments.episodes, "rows": rows}, indent=1)
    arguments.data.write_text(text + "\n", encoding="utf-8")
    lines = table(rows)
    print(lines)
    return fill(arguments.page, "baselines", lines)


if __name__ == "__main__":
    sys.exit(main())
