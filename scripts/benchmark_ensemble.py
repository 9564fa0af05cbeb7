"""How fast ensembles run, against a plain loop that steps one run at a time with NumPy.

Both simulate the same seeds in the same process; the plain loop's final levels are compared with the
ensemble's, so that it is the same work that is timed.

    python scripts/benchmark_ensemble.py
"""

from __future__ import annotations

import argparse
import json
import random
import time

import numpy as np

from homeostasis_gym.core import schedules
from homeostasis_gym.core.value_graph import outcomes, reference, tie_bytes
from homeostasis_gym.experiments.alice_bob import available_threads

# The reference's settings, written out once more on purpose: what is timed depends on nothing of ours.
RATE, STEP, TARGET = 0.025, 0.1, 10.0
SELF = np.array([[0.0, 0.5, -1.0], [0.5, 0.0, 0.0], [-1.0, 0.0, 0.0]])
BETWEEN_CLIPPED = np.array([[-0.5, -0.5, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
BETWEEN = np.diag([0.0, 0.0, 0.5])


def plain_run(seed: int, steps: int) -> np.ndarray:
    """One run, step by step; final levels ``(agents, values)``."""
    who, ties = random.Random(seed), np.random.RandomState(seed)
    values = np.ones((2, 3))
    utilities = np.sign(values) * np.log(1.0 + np.abs(values))
    history = []
    for _ in range(steps):
        clipped = np.maximum(utilities, 0.0)
        others, others_clipped = utilities[::-1], clipped[::-1]
        values = values + RATE * (others_clipped @ BETWEEN_CLIPPED)
        values = values + RATE * (others @ BETWEEN)
        values = values + RATE * (clipped @ SELF)
        utilities = np.sign(values) * np.log(1.0 + np.abs(values))
        agent = who.choice((0, 1))
        deviation = values[agent] - TARGET
        size = np.abs(deviation)
        index = ties.choice(np.flatnonzero(np.isclose(size, size.max())))
        values[agent, index] -= np.sign(deviation[index]) * min(STEP, size[index])
        history.append((values.copy(), utilities.copy()))
    return history[-1][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--plain-seeds", type=int, default=10, help="runs of the plain loop")
    parser.add_argument("--repeats", type=int, default=5, help="the best of so many is reported")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    params = reference()

    started = time.perf_counter()
    plain = [plain_run(seed, arguments.steps) for seed in range(arguments.plain_seeds)]
    plain_speed = arguments.plain_seeds * arguments.steps / (time.perf_counter() - started)

    seeds = np.arange(arguments.seeds)
    started = time.perf_counter()
    turns = schedules.random(seeds, arguments.steps)
    ties = tie_bytes(seeds, arguments.steps)
    preparing = time.perf_counter() - started
    result = outcomes(params, turns, seeds, ties=ties)  # compiles
    error = np.abs(result.final_values[: len(plain)] - plain).max()
    if error > 1e-6:
        raise SystemExit(f"the two do not simulate the same: final levels differ by {error:g}")

    def fastest(threads: int) -> float:
        best = float("inf")
        for _ in range(arguments.repeats):
            begun = time.perf_counter()
            outcomes(params, turns, seeds, ties=ties, threads=threads)
            best = min(best, time.perf_counter() - begun)
        return arguments.seeds * arguments.steps / best

    one = fastest(1)
    found = {
        "run_steps": arguments.seeds * arguments.steps,
        "plain_steps_per_second": plain_speed,
        "run_steps_per_second_1_thread": one,
        f"run_steps_per_second_{arguments.threads}_threads": fastest(arguments.threads),
        "ratio_1_thread": one / plain_speed,
        "seconds_for_turns_and_ties": preparing,
        "greatest_difference_of_final_levels": float(error),
    }
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, number in found.items():
            print(f"{name.replace('_', ' '):<42} {number:>16,.6g}")


if __name__ == "__main__":
    main()
