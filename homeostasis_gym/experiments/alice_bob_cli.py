"""The verb ``alice-bob``: ensembles of value graphs on the command line."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from homeostasis_gym.core.schedules import SCHEDULES
from homeostasis_gym.core.value_graph import (
    DECAYS,
    PRESETS,
    SCHEDULE_OF_PRESET,
    STRATEGIES,
    UTILITIES,
    CollapseRule,
    ValueGraphParams,
    preset,
)
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.experiments.alice_bob import (
    Axis,
    Ensemble,
    PhaseMap,
    Rate,
    Summary,
    Survival,
    available_threads,
    phase_map,
    run_ensemble,
    summarize,
    survival,
)

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser(
        "alice-bob",
        help="run thousands of value graphs and report how often ALICE or BOB collapses",
        description="Run an ensemble of value graphs and report how often, when and in what order agents "
        "collapse, with 95 %% Wilson intervals. With two --grid options the ensemble is repeated over the "
        "grid (a phase map).",
    )
    parser.add_argument(
        "--preset",
        choices=list(PRESETS),
        default="reference",
        help="settings to start from (default: %(default)s)",
    )
    parser.add_argument("--utility", choices=UTILITIES, help="utility function (default: the preset's)")
    parser.add_argument(
        "--rebalancing",
        metavar="NAME[,NAME...]",
        help=f"strategy of every agent, or one per agent: {', '.join(STRATEGIES)}",
    )
    parser.add_argument(
        "--decay",
        choices=DECAYS,
        help="how levels decay; its strength is --set decay_rate=NUMBER (default: the preset's)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a parameter, for example rate=0.03, schedule.share=0.8, between:Power:Self-direction=0 (both "
        "directions), 'between:Power->Self-direction=0' (one), incentive:ALICE:Power=0.01, collapse.hold=1, "
        "or adjacent=0.4 with the preset circumplex; may be repeated",
    )
    parser.add_argument(
        "--schedule",
        choices=list(SCHEDULES),
        help="who is corrected when (default: random; alternating with the preset article)",
    )
    parser.add_argument("--seeds", type=int, default=1000, help="number of runs (default: %(default)s)")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="seed of the first run (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=1000, help="steps per run (default: %(default)s)")
    parser.add_argument(
        "--collapse",
        choices=("negative", "decline"),
        default="negative",
        help="what counts as collapse: a level below a threshold, or one that has lost a share of its peak "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--level", type=float, help="the threshold (default: 0) or the share of the peak (default: 0.5)"
    )
    parser.add_argument(
        "--hold", type=int, default=20, help="steps in a row that a collapse must last (default: %(default)s)"
    )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="NAME=FROM:TO:COUNT",
        help="an axis of a phase map, or NAME=A,B,C; give it twice, the horizontal axis first",
    )
    parser.add_argument("--survival", action="store_true", help="add Kaplan-Meier curves of time to collapse")
    parser.add_argument("--threads", type=int, help="threads (default: one per core)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write result.json and figures there")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the verb.

    Returns:
        Exit status.
    """
    ensemble = _ensemble(arguments)
    threads = available_threads() if arguments.threads is None else arguments.threads
    axes = [Axis.parse(text) for text in arguments.grid]
    if len(axes) not in (0, 2):
        raise HomeostasisError(f"`--grid` must be given twice or not at all, got {len(axes)}")
    if axes and arguments.survival:
        raise HomeostasisError("`--survival` shows one ensemble: leave out `--grid`, or run both apart")
    if axes:
        return _show_map(arguments, ensemble, axes, threads)
    started = time.perf_counter()
    result = run_ensemble(ensemble, threads)
    seconds = time.perf_counter() - started
    summary = summarize(ensemble.params, result)
    curves: dict[str, Survival] = {}
    if arguments.survival:
        curves["any agent"] = survival(result)
        for a, name in enumerate(ensemble.params.agents):
            curves[name] = survival(result, a)
    data = {
        "ensemble": ensemble.describe(),
        "summary": summary.to_dict(),
        "survival": {name: curve.to_dict() for name, curve in curves.items()},
        "seconds": seconds,
    }
    files = _write(arguments.out, data)
    if arguments.out and curves:
        from homeostasis_gym.experiments.alice_bob_figures import draw_survival, save_both

        files += save_both(
            lambda dark: draw_survival(curves, dark, ensemble.steps),
            arguments.out / "survival",
            ("svg", "png"),
        )
    if arguments.json:
        print(json.dumps({**data, "files": [str(path) for path in files]}, allow_nan=False))
        return 0
    print("\n".join(_lines(ensemble, summary, curves)))
    _tell(files, ensemble.seeds * ensemble.steps, seconds)
    return 0


def _ensemble(arguments: argparse.Namespace) -> Ensemble:
    changes: dict[str, Any] = {}
    if arguments.utility:
        changes["utility"] = arguments.utility
    if arguments.decay:
        changes["decay"] = arguments.decay
    if arguments.rebalancing:
        names = tuple(arguments.rebalancing.split(","))
        changes["rebalancing"] = names[0] if len(names) == 1 else names
    params: ValueGraphParams = preset(arguments.preset, **changes)
    ensemble = Ensemble(
        params,
        schedule=arguments.schedule or SCHEDULE_OF_PRESET[arguments.preset],
        seeds=arguments.seeds,
        first_seed=arguments.first_seed,
        steps=arguments.steps,
        rule=CollapseRule(arguments.collapse, arguments.level, arguments.hold),
    )
    for text in arguments.set:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise HomeostasisError(f"`--set` must be written NAME=NUMBER, got {text!r}") from None
        ensemble = ensemble.with_number(name, value)
    return ensemble


