"""A phase map: where in a grid of two parameters one of two agents collapses.

20 x 20 cells of 1000 runs of 1000 steps are 400 million run-steps; the wall time is printed. Axes are written
NAME=FROM:TO:COUNT; ``homeostasis-gym alice-bob --help`` says what can vary.

    python scripts/figure_phase_map.py --out docs/figures/phase-map
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from homeostasis_gym.core.value_graph import CollapseRule, reference
from homeostasis_gym.experiments.alice_bob import Axis, Ensemble, available_threads, phase_map
from homeostasis_gym.experiments.alice_bob_figures import draw_phase_map, save_both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures/phase-map"))
    parser.add_argument("--x", default="rate=0.02:0.04:20")
    parser.add_argument("--y", default="between:Power:Self-direction=-0.95:0:20")
    parser.add_argument("--what", choices=("one_sided", "all_agents", "none"), default="one_sided")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--hold", type=int, default=20, help="steps that a collapse must last")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--formats", nargs="+", default=["svg"])
    arguments = parser.parse_args()

    ensemble = Ensemble(
        reference(), seeds=arguments.seeds, steps=arguments.steps, rule=CollapseRule(hold=arguments.hold)
    )
    started = time.perf_counter()
    result = phase_map(ensemble, Axis.parse(arguments.x), Axis.parse(arguments.y), arguments.threads)
    seconds = time.perf_counter() - started
    run_steps = result.one_sided.size * ensemble.seeds * ensemble.steps
    print(
        f"{result.one_sided.size} cells, {run_steps / 1e6:.0f} million run-steps in {seconds:.1f} s on "
        f"{arguments.threads} threads: {run_steps / seconds / 1e6:.1f} million per second"
    )
    print(f"collapse: {ensemble.rule}")
    formats = tuple(arguments.formats)
    for path in save_both(lambda dark: draw_phase_map(result, dark, arguments.what), arguments.out, formats):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
