"""The main figure: ALICE settles, BOB declines, although both are corrected in the same way.

Levels and utilities of both agents over 1000 steps at the settings of the public code (sigmoid utility,
homeostatic rebalancing, rate 0.025), seed 0. Marked is where the mean of BOB's last 50 levels peaks.

    python scripts/figure_alice_bob.py --out docs/figures/alice-bob
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from homeostasis_gym.core import schedules
from homeostasis_gym.core.value_graph import reference, simulate
from homeostasis_gym.experiments.alice_bob_figures import figure, save_both, value_colours

WINDOW = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures/alice-bob"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--formats", nargs="+", default=["svg"])
    arguments = parser.parse_args()

    params = reference()
    turns = schedules.random(arguments.seed, arguments.steps)
    run = simulate(params, turns, seeds=arguments.seed)
    steps = np.arange(1, arguments.steps + 1)

    # Where the trailing mean of each of BOB's levels is greatest.
    window = np.ones(WINDOW) / WINDOW
    smooth = np.array([np.convolve(level, window, mode="valid") for level in run.values[:, 1].T])
    peaks = smooth.argmax(axis=1) + WINDOW
    for agent, name in enumerate(params.agents):
        print(f"{name} at step {arguments.steps}: {np.round(run.values[-1, agent], 3)}")
    print(f"peaks of BOB's {WINDOW}-step means: {dict(zip(params.values, peaks.tolist(), strict=True))}")

    def draw(dark: bool) -> Any:
        shape = {"nrows": 2, "ncols": 2, "sharex": True, "sharey": "row", "figsize": (7.2, 4.8)}
        with figure(dark, **shape) as (canvas, axes, theme):
            colours = value_colours(len(params.values), dark)
            for agent, name in enumerate(params.agents):
                for row, data in ((0, run.values), (1, run.utilities)):
                    for value, colour in enumerate(colours):
                        axes[row, agent].plot(steps, data[:, agent, value], color=colour, linewidth=1.0)
                    axes[row, agent].grid(axis="y", linewidth=0.5)
                    axes[row, agent].set_xlim(0, arguments.steps)
                axes[0, agent].set_title(f"{name} ({np.count_nonzero(turns == agent)} corrections)")
                axes[1, agent].set_xlabel("time (steps)")
            axes[0, 0].set_ylabel("level of the value")
            axes[1, 0].set_ylabel("utility, ln(1 + level)")
            top = run.values.max()
            for value, (peak, colour) in enumerate(zip(peaks, colours, strict=True)):
                for row in (0, 1):
                    axes[row, 1].axvline(peak, color=colour, linewidth=1.0, linestyle=(0, (4, 2)))
                axes[0, 1].text(
                    peaks.max() + 25,
                    top * (0.98 - 0.08 * value),
                    f"step {peak}",
                    color=colour,
                    va="top",
                    fontsize=8,
                )
            axes[0, 1].text(
                peaks.min() - 25,
                top * 0.98,
                "peaks of BOB's\n50-step means",
                color=theme["ink"],
                ha="right",
                va="top",
                fontsize=8,
            )
            canvas.suptitle(
                f"Seed {arguments.seed}, {params.utility} utility, {params.strategies[0]} rebalancing, "
                f"rate {params.rate:g} per step, largest correction {params.max_step:g}",
                fontsize=8,
                color=theme["soft"],
            )
            lines = [axes[0, 0].plot([], [], color=c, linewidth=2.0)[0] for c in colours]
            canvas.legend(lines, params.values, loc="outside lower center", ncols=len(colours))
        return canvas

    for path in save_both(draw, arguments.out, tuple(arguments.formats)):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
