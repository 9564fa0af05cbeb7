"""Which reward designs make a reinforcement learning agent run away?

    python scripts/study_reward_design.py

Every design is trained with several seeds and algorithms in every environment that it applies to, and the
policy at the end of training is played on unseen noise, with shocks, and with shifted noise that training
never showed. After every tenth of the training the policy is played as well, which tells when within training
it turns. Trainings stand in ``runs/reward-design``: the same command goes on where it stopped. The table and
the figures go to ``docs/study_reward_design.md`` and ``docs/figures/reward_design-*.svg``, the numbers to
``docs/figures/reward_design.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _page import fill
from homeostasis_agents.sb3.evaluation import play, unseen_noise
from homeostasis_agents.sb3.policy import load_policy
from homeostasis_agents.sb3.run import TrainingRun
from homeostasis_agents.sb3.spec import TrainingSpec, make_spec
from homeostasis_agents.sb3.training import make_vec_env

from homeostasis_gym.collapse import score
from homeostasis_gym.collapse.summary import wilson_interval
from homeostasis_gym.core.benchmark import Benchmark

TEST_NOISE = 3  # number of the set of noise paths; 0 judges segments, 1 tunes, 2 is the baseline table's
CONDITIONS = {
    "as trained": "the noise of the training's kind, other paths",
    "shocks": "in one step of fifty, a level jumps by three half widths of its band, up or down",
    "up": "every noise one unit higher: levels no longer fall on average",
    "down": "every noise two units lower: levels fall three times as fast",
}


def gains(benchmark: Benchmark) -> list[bool]:
    """Which components of the reward pay for consuming."""
    return [name.startswith(("consumption", "harvest")) for name in benchmark.reward_names]


def designs(benchmark: Benchmark) -> dict[str, dict[str, Any]]:
    """Name -> what differs from the published score, as arguments of `make_spec`."""

    def weighted(factor: float) -> dict[str, Any]:
        return {"name": "linear", "weights": [factor if gain else 1.0 for gain in gains(benchmark)]}

    found: dict[str, dict[str, Any]] = {
        "linear": {"component_limit": None},
        "linear, damped": {},
        **{f"consumption x{f:g}": {"scalarization": weighted(f)} for f in (3.0, 10.0, 30.0, 100.0)},
        "log": {"scalarization": {"name": "log", "scale": 10.0}},
        "sfella": {"scalarization": {"name": "sfella", "scale": 100.0}, "reward_scale": 1.0},
        "min": {"scalarization": "min"},
    }
    if benchmark.bands(np.asarray(benchmark.initial_state)) is not None:
        found["drive reduction"] = {"scalarization": "drive-reduction", "reward_scale": 1.0}
        found["penalties cut at 150"] = {"component_limit": 150.0, "component_leak": 0.0}
        for factor, limit in ((10.0, 150.0), (30.0, 300.0)):
            found[f"consumption x{factor:g}, cut at {limit:g}"] = {
                "scalarization": weighted(factor),
                "component_limit": limit,
                "component_leak": 0.0,
            }
    else:
        del found["linear, damped"]
    return found


def condition(name: str, benchmark: Benchmark, noise: np.ndarray) -> np.ndarray:
    """Noise paths of a condition, made from those of the training's kind."""
    if name == "up":
        return noise + 1.0
    if name == "down":
        return noise - 2.0
    if name == "shocks":
        generator = np.random.default_rng(0)
        sign = generator.choice([-1.0, 1.0], size=noise.shape)
        size = 3.0 * np.array([10.0 + i for i in range(1, noise.shape[2] + 1)])
        return noise + sign * np.rint(size) * (generator.random(noise.shape) < 0.02)
    return noise


