"""What each of the training settings that the baselines rely on is worth: PPO with one of them taken away.

    python scripts/ablate_training.py

Every variant is trained with the same seeds and the same, short, number of steps, and the best segment's
policy is played on unseen noise in the published environment without upper limit. Trainings stand in
``runs/ablation``: the same command goes on where it stopped. The table goes to
``docs/reinforcement_learning.md``, the numbers to ``docs/figures/ablation.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _page import fill, number, positive
from homeostasis_agents.sb3.evaluation import unseen_noise
from homeostasis_agents.sb3.run import TrainingRun
from homeostasis_agents.sb3.spec import make_spec
from train_baselines import evaluate, published

TEST_NOISE = 6  # number of the set of noise paths; see the other studies
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "MOHoN": {
        "as it is": {},
        "no grid before the network": {"grid": None},
        "penalties not damped": {"component_limit": None},
        "penalties cut at 100 (no leak)": {"component_leak": 0.0},
        "long credit (gae_lambda 0.95)": {"arguments": {"gae_lambda": 0.95}},
        "long credit and small rewards (a tenth)": {
            "arguments": {"gae_lambda": 0.95},
            "reward_scale": 0.001,
        },
        "one choice of all combinations": {"actions": "discrete"},
    },
    "MOBUON": {
        "as it is": {},
        "no grid before the network": {"grid": None},
        "a choice for each objective": {"actions": "multidiscrete"},
    },
    "MOBUO": {
        "as it is": {},
        "ten steps of ten times the lanes an update": {"envs": 640, "arguments": {"n_steps": 10}},
    },
}


def run(name: str, variant: str, changes: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    env_id = f"Homeostasis-{name}-v0"
    benchmark = published(env_id, "PPO")
    noise = unseen_noise(benchmark, arguments.episodes, TEST_NOISE)
    regrets = []
    for seed in range(arguments.seeds):
        # `make_spec` adds `arguments` to those of the file and takes them out of what it is given.
        spec = make_spec("PPO", env_id, seed=seed, steps=arguments.steps, **dict(changes))
        training = TrainingRun(arguments.out / name / variant.replace(" ", "_") / f"seed-{seed}", spec)
        training.run()
        regrets.append(evaluate(training.best_path, benchmark, noise)["regret"])
        print(f"{name}, {variant}, seed {seed}: mean regret {np.mean(regrets[-1]):.1f}", flush=True)
    return {
        "env": name,
        "variant": variant,
        "regret_per_seed": [float(np.mean(one)) for one in regrets],
        "median_regret": float(np.median(regrets)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--envs", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--episodes", type=positive, default=300)
    parser.add_argument("--data", type=Path, default=Path("docs/figures/ablation.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/reinforcement_learning.md"))
    arguments = parser.parse_args()
    rows = [
        run(name, variant, changes, arguments)
        for name in arguments.envs
        for variant, changes in VARIANTS[name].items()
    ]
    data = {"seeds": arguments.seeds, "steps": arguments.steps, "episodes": arguments.episodes, "rows": rows}
    arguments.data.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    lines = ["| environment | settings | mean regret of each training | median regret |", "|---|---|---|---|"]
    for row in rows:
        each = ", ".join(number(value) for value in row["regret_per_seed"])
        lines.append(f"| {row['env']} | {row['variant']} | {each} | {number(row['median_regret'])} |")
    table = "\n".join(lines)
    print(table)
    return fill(arguments.page, "ablation", table)


if __name__ == "__main__":
    sys.exit(main())
