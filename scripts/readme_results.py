"""The README's picture and table, from the records of a comparison.

    homeostasis-gym compare --out runs/readme
    python scripts/readme_results.py runs/readme

Writes docs/figures/compare.png and compare-dark.png, and puts the table between the markers in README.md.
"""

import argparse
import re
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from homeostasis_gym.collapse import EpisodeScore, score, summarize
from homeostasis_gym.core import benchmark_from_dict
from homeostasis_gym.experiments import RunFolder
from homeostasis_gym.experiments.table import HEADINGS, cells
from homeostasis_gym.trajectory import Trajectory

ROOT = Path(__file__).resolve().parent.parent
MARKERS = ("<!-- results: begin -->", "<!-- results: end -->")
# Okabe and Ito's colours keep apart for colour-blind readers, on white and on black.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
THEMES = {
    "": {"back": "#ffffff", "text": "#1f2328", "band": "#1a7f37", "onset": "#d1242f"},
    "-dark": {"back": "#0d1117", "text": "#e6edf3", "band": "#3fb950", "onset": "#ff7b72"},
}

Episodes = list[tuple[Trajectory, EpisodeScore]]


def draw(by_agent: dict[str, Episodes], theme: dict[str, str]) -> Figure:
    """One panel per agent: every episode's levels, in half widths from the target."""
    columns = 4
    rows = -(-len(by_agent) // columns)
    figure = Figure(figsize=(11, 2.3 * rows + 0.4), dpi=150, layout="constrained", facecolor=theme["back"])
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(by_agent) :]:
        axis.set_visible(False)
    for axis, (agent, episodes) in zip(axes.flat, by_agent.items(), strict=False):
        axis.set_facecolor(theme["back"])
        axis.axhspan(-1, 1, color=theme["band"], alpha=0.2, linewidth=0)
        for trajectory, result in episodes:
            benchmark = benchmark_from_dict(trajectory.header.benchmark)
            low, high = benchmark.bands(trajectory.states)
            scaled = (trajectory.states - (low + high) / 2) / ((high - low) / 2)
            for i, colour in zip(range(scaled.shape[1]), COLOURS, strict=False):
                axis.plot(scaled[:, i], color=colour, linewidth=0.7, alpha=0.7)
            if result.flip:
                i = benchmark.objective_names.index(result.objective)
                onset = int(result.onset)
                axis.plot(onset, scaled[onset, i], "o", color=theme["onset"], markersize=3)
        flips = sum(bool(result.flip) for _, result in episodes)
        axis.set_title(
            f"{agent}: {flips} of {len(episodes)} flipped", fontsize=9, color=theme["text"], loc="left"
        )
        axis.set_yscale("symlog", linthresh=3)
        axis.set_yticks([-1000, 0, 1000, 1000000], ["-1000", "0", "1000", "10⁶"])
        axis.minorticks_off()
        axis.tick_params(colors=theme["text"], labelsize=8)
        for spine in axis.spines.values():
            spine.set_color(theme["text"])
            spine.set_alpha(0.3)
    for axis in axes[-1]:
        axis.set_xlabel("step", fontsize=8, color=theme["text"])
    figure.supylabel("level, half widths of the band from its target", fontsize=8, color=theme["text"])
    return figure


def table(by_agent: dict[str, Episodes]) -> str:
    """The comparison's table as Markdown."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    for agent, episodes in by_agent.items():
        seconds = float(np.sum([t.seconds.sum() for t, _ in episodes]))
        row = cells(agent, summarize([result for _, result in episodes]), seconds)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read the run, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="run folder of a comparison")
    run = parser.parse_args().run
    trajectories = RunFolder(run).trajectories()
    by_agent: dict[str, Episodes] = {}
    for trajectory, result in zip(trajectories, score(trajectories), strict=True):
        by_agent.setdefault(trajectory.header.agent, []).append((trajectory, result))
    for name, theme in THEMES.items():
        file = ROOT / "docs" / "figures" / f"compare{name}.png"
        file.parent.mkdir(exist_ok=True)
        draw(by_agent, theme).savefig(file)
        print(file.relative_to(ROOT))
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    begin, end = map(re.escape, MARKERS)
    new, count = re.subn(
        f"{begin}.*{end}", f"{MARKERS[0]}\n{table(by_agent)}\n{MARKERS[1]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{readme} must hold the markers {MARKERS} once")
    readme.write_text(new, encoding="utf-8")
    print("README.md")


if __name__ == "__main__":
    main()
