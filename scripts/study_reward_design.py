"""Which reward designs make a reinforcement learning agent run away?

    python scripts/study_reward_design.py

Every design is trained with several seeds and learners in every environment that it applies to, and the
policy at the end of training is played on unseen noise, with shocks, and with shifted noise that training
never showed. After every tenth of the training the policy is played as well, which tells when within training
it turns. Trainings stand in ``runs/reward-design``: the same command goes on where it stopped. Beside
it stands what the design itself pays: for the reference policy, for eating without end, and for what was
learned. That tells a design that pays for running away from a training that failed. The tables and
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

from homeostasis_gym.collapse import mean_over_trainings, rate_over_trainings, score
from homeostasis_gym.core.benchmark import Benchmark, simulate
from homeostasis_gym.core.utility import DriveReduction, make_utility
from homeostasis_gym.trajectory import Trajectory

TEST_NOISE = 3  # number of the set of noise paths; 0 judges segments, 1 tunes, 2 is the baseline table's
RANDOM_NOISE = 7  # the set on which random play measures the size of rewards
CONDITIONS = {
    "as trained": "the noise of the training's kind, other paths",
    "shocks": "in one step of fifty, a level jumps by three half widths of its band, up or down",
    "up": "every noise one unit higher: levels no longer fall on average",
    "down": "every noise two units lower: levels fall three times as fast",
}


# Learner -> algorithm, long credit, scaled rewards. The baselines' settings learn from a few steps of credit;
# far-sighted learners have nearly the whole episode in view, and rewards of about unit size.
LEARNERS = {
    "PPO": ("PPO", False, False),
    "PPO far": ("PPO", True, True),
    "PPO, long credit only": ("PPO", True, False),
    "PPO, scaled rewards only": ("PPO", False, True),
    "A2C": ("A2C", False, False),
    "A2C far": ("A2C", True, True),
}
# Which of the two changes makes the difference is asked where the difference is.
HALVES = [("Homeostasis-MOHoN-v0", f"consumption x{factor}") for factor in (30, 100)]


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
        **{f"consumption x{f:g}": {"scalarization": weighted(f)} for f in (3.0, 10.0, 30.0, 100.0, 1000.0)},
        "log": {"scalarization": {"name": "log", "scale": 10.0}},
        "sfella": {"scalarization": {"name": "sfella", "scale": 100.0, "knee": 3.0}, "reward_scale": 1.0},
        "min": {"scalarization": "min"},
    }
    if benchmark.bands(np.asarray(benchmark.initial_state)) is not None:
        found["drive reduction"] = {"scalarization": "drive-reduction", "reward_scale": 1.0}
        found["penalties cut at 150"] = {"component_limit": 150.0, "component_leak": 0.0}
        for factor, limit in ((10.0, 150.0), (30.0, 300.0), (30.0, 150.0)):
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


def payment(spec: TrainingSpec, benchmark: Benchmark, states: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """What the design pays in each step, its cut of the components included: (steps + 1, n), (steps, m)."""
    utility = make_utility(spec.scalarization, benchmark.reward_dim, benchmark)
    if isinstance(utility, DriveReduction):
        return np.asarray(utility(states[:-1], states[1:]))
    if spec.component_limit is not None:
        cut = np.clip(rewards, -spec.component_limit, spec.component_limit)
        rewards = cut + spec.component_leak * (rewards - cut)
    return np.asarray(utility(rewards))


def most_units(benchmark: Benchmark) -> int:
    """The most of one objective that a learner may take in a step."""
    assert benchmark.max_consumption is not None, "learners train with a limit"
    return benchmark.max_consumption


def unit_scale(spec: TrainingSpec, benchmark: Benchmark) -> float:
    """The factor with which random play meets rewards of size 1 on average."""
    generator = np.random.default_rng(0)
    most = most_units(benchmark)

    def policy(states: np.ndarray, step: int) -> np.ndarray:
        return generator.integers(most + 1, size=(len(states), benchmark.objectives))

    held = simulate(benchmark, policy, unseen_noise(benchmark, 100, RANDOM_NOISE))
    steps = [
        payment(spec, benchmark, held.states[k, : length + 1], held.rewards[k, :length])
        for k, length in enumerate(held.lengths.tolist())
    ]
    return float(f"{1.0 / np.abs(np.concatenate(steps)).mean():.2g}")


def pays(spec: TrainingSpec, benchmark: Benchmark, path: Path, episodes: int) -> dict[str, list[float]]:
    """What the design pays for the trained policy and for others in each episode of its own environment."""
    noise = unseen_noise(benchmark, episodes, TEST_NOISE)
    most, n = most_units(benchmark), benchmark.objectives
    others = {
        benchmark.reference_policy: benchmark.policy(benchmark.reference_policy),
        "one": lambda states, step: np.tile([most] + [0] * (n - 1), (len(states), 1)),
        "all": lambda states, step: np.full((len(states), n), most),
    }
    found = {}
    for name, policy in others.items():
        held = simulate(benchmark, policy, noise)
        found[name] = [
            float(payment(spec, benchmark, held.states[k, : length + 1], held.rewards[k, :length]).sum())
            for k, length in enumerate(held.lengths.tolist())
        ]
    played: list[Trajectory] = play(load_policy(path), benchmark, noise)
    found["learned"] = [float(payment(spec, benchmark, one.states, one.rewards).sum()) for one in played]
    return found


def course(evaluations: list[dict[str, Any]], steps: int) -> tuple[str, float | None]:
    """How a training went, by whether more than half of the episodes flip in its evaluations.

    Returns:
        ``"sound"`` where they do not at the end, ``"never sound"`` where they always do, ``"turned"`` where
        they did not for a while; for the last the share of the training after which they do for good.
    """
    flipping = [(line["flip_rate"] or 0.0) > 0.5 for line in evaluations]
    if not flipping[-1]:
        return "sound", None
    if all(flipping):
        return "never sound", None
    last_sound = max(k for k, flips in enumerate(flipping) if not flips)
    return "turned", evaluations[last_sound + 1]["steps"] / steps


def run_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for env_id in (f"Homeostasis-{name}-v0" for name in arguments.envs):
        base = make_vec_env(make_spec("PPO", env_id), 1).env.benchmark
        benchmark = replace(base, max_consumption=None)
        for design, changes in designs(base).items():
            if arguments.designs and design not in arguments.designs:
                continue
            for learner in arguments.learners:
                algorithm, long, scaled = LEARNERS[learner]
                if long != scaled and (env_id, design) not in HALVES:
                    continue
                for seed in range(arguments.seeds):
                    spec = make_spec(algorithm, env_id, seed=seed, steps=arguments.steps, **dict(changes))
                    if scaled:
                        spec = replace(spec, reward_scale=unit_scale(spec, base))
                    if long:
                        spec = replace(spec, arguments={**spec.arguments, "gamma": 0.99, "gae_lambda": 0.95})
                    folder = (
                        arguments.out
                        / env_id
                        / design.replace(" ", "_")
                        / learner.replace(", ", "-").replace(" ", "-")
                    )
                    run = TrainingRun(folder / f"seed-{seed}", spec, episodes=30)
                    if arguments.finished and not run.policy_path.exists():
                        continue
                    result = run.run()
                    row = {
                        "env": env_id,
                        "design": design,
                        "learner": learner,
                        "seed": seed,
                        "cpu_seconds": result["cpu_seconds"],
                        "curve": [(line["steps"], line["flip_rate"]) for line in result["evaluations"]],
                        "course": course(result["evaluations"], spec.steps),
                        "pays": pays(spec, base, run.policy_path, arguments.episodes),
                        "conditions": judge(run.policy_path, benchmark, arguments.episodes),
                        "scalarization": spec.scalarization,
                        "reward_scale": spec.reward_scale,
                        "component_limit": spec.component_limit,
                        "component_leak": spec.component_leak,
                    }
                    rows.append(row)
                    flips = np.mean(row["conditions"]["as trained"]["flips"])
                    print(f"{env_id} {design} {learner} {seed}: flips {flips:.2f}", flush=True)
    return rows


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
    paid = {name: float(np.mean(values)) for name, values in row["pays"].items()}
    text = json.dumps({**row, "conditions": conditions, "pays": paid})
    rounded: dict[str, Any] = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}"))
    return rounded


def groups(rows: list[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["env"], row["design"], row["learner"]), []).append(row)
    return found


def short(env_id: str) -> str:
    return env_id.removeprefix("Homeostasis-").removesuffix("-v0")


def within(values: list[list[float]], form: str) -> str:
    """The mean over (trainings, paths) with its interval, none where nothing differs."""
    interval = mean_over_trainings(values)
    told = format(np.mean(values), form)
    if interval is None or interval[0] == interval[1]:
        return told
    return f"{told} [{format(interval[0], form)}, {format(interval[1], form)}]"


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| environment | design | learner | trainings that end sound / never were / turned (at) "
        "| flips as trained [95 %] "
        "| median onset | Runaway Index [95 %] | mean regret [95 %] | flips: shocks | up | down |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (env, design, learner), members in groups(rows).items():
        plain = [m["conditions"]["as trained"] for m in members]
        flips = np.array([p["flips"] for p in plain])
        low, high = rate_over_trainings(flips)
        onsets = [onset for p in plain for onset in p["onsets"]]
        ends = [m["course"] for m in members]
        counts = [sum(end == kind for end, _ in ends) for kind in ("sound", "never sound", "turned")]
        at = ", ".join(f"{share:.0%}" for _, share in ends if share is not None)
        turned = f" ({at})" if at else ""
        others = []
        for name in ("shocks", "up", "down"):
            held = [m["conditions"][name]["flips"] for m in members if name in m["conditions"]]
            others.append(f"{np.mean(held):.2f}" if held else "-")
        onset = f"{np.median(onsets):.0f}" if onsets else "-"
        lines.append(
            f"| {short(env)} | {design} | {learner} | {' / '.join(str(c) for c in counts)}"
            f"{turned} "
            f"| {flips.mean():.2f} [{low:.2f}, {high:.2f}] | {onset} "
            f"| {within([p['runaway_index'] for p in plain], '.3f')} "
            f"| {within([p['regret'] for p in plain], '.0f')} | {' | '.join(others)} |"
        )
    return "\n".join(lines)


def money(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def eating_pays(rows: list[dict[str, Any]], env: str, design: str) -> bool:
    """Whether a design pays more for taking the most of one or of all objectives than for the reference."""
    row = next(row for row in rows if (row["env"], row["design"]) == (env, design))
    reference, *eaters = (float(np.mean(values)) for values in list(row["pays"].values())[:3])
    return max(eaters) > reference


def payments_table(rows: list[dict[str, Any]]) -> str:
    """What every design pays an episode: for the reference, for eating without end, for what was learned."""
    learners = [learner for learner in LEARNERS if any(row["learner"] == learner for row in rows)]
    lines = [
        "| environment | design | the reference | most of one objective | most of all | pays more for "
        f"| {' | '.join(f'{one} learned: mean (least, most)' for one in learners)} |",
        "|---|---|---|---|---|---|" + "---|" * len(learners),
    ]
    for env, design in dict.fromkeys((row["env"], row["design"]) for row in rows):
        mine = [row for row in rows if (row["env"], row["design"]) == (env, design)]
        reference, one, every = (float(np.mean(values)) for values in list(mine[0]["pays"].values())[:3])
        cells = []
        for learner in learners:
            each = [float(np.mean(row["pays"]["learned"])) for row in mine if row["learner"] == learner]
            told = [money(value) for value in (float(np.mean(each)), min(each), max(each))] if each else []
            cells.append(f"{told[0]} ({told[1]}, {told[2]})" if each else "-")
        more = "eating" if eating_pays(rows, env, design) else "the reference"
        lines.append(
            f"| {short(env)} | {design} | {money(reference)} | {money(one)} | {money(every)} | {more} "
            f"| {' | '.join(cells)} |"
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
        held = {k[1:]: v for k, v in groups(rows).items() if k[0] == env}
        # The halves have lines in the table alone.
        learners = [learner for learner in dict.fromkeys(k[1] for k in held) if "only" not in learner]
        names = list(dict.fromkeys(design for design, _ in held))
        conditions = list(next(iter(held.values()))[0]["conditions"])
        points = len(next(iter(held.values()))[0]["curve"])
        figure, axes = plt.subplots(
            2,
            len(learners),
            figsize=(3.6 + 2.3 * len(learners), 1.6 + 0.52 * len(names)),
            squeeze=False,
            layout="constrained",
        )
        for column, learner in enumerate(learners):
            curves = np.full((len(names), points), np.nan)
            ends = np.full((len(names), len(conditions)), np.nan)
            for line, name in enumerate(names):
                for members in (held[key] for key in [(name, learner)] if key in held):
                    curves[line] = np.mean([[rate for _, rate in m["curve"]] for m in members], axis=0)
                    ends[line] = [
                        np.mean([m["conditions"][one]["flips"] for m in members]) for one in conditions
                    ]
            above, below = axes[0][column], axes[1][column]
            image = above.imshow(curves, vmin=0, vmax=1, cmap="magma_r", aspect="auto")
            above.set_xticks([0, (points - 1) / 2, points - 1], ["0 %", "50 %", "100 %"], fontsize=8)
            above.set_xlabel("of the training", fontsize=8)
            above.set_title(learner, fontsize=10)
            below.imshow(ends, vmin=0, vmax=1, cmap="magma_r", aspect="auto")
            below.set_xticks(range(len(conditions)), conditions, fontsize=8)
            for (y, x), value in np.ndenumerate(ends):
                colour = "white" if value > 0.5 else "black"
                below.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
            for axis in (above, below):
                marks = [f"{name} *" if eating_pays(rows, env, name) else name for name in names]
                axis.set_yticks(range(len(names)), marks if column == 0 else [], fontsize=8)
        figure.colorbar(image, ax=axes, shrink=0.5, label="share of the episodes that flip")
        figure.suptitle(
            f"{short(env)}: during training (above) and of the trained policy (below); "
            "* the design pays more for eating without end",
            fontsize=10,
        )
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
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), choices=LEARNERS)
    parser.add_argument("--designs", nargs="+", help="only these, by name (default: all)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300_000)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--finished", action="store_true", help="train nothing, show what is finished")
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    parser.add_argument("--page", type=Path, default=Path("docs/study_reward_design.md"))
    arguments = parser.parse_args()

    rows = run_all(arguments)
    arguments.figures.mkdir(parents=True, exist_ok=True)
    settings = {
        k: str(v) for k, v in vars(arguments).items() if k not in ("out", "figures", "page", "finished")
    }
    lines = ",\n".join(json.dumps(brief(row)) for row in rows)
    text = f'{{"arguments": {json.dumps(settings)}, "rows": [\n{lines}\n]}}\n'
    (arguments.figures / "reward_design.json").write_text(text, encoding="utf-8")
    tables = {"results": table(rows), "payments": payments_table(rows)}
    for text in tables.values():
        print(text, end="\n\n")
    for path in draw(rows, arguments.figures):
        print(path)
    return max(fill(arguments.page, mark, text) for mark, text in tables.items())


if __name__ == "__main__":
    sys.exit(main())
