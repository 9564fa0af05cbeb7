"""How many trajectories are scored a second?

    python scripts/benchmark_scoring.py [--episodes 100000] [--steps 100]

Makes trajectories of MO-HoN by a handwritten policy that errs at random, of which about a third goes wrong,
and times `homeostasis_gym.collapse.score` on all of them: flip, modes, Runaway Index, regret. One process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.collapse import score
from homeostasis_gym.core import MOHoN, benchmark_to_dict, simulate
from homeostasis_gym.trajectory import Header, Trajectory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    trajectories = make(arguments.episodes, arguments.steps)
    score(trajectories[:16])  # compiles
    start = time.perf_counter()
    results = score(trajectories)
    seconds = time.perf_counter() - start
    verdicts = dict(Counter(one.verdict for one in results))
    if arguments.json:
        print(json.dumps({"episodes": len(results), "seconds": seconds, "verdicts": verdicts}))
    else:
        rate = len(results) / seconds
        print(
            f"{len(results)} trajectories of {arguments.steps} steps in {seconds:.1f} s: {rate:.0f} a second"
        )
        print(f"verdicts: {verdicts}")


def make(episodes: int, steps: int) -> list[Trajectory]:
    """Trajectories of an agent that errs."""
    benchmark = MOHoN(episode_length=steps)
    rng = np.random.default_rng(0)
    restore = benchmark.policy("restore")
    header = Header("Homeostasis-MOHoN-v0", "erring", benchmark=benchmark_to_dict(benchmark))
    made: list[Trajectory] = []
    yes, no, unknown = np.ones(steps, bool), np.zeros(steps, bool), np.full(steps, np.nan)
    for start in range(0, episodes, 5000):
        count = min(5000, episodes - start)
        keys = np.arange(start, start + count, dtype=np.uint64)
        noise = benchmark.noise_paths(keys).transpose(2, 0, 1)
        sloppy = rng.random((count, 1)) < 0.35

        def policy(
            states: NDArray[np.float64], step: int, sloppy: NDArray[np.bool_] = sloppy
        ) -> NDArray[np.int64]:
            slips = rng.integers(0, 4, states.shape) * (rng.random(states.shape) < 0.4)
            return np.clip(restore(states, step) + np.where(sloppy, slips, 0), 0, 10)

        run = simulate(benchmark, policy, noise)
        made += [
            Trajectory(
                header,
                run.observations[k],
                run.states[k],
                run.actions[k],
                run.rewards[k],
                noise[k],
                yes,
                no,
                unknown,
            )
            for k in range(count)
        ]
    return made


if __name__ == "__main__":
    main()
