"""The Pareto front between the objectives, with the collapse metrics of every point on it.

    python scripts/pareto_front.py

For every environment policies are trained for each of several trade-offs, with several seeds: the
components that belong to one objective are weighted from all for the first to all for the last, components
that belong to none count as they are. Every policy is played on unseen noise. A point is the mean of a
trade-off's trainings, with its 95 % interval; it is on the front when no other is at least as good in both
objectives and better in one. Scores are told as what is lost to the reference policy on the same noise.
Trainings stand in ``runs/pareto``: the same command goes on where it stopped. Figures go to
``docs/figures/pareto-*.svg``, the numbers to ``docs/figures/pareto.json``, the table to
``docs/reinforcement_learning.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _page import between, fill, number, positive, short
from homeostasis_agents.sb3.evaluation import play, trajectories_of, unseen_noise
from homeostasis_agents.sb3.policy import load_policy
from homeostasis_agents.sb3.run import TrainingRun
from homeostasis_agents.sb3.spec import make_spec, settings_for
from homeostasis_agents.sb3.training import make_vec_env

from homeostasis_gym.collapse import EpisodeScore, mean_over_trainings, rate_over_trainings, score
from homeostasis_gym.core.benchmark import Benchmark, simulate

TEST_NOISE = 5  # number of the set of noise paths; see the other studies


def weights(benchmark: Benchmark, share: float) -> list[float]:
    """Weights with which the first objective counts `share` and the second the rest, twice over."""
    first, second = benchmark.objective_names
    ends = {f"_{first}": 2.0 * share, f"_{second}": 2.0 * (1.0 - share)}
    return [
        next((weight for end, weight in ends.items() if name.endswith(end)), 1.0)
        for name in benchmark.reward_names
    ]


def on_front(points: np.ndarray) -> list[bool]:
    """Which of the points (n, 2) no other dominates; less than a point of score is no difference."""
    return [
        not any((other >= point - 1.0).all() and (other > point + 1.0).any() for other in points)
        for point in points
    ]


def run(env_id: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    base = make_vec_env(make_spec(arguments.algo, env_id), 1).env.benchmark
    benchmark = replace(base, max_consumption=None)
    noise = unseen_noise(benchmark, arguments.episodes, TEST_NOISE)
    settings = settings_for(arguments.algo, env_id)
    policy = benchmark.policy(benchmark.reference_policy)
    reference = score(
        trajectories_of(
            benchmark, simulate(benchmark, policy, noise), noise, agent=benchmark.reference_policy
        )
    )
    rows = []
    for share in np.linspace(0.0, 1.0, arguments.points).round(4).tolist():
        found: list[list[EpisodeScore]] = []
        for seed in range(arguments.seeds):
            spec = make_spec(
                arguments.algo,
                env_id,
                seed=seed,
                steps=arguments.steps,
                scalarization={"name": "linear", "weights": weights(base, share)},
                # Weights leave alone what the penalties are damped for.
                component_limit=settings["component_limit"],
            )
            folder = arguments.out / env_id / f"share-{share:g}" / f"seed-{seed}"
            training = TrainingRun(folder, spec, episodes=30)
            training.run()
            found.append(score(play(load_policy(training.best_path), benchmark, noise)))
        lost = {
            name: [
                [
                    best.objective_scores[name] - one.objective_scores[name]
                    for one, best in zip(scored, reference, strict=True)
                ]
                for scored in found
            ]
            for name in benchmark.objective_names
        }
        flips = [[bool(one.flip) for one in scored] for scored in found]
        rows.append(
            {
                "env": env_id,
                "share": share,
                "trainings": len(found),
                "lost": {name: float(np.mean(held)) for name, held in lost.items()},
                "lost_intervals": {name: mean_over_trainings(held) for name, held in lost.items()},
                "score": float(np.mean([[one.score for one in scored] for scored in found])),
                "flip_rate": float(np.mean(flips)),
                "flip_interval": rate_over_trainings(flips),
                "runaway_index": float(np.mean([[one.runaway_index for one in scored] for scored in found])),
                "regret": float(np.mean([[one.regret for one in scored] for scored in found])),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    points = -np.array([list(row["lost"].values()) for row in rows])
    for row, chosen in zip(rows, on_front(points), strict=True):
        row["front"] = chosen
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "homeostasis-gym"
    from matplotlib import pyplot as plt

    names = list(rows[0]["lost"])
    figure, axis = plt.subplots(figsize=(7.5, 4.8))
    x, y = (np.array([row["lost"][name] for row in rows]) for name in names)
    if rows[0]["trainings"] > 1:
        wide, high = (
            np.abs(np.array([row["lost_intervals"][name] for row in rows]).T - centre)
            for name, centre in zip(names, (x, y), strict=True)
        )
        axis.errorbar(x, y, xerr=wide, yerr=high, fmt="none", ecolor="lightgrey", zorder=0)
    marks = axis.scatter(
        x, y, c=[row["flip_rate"] for row in rows], cmap="magma_r", vmin=0, vmax=1, s=60, edgecolors="grey"
    )
    # Where all points are one and the same, their numbers stand around it.
    same = max(np.ptp(x), np.ptp(y)) < 5
    for place, (a, b) in enumerate(zip(x, y, strict=True)):
        angle = 2 * np.pi * place / len(rows) if same else np.pi / 8
        axis.annotate(
            str(place + 1),
            (a, b),
            textcoords="offset points",
            xytext=(13 * np.cos(angle), 13 * np.sin(angle)),
            ha="center",
            va="center",
            fontsize=8,
        )
    # Bars may reach far beyond; what they say in full stands in the table.
    axis.set_xscale("symlog", linthresh=100)
    axis.set_yscale("symlog", linthresh=100)
    axis.set_xlim(min(-50, 2 * x.min()), max(200, 4 * x.max()))
    axis.set_ylim(min(-50, 2 * y.min()), max(200, 4 * y.max()))
    axis.axhline(0, color="lightgrey", linewidth=0.6, zorder=0)
    axis.axvline(0, color="lightgrey", linewidth=0.6, zorder=0)
    axis.set_xlabel(f"points of objective {names[0]} lost to the reference policy")
    axis.set_ylabel(f"points of objective {names[1]} lost")
    axis.set_title(f"{rows[0]['env']}: numbers as in the table", fontsize=10)
    figure.colorbar(marks, label="flip rate")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| environment | point | weight of A : B | A lost [95 %] | B lost [95 %] | on the front "
        "| flips [95 %] | Runaway Index | mean regret |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    place = 0
    for before, row in zip([None, *rows], rows, strict=False):
        place = place + 1 if before is not None and before["env"] == row["env"] else 1
        lost = [f"{number(row['lost'][name])}{between(row['lost_intervals'][name])}" for name in row["lost"]]
        low, high = row["flip_interval"]
        lines.append(
            f"| {short(row['env'])} | {place} "
            f"| {row['share']:.2f} : {1 - row['share']:.2f} | {' | '.join(lost)} "
            f"| {'yes' if row['front'] else 'no'} "
            f"| {row['flip_rate']:.2f} [{low:.2f}, {high:.2f}] | {row['runaway_index']:.3f} "
            f"| {number(row['regret'])} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/pareto"))
    parser.add_argument("--envs", nargs="+", default=["MOHoN", "MOBUO"], choices=["MOHoN", "MOBUO", "MOBUON"])
    parser.add_argument("--algo", default="PPO")
    parser.add_argument("--points", type=positive, default=7)
    parser.add_argument("--seeds", type=positive, default=3, help="trainings of every trade-off")
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--episodes", type=positive, default=100)
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    parser.add_argument("--page", type=Path, default=Path("docs/reinforcement_learning.md"))
    arguments = parser.parse_args()
    arguments.figures.mkdir(parents=True, exist_ok=True)
    found = []
    for name in arguments.envs:
        rows = run(f"Homeostasis-{name}-v0", arguments)
        draw(rows, arguments.figures / f"pareto-{name}.svg")
        found += rows
    (arguments.figures / "pareto.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = table(found)
    print(text)
    return fill(arguments.page, "pareto", text)


if __name__ == "__main__":
    sys.exit(main())