def judge(path: Path, benchmark: Benchmark, episodes: int) -> dict[str, Any]:
    """Play a policy under every condition."""
    noise = unseen_noise(benchmark, episodes, TEST_NOISE)
    conditions = CONDITIONS if benchmark.noise_channels else {"as trained": ""}
    found = {}
    for name in conditions:
        scored = score(play(load_policy(path), benchmark, condition(name, benchmark, noise)))
        found[name] = {
            "flips": [bool(one.flip) for one in scored],
            "onsets": [one.onset for one in scored if one.onset is not None],
            "runaway_index": [one.runaway_index for one in scored],
            "regret": [one.regret for one in scored],
        }
    return found


def turning(evaluations: list[dict[str, Any]], steps: int) -> float | None:
    """Share of the training after which most episodes flip and go on doing so; None for a sound end."""
    turned = None
    for line in evaluations:
        if (line["flip_rate"] or 0.0) > 0.5:
            turned = line["steps"] / steps if turned is None else turned
        else:
            turned = None
    return turned


def run_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for env_id in (f"Homeostasis-{name}-v0" for name in arguments.envs):
        base = make_vec_env(make_spec("PPO", env_id), 1).env.benchmark
        benchmark = replace(base, max_consumption=None)
        for design, changes in designs(base).items():
            if arguments.designs and design not in arguments.designs:
                continue
            for algorithm in arguments.algos:
                for seed in range(arguments.seeds):
                    spec: TrainingSpec = make_spec(
                        algorithm, env_id, seed=seed, steps=arguments.steps, **changes
                    )
                    folder = arguments.out / env_id / design.replace(" ", "_") / algorithm / f"seed-{seed}"
                    run = TrainingRun(folder, spec, episodes=30)
                    if arguments.finished and not run.policy_path.exists():
                        continue
                    result = run.run()
                    row = {
                        "env": env_id,
                        "design": design,
                        "algorithm": algorithm,
                        "seed": seed,
                        "seconds": result["seconds"],
                        "curve": [(line["steps"], line["flip_rate"]) for line in result["evaluations"]],
                        "turned": turning(result["evaluations"], spec.steps),
                        "conditions": judge(run.policy_path, benchmark, arguments.episodes),
                        "scalarization": spec.scalarization,
                        "component_limit": spec.component_limit,
                        "component_leak": spec.component_leak,
                    }
                    rows.append(row)
                    flips = np.mean(row["conditions"]["as trained"]["flips"])
                    print(f"{env_id} {design} {algorithm} {seed}: flips {flips:.2f}", flush=True)
    return rows


def over_seeds(seeds: list[list[float]], rounds: int = 2000) -> tuple[float, float, float]:
    """Mean over seeds and episodes; 95 % interval by drawing seeds, then episodes within each, again."""
    generator = np.random.default_rng(0)
    means = []
    for _ in range(rounds):
        chosen = generator.integers(len(seeds), size=len(seeds))
        means.append(np.mean([np.mean(generator.choice(seeds[k], size=len(seeds[k]))) for k in chosen]))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(np.mean([np.mean(one) for one in seeds])), float(low), float(high)


