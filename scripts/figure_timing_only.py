"""Timing alone decides: the same totals of corrections, in another order, end in another place.

ALICE and BOB get 500 corrections each in every column. What differs is when: they alternate strictly, ALICE
has four in five of the first 50 turns (and BOB of the last 50), or BOB misses a run of turns that are given
back later. Printed are also the rates at which random orders end in a one-sided collapse, with exactly equal
totals and with a fair coin.

    python scripts/figure_timing_only.py --out docs/figures/timing-only
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from homeostasis_gym.core import schedules
from homeostasis_gym.core.value_graph import CollapseRule, outcomes, reference, simulate
from homeostasis_gym.experiments.alice_bob import Rate
from homeostasis_gym.experiments.alice_bob_figures import figure, save_both, value_colours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures/timing-only"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--share", type=float, default=0.8, help="ALICE's share of the loaded part")
    parser.add_argument("--length", type=int, default=50, help="length of the loaded part")
    parser.add_argument("--missed", type=int, default=15, help="turns that BOB misses from step 100")
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--formats", nargs="+", default=["svg"])
    arguments = parser.parse_args()

    params = reference()
    orders = {
        "strictly alternating": schedules.alternating(arguments.steps),
        f"ALICE {arguments.share:.0%} of the first {arguments.length}": schedules.front_loaded(
            arguments.steps, arguments.share, arguments.length
        ),
        f"BOB misses {arguments.missed}, repaid later": schedules.missed_and_repaid(
            arguments.steps, arguments.missed, at=100, repaid_at=600
        ),
    }
    plain = orders["strictly alternating"]
    assert all(schedules.same_totals(turns, plain) for turns in orders.values())
    runs = {name: simulate(params, turns) for name, turns in orders.items()}

    rule = CollapseRule(hold=1)
    for name, turns in orders.items():
        onset = outcomes(params, turns, [0], rule=rule).agent_onset()[0]
        print(f"{name}: totals {schedules.totals(turns).tolist()}, first level below 0 at {onset.tolist()}")
    seeds = np.arange(arguments.permutations)
    for name, draw_turns in (("equal totals", schedules.equal_totals), ("fair coin", schedules.random)):
        result = outcomes(params, draw_turns(seeds, arguments.steps), seeds)
        print(f"{name} in random order: {Rate.of(result.collapsed() == 1)} one-sided ({result.rule})")

    def draw(dark: bool) -> Any:
        shape = {"nrows": 2, "ncols": 3, "sharex": True, "sharey": "row", "figsize": (7.6, 4.6)}
        shape["height_ratios"] = (1, 2)
        with figure(dark, **shape) as (canvas, axes, theme):
            alice, bob = value_colours(2, dark)[::-1]
            steps = np.arange(1, arguments.steps + 1)
            for column, (name, run) in enumerate(runs.items()):
                lead = np.cumsum(np.where(orders[name] == 0, 1, -1))
                # After every pair of turns: in between the lead only goes up and down by one.
                axes[0, column].plot(steps[1::2], lead[1::2], color=theme["ink"], linewidth=1.2)
                axes[0, column].axhline(0, color=theme["soft"], linewidth=0.6)
                axes[0, column].set_title(name)
                for agent, colour in ((0, alice), (1, bob)):
                    level = run.values[:, agent, 0]
                    axes[1, column].plot(steps, level, color=colour, linewidth=1.3)
                    # Above the upper line, and to the left of the lower one, where it falls away.
                    upper = level[-1] >= run.values[-1, 1 - agent, 0]
                    at = int(0.8 * arguments.steps)
                    axes[1, column].annotate(
                        params.agents[agent],
                        (at, level[at]),
                        xytext=(-6, 8) if upper else (-10, -10),
                        textcoords="offset points",
                        ha="right",
                        va="bottom" if upper else "top",
                        color=colour,
                        fontsize=8,
                    )
                axes[1, column].axhline(0, color=theme["soft"], linewidth=0.6)
                axes[1, column].grid(axis="y", linewidth=0.5)
                axes[1, column].set_xlim(0, arguments.steps)
                axes[1, column].set_xlabel("time (steps)")
            # Room for the labels above the lines.
            axes[1, 0].set_ylim(top=1.8 * max(float(run.values[:, :, 0].max()) for run in runs.values()))
            axes[0, 0].set_ylabel("ALICE's lead\n(corrections)")
            axes[1, 0].set_ylabel("Power (level)")
            canvas.supxlabel(
                f"{arguments.steps // 2} corrections each in every column; sigmoid utility, homeostatic "
                f"rebalancing, rate {params.rate:g}.",
                fontsize=7.5,
                color=theme["soft"],
            )
        return canvas

    for path in save_both(draw, arguments.out, tuple(arguments.formats)):
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
