"""Throughput of our environments against Gymnasium's CartPole and MO-Gymnasium, in one run.

    python scripts/benchmark_throughput.py                     # the table of docs/speed.md
    python scripts/benchmark_throughput.py --repeats 9 --json

Every contender is measured once per round, in turn, so that a change in the machine's load meets all of them
alike; the figures are medians over the rounds. Actions are drawn beforehand; resets are part of the time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable

import gymnasium as gym
import mo_gymnasium
import numpy as np

import homeostasis_gym  # noqa: F401 (registers the environments)

BASELINE = "CartPole-v1"
OURS = (
    "Homeostasis-Single-v0",
    "Homeostasis-MOHoN-v0",
    "Homeostasis-MOBUO-v0",
    "Homeostasis-MOBUON-v0",
    "Homeostasis-Sustainability-v0",
    "Homeostasis-SleepWake-v0",
)
OTHERS = ("deep-sea-treasure-v0", "water-reservoir-v0")
LANES = (1, 64, 1024, 16384)
SECONDS = 0.25  # of measurement per contender and round


def scalar(env: gym.Env) -> Callable[[int], None]:
    """A function that runs so many steps of a scalar environment."""
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    env.reset(seed=0)

    def run(steps: int) -> None:
        for i in range(steps):
            _, _, terminated, truncated, _ = env.step(actions[i & 63])
            if terminated or truncated:
                env.reset()

    return run


def vector(env_id: str, lanes: int) -> Callable[[int], None]:
    """A function that runs so many steps of a vector environment, which resets by itself."""
    env = gym.make_vec(env_id, num_envs=lanes, vectorization_mode="vector_entry_point")
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(8)]
    env.reset(seed=0)

    def run(steps: int) -> None:
        for i in range(steps):
            env.step(actions[i & 7])

    return run


def contenders() -> dict[tuple[str, int], Callable[[int], None]]:
    """Every contender by id and number of lanes, 0 lanes being the scalar environment."""
    found: dict[tuple[str, int], Callable[[int], None]] = {}
    for env_id in (BASELINE, *OURS):
        found[env_id, 0] = scalar(gym.make(env_id))
    for env_id in OTHERS:
        found[env_id, 0] = scalar(mo_gymnasium.make(env_id))
    for lanes in LANES:
        for env_id in (BASELINE, *OURS):
            found[env_id, lanes] = vector(env_id, lanes)
    return found


def measure(repeats: int) -> dict[tuple[str, int], list[float]]:
    """Microseconds per call of `step` for each contender, one figure per round."""
    runs = contenders()
    steps = {}
    for key, run in runs.items():
        run(110)  # compiles, and passes the end of an episode
        started = time.perf_counter()
        run(110)
        # At least one whole episode, so that resets weigh as much as they do in use.
        steps[key] = max(110, int(SECONDS / ((time.perf_counter() - started) / 110)))
    times: dict[tuple[str, int], list[float]] = {key: [] for key in runs}
    for _ in range(repeats):
        for key, run in runs.items():
            started = time.perf_counter()
            run(steps[key])
            times[key].append((time.perf_counter() - started) / steps[key] * 1e6)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="rounds, at least 5 (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    if arguments.repeats < 5:
        parser.error("--repeats must be at least 5")
    warnings.filterwarnings("ignore", message=".*precision lowered.*")  # deep-sea-treasure's spaces
    times = measure(arguments.repeats)
    rows = []
    for lanes in (0, *LANES):
        base = times[BASELINE, lanes]
        for (env_id, n), figures in times.items():
            if n != lanes:
                continue
            ratios = [b / f for b, f in zip(base, figures, strict=True)]
            rows.append(
                {
                    "env": env_id,
                    "lanes": lanes,
                    "us_per_step": statistics.median(figures),
                    "steps_per_second": max(lanes, 1) / statistics.median(figures) * 1e6,
                    "ratio": statistics.median(ratios),
                    "ratio_low": min(ratios),
                    "ratio_high": max(ratios),
                }
            )
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print("| environment | lanes | us per call | env steps per second | times CartPole (lowest - highest) |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['env']} | {row['lanes'] or 'scalar'} | {row['us_per_step']:.2f} "
            f"| {row['steps_per_second']:,.0f} "
            f"| {row['ratio']:.2f} ({row['ratio_low']:.2f} - {row['ratio_high']:.2f}) |"
        )
    print(f"\nNumPy {np.__version__}, Gymnasium {gym.__version__}, {arguments.repeats} rounds, medians.")


if __name__ == "__main__":
    main()