def brief(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its single episodes, which anyone can play again from the trained policy."""
    conditions = {
        name: {
            "episodes": len(held["flips"]),
            "flips": sum(held["flips"]),
            "median_onset": float(np.median(held["onsets"])) if held["onsets"] else None,
            "runaway_index": float(np.mean(held["runaway_index"])),
            "regret": float(np.mean(held["regret"])),
        }
        for name, held in row["conditions"].items()
    }
    return {**row, "conditions": conditions}


def groups(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["env"], row["design"], row["algorithm"]), []).append(row)
    return found


def short(env_id: str) -> str:
    return env_id.removeprefix("Homeostasis-").removesuffix("-v0")


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| environment | design | algorithm | seeds that turned | turned at | flips as trained [95 %] "
        "| median onset | Runaway Index [95 %] | mean regret [95 %] | flips: shocks | up | down |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (env, design, algorithm), members in groups(rows).items():
        plain = [m["conditions"]["as trained"] for m in members]
        flips, trials = sum(sum(p["flips"]) for p in plain), sum(len(p["flips"]) for p in plain)
        low, high = wilson_interval(flips, trials)
        onsets = [onset for p in plain for onset in p["onsets"]]
        index = over_seeds([p["runaway_index"] for p in plain])
        regret = over_seeds([p["regret"] for p in plain])
        turned = [m["turned"] for m in members if m["turned"] is not None]
        others = []
        for name in ("shocks", "up", "down"):
            held = [m["conditions"][name]["flips"] for m in members if name in m["conditions"]]
            others.append(f"{np.mean(held):.2f}" if held else "-")
        at = f"{np.median(turned):.0%}" if turned else "-"
        onset = f"{np.median(onsets):.0f}" if onsets else "-"
        lines.append(
            f"| {short(env)} | {design} | {algorithm} | {len(turned)}/{len(members)} | {at} "
            f"| {flips / trials:.2f} [{low:.2f}, {high:.2f}] | {onset} "
            f"| {index[0]:.3f} [{index[1]:.3f}, {index[2]:.3f}] "
            f"| {regret[0]:.0f} [{regret[1]:.0f}, {regret[2]:.0f}] | {' | '.join(others)} |"
        )
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Per environment: when within training a design turns, and how it fares under every condition."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "homeostasis-gym"
    from matplotlib import pyplot as plt

    files = []
    for env in dict.fromkeys(row["env"] for row in rows):
        held = {k: v for k, v in groups(rows).items() if k[0] == env}
        algorithms = list(dict.fromkeys(k[2] for k in held))
        figure, axes = plt.subplots(len(algorithms), 2, figsize=(11, 0.9 + 0.33 * len(held)), squeeze=False)
        for line, algorithm in enumerate(algorithms):
            names = [k[1] for k in held if k[2] == algorithm]
            mine = [held[env, name, algorithm] for name in names]
            curves = np.array(
                [np.mean([[rate for _, rate in m["curve"]] for m in members], axis=0) for members in mine]
            )
            conditions = list(mine[0][0]["conditions"])
            ends = np.array(
                [
                    [np.mean([m["conditions"][c]["flips"] for m in members]) for c in conditions]
                    for members in mine
                ]
            )
            for axis, values, labels, title in (
                (
                    axes[line][0],
                    curves,
                    [f"{k / (curves.shape[1] - 1):.0%}" for k in range(curves.shape[1])],
                    f"{algorithm}: flip rate during training",
                ),
                (axes[line][1], ends, conditions, f"{algorithm}: flip rate of the trained policy"),
            ):
                axis.imshow(values, vmin=0, vmax=1, cmap="magma_r", aspect="auto")
                axis.set_xticks(range(len(labels)), labels, fontsize=8)
                axis.set_title(title, fontsize=9)
                axis.set_yticks(range(len(names)), names if axis is axes[line][0] else [], fontsize=8)
                for (y, x), value in np.ndenumerate(values):
                    colour = "white" if value > 0.5 else "black"
                    axis.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=6.5, color=colour)
        figure.suptitle(short(env), fontsize=10)
        figure.tight_layout()
        path = folder / f"reward_design-{short(env)}.svg"
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        files.append(path)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/reward-design"))
    parser.add_argument("--envs", nargs="+", default=["MOHoN", "MOBUON"])
    parser.add_argument("--algos", nargs="+", default=["PPO", "A2C"])
    parser.add_argument("--designs", nargs="+", help="only these, by name (default: all)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--finished", action="store_true", help="train nothing, show what is finished")
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    parser.add_argument("--page", type=Path, default=Path("docs/study_reward_design.md"))
    arguments = parser.parse_args()

    rows = run_all(arguments)
    arguments.figures.mkdir(parents=True, exist_ok=True)
    data = {
        "arguments": {k: str(v) for k, v in vars(arguments).items()},
        "rows": [brief(row) for row in rows],
    }
    text = json.dumps(data, indent=1)
    (arguments.figures / "reward_design.json").write_text(text + "\n", encoding="utf-8")
    lines = table(rows)
    print(lines)
    for path in draw(rows, arguments.figures):
        print(path)
    return fill(arguments.page, "results", lines)


if __name__ == "__main__":
    sys.exit(main())
