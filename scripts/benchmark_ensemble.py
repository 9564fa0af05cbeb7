"""How fast ensembles run, against a plain loop that steps one run at a time with NumPy.

Both simulate the same seeds in the same process, and both draw their own random numbers, from the same
streams; the plain loop's final levels are compared with the ensemble's, so that it is the same work that is
timed. "End to end" is `run_ensemble`, what ``homeostasis-gym alice-bob`` does: whose turn it is, ties, runs.
"Kernel" is given the turns. With ``--map`` a phase map of 20 x 20 cells is timed as well.

    python scripts/benchmark_ensemble.py
    python scripts/benchmark_ensemble.py --map
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from homeostasis_gym.core import schedules
from homeostasis_gym.core.value_graph import outcomes, reference
from homeostasis_gym.experiments.alice_bob import Axis, Ensemble, available_threads, phase_map, run_ensemble

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


def best(work: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> float:
    """Seconds of the fastest of some repeats."""
    found = float("inf")
    for _ in range(repeats):
        begun = clock()
        work()
        found = min(found, clock() - begun)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--plain-seeds", type=int, default=10, help="runs of the plain loop")
    parser.add_argument("--repeats", type=int, default=5, help="the best of so many is reported")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--map", action="store_true", help="time a map of 20 x 20 x 1000 runs x 1000 steps")
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time instead of wall time, on a shared machine"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    params = reference()
    # Processor time counts all threads together, so that it says nothing of how they scale.
    clock = time.process_time if arguments.cpu_time else time.perf_counter

    plain: list[np.ndarray] = []

    def plain_loop() -> None:
        plain[:] = [plain_run(seed, arguments.steps) for seed in range(arguments.plain_seeds)]

    plain_speed = arguments.plain_seeds * arguments.steps / best(plain_loop, arguments.repeats, clock)

    ensemble = Ensemble(params, seeds=arguments.seeds, steps=arguments.steps)
    result = run_ensemble(ensemble)  # compiles
    error = np.abs(result.final_values[: len(plain)] - plain[: arguments.seeds]).max()
    if error > 1e-6:
        raise SystemExit(f"the two do not simulate the same: final levels differ by {error:g}")
    run_steps = arguments.seeds * arguments.steps
    seeds = ensemble.all_seeds
    turns = schedules.random(seeds, arguments.steps)
    whole = run_steps / best(lambda: run_ensemble(ensemble), arguments.repeats, clock)
    kernel = run_steps / best(lambda: outcomes(params, turns, seeds), arguments.repeats, clock)
    drawing = best(lambda: schedules.random(seeds, arguments.steps), arguments.repeats, clock)
    found = {
        "run_steps": run_steps,
        "plain_steps_per_second": plain_speed,
        "end_to_end_run_steps_per_second_1_thread": whole,
        "end_to_end_ratio_1_thread": whole / plain_speed,
        "kernel_run_steps_per_second_1_thread": kernel,
        "kernel_ratio_1_thread": kernel / plain_speed,
        "microseconds_per_schedule": 1e6 * drawing / arguments.seeds,
        "greatest_difference_of_final_levels": float(error),
    }
    threads = arguments.threads
    if threads > 1 and not arguments.cpu_time:
        several = best(lambda: run_ensemble(ensemble, threads), arguments.repeats, clock)
        found[f"end_to_end_run_steps_per_second_{threads}_threads"] = run_steps / several
    if arguments.map:
        axes = (Axis.parse("rate=0.02:0.04:20"), Axis.parse("between:Power:Self-direction=-0.95:0:20"))
        cells = Ensemble(params, seeds=1000, steps=1000)
        seconds = best(lambda: phase_map(cells, *axes, threads=threads), 1, clock)
        found[f"seconds_for_map_of_400_million_run_steps_{threads}_threads"] = seconds
        found["map_run_steps_per_second"] = 4e8 / seconds
    if arguments.json:
        print(json.dumps(found))
    else:
        for name, number in found.items():
            print(f"{name.replace('_', ' '):<64} {number:>16,.6g}")


if __name__ == "__main__":
    main()