def _show_map(arguments: argparse.Namespace, ensemble: Ensemble, axes: list[Axis], threads: int) -> int:
    started = time.perf_counter()
    result = phase_map(ensemble, axes[0], axes[1], threads)
    seconds = time.perf_counter() - started
    data = {**result.to_dict(), "seconds": seconds}
    files = _write(arguments.out, data)
    if arguments.out:
        from homeostasis_gym.experiments.alice_bob_figures import draw_phase_map, save_both

        for what in ("one_sided", "all_agents", "none"):
            files += save_both(
                lambda dark, what=what: draw_phase_map(result, dark, what),  # type: ignore[misc]
                arguments.out / f"phase-map-{what.replace('_', '-')}",
                ("svg", "png"),
            )
    if arguments.json:
        print(json.dumps({**data, "files": [str(path) for path in files]}, allow_nan=False))
        return 0
    print("\n".join(_map_lines(result)))
    _tell(files, result.one_sided.size * ensemble.seeds * ensemble.steps, seconds)
    return 0


def _write(folder: Path | None, data: dict[str, Any]) -> list[Path]:
    if folder is None:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "result.json"
        path.write_text(json.dumps(data, allow_nan=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise HomeostasisError(
            f"`--out` must be a folder that can be written, got {folder} ({error})"
        ) from error
    return [path]


def _head(ensemble: Ensemble) -> Iterable[str]:
    params = ensemble.params
    yield (
        f"{len(params.agents)} agents, {len(params.values)} values, utility {params.utility}, rebalancing "
        f"{', '.join(dict.fromkeys(params.strategies))}, rate {params.rate:g}, schedule {ensemble.schedule}"
    )
    yield (
        f"{ensemble.seeds} runs (seeds {ensemble.first_seed}..{ensemble.first_seed + ensemble.seeds - 1}) of "
        f"{ensemble.steps} steps; collapse is {ensemble.rule}"
    )


def _lines(ensemble: Ensemble, summary: Summary, curves: dict[str, Survival]) -> Iterable[str]:
    yield from _head(ensemble)
    everyone = "both" if len(ensemble.params.agents) == 2 else "all agents"
    few = summary.distinct < ensemble.seeds
    if few:
        yield (
            f"only {summary.distinct} different run(s) among the {ensemble.seeds}: the seeds decide "
            f"{'nothing' if summary.distinct == 1 else 'little'} here, so rates have no intervals"
        )

    def told(rate: Rate) -> str:
        return f"{rate.rate:.3f}" if few else str(rate)

    yield ""
    yield f"by step {summary.by:<18} rate" + ("" if few else "  [95 % interval]")
    for name, rate in (
        ("one-sided", summary.one_sided),
        (everyone, summary.all_agents),
        ("none", summary.none),
    ):
        yield f"  {name:<24} {told(rate)}"
    for name, rate in summary.agents.items():
        yield f"  {name + ' collapsed':<24} {told(rate)}"
    for name, rate in summary.first_agents.items():
        yield f"  {name + ' first':<24} {told(rate)}"
    if summary.first_values:
        yield "value that collapsed first, of the agents that collapsed"
        for name, rate in summary.first_values.items():
            yield f"  {name:<24} {told(rate)}"
    if summary.onset is not None:
        low, middle, high = summary.onset
        yield f"onset of the first collapse: median step {middle:.0f}, 10 % {low:.0f}, 90 % {high:.0f}"
    for name, curve in curves.items():
        median = f"step {curve.median:.0f}" if np.isfinite(curve.median) else "not reached"
        yield f"Kaplan-Meier median until collapse, {name}: {median}"


def _map_lines(result: PhaseMap) -> Iterable[str]:
    yield from _head(result.ensemble)
    yield ""
    yield f"share of runs with one-sided collapse; rows {result.y.name}, columns {result.x.name}"
    # Every row and column of a small grid, about ten of a large one.
    rows = np.unique(np.linspace(0, len(result.y.points) - 1, 10).round().astype(int))
    columns = np.unique(np.linspace(0, len(result.x.points) - 1, 10).round().astype(int))
    yield " " * 10 + "".join(f"{result.x.points[j]:>8.4g}" for j in columns)
    share = result.one_sided / result.ensemble.seeds
    for i in rows[::-1]:
        yield f"{result.y.points[i]:>10.4g}" + "".join(f"{share[i, j]:>8.3f}" for j in columns)
    widest = result.intervals(result.one_sided)
    yield f"95 % intervals are at most {np.max(widest[..., 1] - widest[..., 0]):.3f} wide"


def _tell(files: list[Path], run_steps: int, seconds: float) -> None:
    print(f"\n{run_steps / 1e6:.3g} million run-steps in {seconds:.2f} s")
    for path in files:
        print(f"wrote {path}")
