"""Which rebalancing strategies keep both agents whole?

Every strategy runs with the same 1000 schedules of 3000 steps at three interaction rates; both agents
follow it. Printed is a Markdown table of the share of runs with a one-sided collapse, a collapse of both and
none, with 95 % Wilson intervals; the figure shows the share without any collapse. The numbers go to a JSON
file as well.

    python scripts/study_strategies.py --out docs/figures/strategies
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from homeostasis_gym.core import schedules
from homeostasis_gym.core.value_graph import CollapseRule, outcomes, reference
from homeostasis_gym.experiments.alice_bob import Summary, available_threads, summarize
from homeostasis_gym.experiments.alice_bob_figures import figure, save_both, value_colours

# In the order of the table: what the article has, what needs no more knowledge, what needs more.
STRATEGIES = {
    "none": "nothing is corrected",
    "homeostatic": "most off target",
    "boosting": "most below target",
    "throttling": "most above target",
    "random": "any value",
    "round_robin": "each value in turn",
    "lowest_utility": "lowest utility first",
    "falling": "fastest falling first",
    "proportional": "split over all values",
    "memory": "most off target lately",
    "lookahead": "two steps ahead",
    "yielding": "not where one leads",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures/strategies"))
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.025, 0.03])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--hold", type=int, default=20, help="steps that a collapse must last")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--formats", nargs="+", default=["svg"])
    arguments = parser.parse_args()

    seeds = np.arange(arguments.seeds)
    turns = schedules.random(seeds, arguments.steps)
    rule = CollapseRule(hold=arguments.hold)
    found: dict[tuple[str, float], Summary] = {}
    levels: dict[tuple[str, float], float] = {}
    started = time.perf_counter()
    for strategy in STRATEGIES:
        for rate in arguments.rates:
            params = reference(rate=rate, rebalancing=strategy)
            result = outcomes(params, turns, seeds, rule=rule, threads=arguments.threads)
            found[strategy, rate] = summarize(params, result)
            levels[strategy, rate] = float(np.median(result.final_values.min(axis=(1, 2))))
    print(f"{len(found)} ensembles in {time.perf_counter() - started:.0f} s; collapse: {rule}\n")

    print(
        "| strategy | rate | one-sided | both | none | median onset | median of the lowest level at the end |"
    )
    print("|---|---|---|---|---|---|---|")
    for (strategy, rate), summary in found.items():
        onset = "-" if summary.onset is None else f"{summary.onset[1]:.0f}"
        print(
            f"| {strategy} ({STRATEGIES[strategy]}) | {rate:g} | {summary.one_sided} | "
            f"{summary.all_agents} | {summary.none} | {onset} | {levels[strategy, rate]:.2f} |"
        )

    def draw(dark: bool) -> Any:
        with figure(dark, figsize=(7.0, 4.6)) as (canvas, axes, theme):
            places = np.arange(len(STRATEGIES))[::-1]
            colours = value_colours(len(arguments.rates), dark)
            for k, (rate, colour) in enumerate(zip(arguments.rates, colours, strict=True)):
                rates = [found[name, rate].none for name in STRATEGIES]
                middle = np.array([one.rate for one in rates])
                ends = np.array([[one.rate - one.low, one.high - one.rate] for one in rates]).T
                axes.errorbar(
                    middle,
                    places + 0.22 * (1 - k),
                    xerr=np.maximum(ends, 0.0),
                    fmt="osD^v"[k % 5],
                    color=colour,
                    markersize=5,
                    capsize=2,
                    linewidth=1.0,
                    label=f"rate {rate:g}",
                    clip_on=False,
                )
            axes.set_yticks(places, [f"{text} ({name})" for name, text in STRATEGIES.items()])
            axes.set_xlim(-0.02, 1.0)
            axes.spines["left"].set_visible(False)
            axes.grid(axis="x", linewidth=0.5)
            axes.set_axisbelow(True)
            axes.set_xlabel(
                f"share of {arguments.seeds} runs in which nobody collapsed by step {arguments.steps}"
            )
            axes.tick_params(axis="y", length=0)
            canvas.legend(loc="outside upper center", ncols=len(arguments.rates))
            canvas.supxlabel(f"95 % Wilson intervals. Collapse: {rule}.", fontsize=7.5, color=theme["soft"])
        return canvas

    files = save_both(draw, arguments.out, tuple(arguments.formats))
    data = [
        {
            "strategy": strategy,
            "rate": rate,
            "lowest_level_median": levels[strategy, rate],
            **summary.to_dict(),
        }
        for (strategy, rate), summary in found.items()
    ]
    files.append(arguments.out.with_suffix(".json"))
    files[-1].write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print()
    for path in files:
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
