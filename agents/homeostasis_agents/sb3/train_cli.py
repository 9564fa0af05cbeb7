"""``homeostasis-gym train``: train an algorithm of Stable-Baselines3 and keep what it takes to use it.

OUT/policy.zip          the trained policy: ``--agents sb3:OUT/policy.zip`` wherever agents are named
OUT/best.zip            the policy of the best evaluation
OUT/evaluations.jsonl   one line per evaluation on the fixed noise paths
OUT/training.json       the settings; a folder holds one training
OUT/checkpoint/         where the training goes on when it was interrupted; gone when it has ended
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homeostasis_agents.sb3 import require
from homeostasis_agents.sb3._rules import TAKEN
from homeostasis_agents.sb3.spec import ALGORITHMS, DEFAULT_ENV, TrainingSpec, has_settings, make_spec
from homeostasis_gym.core.utility import SCALARIZATIONS
from homeostasis_gym.errors import HomeostasisError, UnknownNameError
from homeostasis_gym.registration import ENVIRONMENTS

if TYPE_CHECKING:
    from homeostasis_agents.sb3.run import TrainingRun

__all__ = ["add_parser"]

# What stands for an algorithm on the command line: ppo, ..., recurrent-ppo.
_TYPED = {re.sub("(?<=[a-z])(?=[A-Z])", "-", name).lower(): name for name in ALGORITHMS}

# Settings that `--set` leaves to an option.
_OPTIONS = {
    "algorithm": "--algo",
    "env_id": "--env",
    "env_kwargs": "--env-arg",
    "scalarization": "--scalarisation",
    "seed": "--seed",
    "steps": "--steps",
}
_SETTABLE = [one.name for one in dataclasses.fields(TrainingSpec) if one.name not in _OPTIONS]

_EXAMPLES = """\
examples:
  homeostasis-gym train --algo ppo --out runs/ppo
  homeostasis-gym train --algo sac --env Homeostasis-MOBUO-v0 --env-arg objectives=3 \\
      --scalarisation '{"name": "log", "scale": 5}' --set arguments='{"gamma": 0.99}' --out runs/sac
"""


def add_parser(subparsers: Any) -> None:
    """Add the verb ``train`` to the command line."""
    parser = subparsers.add_parser(
        "train",
        help="train a reinforcement learning agent",
        description="Train an algorithm of Stable-Baselines3 in one of the environments.\n"
        "An interrupted training goes on when the same command is given again.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--algo", required=True, help=f"one of {', '.join(_TYPED)}")
    parser.add_argument(
        "--env",
        default="Homeostasis-MOHoN-v0",
        help=f"environment, one of {', '.join(ENVIRONMENTS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--scalarisation",
        "--scalarization",
        dest="scalarization",
        default="linear",
        help=f"what is maximised: one of {', '.join((*SCALARIZATIONS, 'drive-reduction'))}, or JSON with "
        "such a name and its arguments (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--steps", type=int, help="environment steps (default: from the settings)")
    parser.add_argument(
        "--env-arg",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="argument of the environment; may be given several times",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=JSON",
        help=f"a training setting other than the tuned one, of {', '.join(_SETTABLE)}, where `arguments` are "
        "those of the algorithm's constructor; may be given several times",
    )
    parser.add_argument(
        "--eval-episodes", type=int, default=100, help="noise paths per evaluation (default: %(default)s)"
    )
    parser.add_argument("--tensorboard", type=Path, help="folder for TensorBoard's files")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> int:
    require()
    from homeostasis_agents.sb3.run import TrainingRun

    if arguments.eval_episodes < 1:
        raise HomeostasisError(f"`--eval-episodes` must be at least 1, got {arguments.eval_episodes}")
    spec = _spec(arguments)
    run = TrainingRun(arguments.out, spec, episodes=arguments.eval_episodes)
    if not run.finished and spec.env_id in ENVIRONMENTS and not has_settings(spec.algorithm, spec.env_id):
        print(
            f"homeostasis-gym: note: {spec.algorithm} has no settings of its own in {spec.env_id}; those "
            f"for {DEFAULT_ENV} are taken, and --set NAME=JSON changes them",
            file=sys.stderr,
        )
    with _progress(spec, enabled=not arguments.json and not run.finished) as tell:
        result = run.run(
            progress=tell, tensorboard=None if arguments.tensorboard is None else str(arguments.tensorboard)
        )
    if arguments.json:
        print(json.dumps(result))
    else:
        _show(run, result)
    return 0


def _spec(arguments: argparse.Namespace) -> TrainingSpec:
    typed = arguments.algo.lower()
    algorithm = _TYPED.get(typed) or {name.lower(): name for name in ALGORITHMS}.get(typed)
    if algorithm is None:
        raise UnknownNameError(
            f"`--algo` must be one of {', '.join(_TYPED)} (or {', '.join(ALGORITHMS)}), "
            f"got {arguments.algo!r}"
        )
    settings = dict(_pair("--set", text) for text in arguments.set)
    for name, value in settings.items():
        if name not in _SETTABLE:
            raise HomeostasisError(_unsettable(algorithm, name, value))
    return make_spec(
        algorithm,
        arguments.env.removeprefix("homeostasis_gym:"),  # the prefix imports what is imported here
        env_kwargs=dict(_pair("--env-arg", text) for text in arguments.env_arg),
        scalarization=_json_or_word("--scalarisation", arguments.scalarization),
        seed=arguments.seed,
        steps=arguments.steps,
        **settings,
    )


def _unsettable(algorithm: str, name: str, value: Any) -> str:
    """Why `--set` does not take a name, and what does."""
    if name in _OPTIONS:
        return f"`--set` must not name {name!r}, which has an option of its own ({_OPTIONS[name]})"
    if name in TAKEN:
        return f"`--set` must not name {name!r}, {TAKEN[name]}"
    from homeostasis_agents.sb3.training import argument_names

    if name in argument_names(algorithm):
        return (
            f"`--set` must not name {name!r}, which is an argument of {algorithm}: "
            f"--set arguments='{json.dumps({name: value})}'"
        )
    return f"`--set` must name one of {', '.join(_SETTABLE)}, got {name!r}"


def _pair(option: str, text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise HomeostasisError(f"`{option}` must be NAME=JSON, got {text!r}")
    return name, _json_or_word(option, value)


def _json_or_word(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith(("{", "[")):
            raise HomeostasisError(
                f"`{option}` begins as JSON and is not valid JSON: {error.msg} at character {error.pos + 1}, "
                f"got {text!r}"
            ) from error
        return text


@contextmanager
def _progress(spec: TrainingSpec, enabled: bool) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, one line per tenth elsewhere."""
    if not enabled:
        yield lambda share: None
        return
    if not sys.stderr.isatty():
        told = -1

        def say(share: float) -> None:
            nonlocal told
            if int(share * 10) > told:
                told = int(share * 10)
                print(f"training {spec.algorithm}: {told * 10} %", file=sys.stderr, flush=True)

        yield say
        return
    require("rich", "pip install 'homeostasis-gym[report]'")
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(f"{spec.algorithm} in {spec.env_id}", total=1.0)
        yield lambda share: bars.update(bar, completed=share)


def _show(run: TrainingRun, result: dict[str, Any]) -> None:
    last, best = result["evaluations"][-1], result["best"]
    when = ", finished before; nothing was trained now" if result["finished_before"] else ""
    lines = [
        f"{run.spec.algorithm} in {run.spec.env_id}, seed {run.spec.seed}: {last['steps']} steps, "
        f"{result['seconds']:.0f} s{when}",
        f"on {run.episodes} unseen noise paths: {_quality(last)}",
    ]
    if best is not None:
        lines.append(f"best after {best['steps']} steps: {_quality(best['evaluation'])}")
    lines.append(f"use it: --agents sb3:{run.policy_path}")
    if best is not None:
        lines.append(f"or the best: --agents sb3:{run.best_path}")
    print("\n".join(lines))


def _quality(found: Mapping[str, Any]) -> str:
    """An evaluation in words; what could not be measured is a dash."""

    def number(name: str, digits: int) -> str:
        value = found[name]
        return "-" if value is None else f"{value:.{digits}f}"

    return (
        f"score {number('score', 1)}, regret {number('regret', 1)} (median {number('median_regret', 1)}), "
        f"flip rate {number('flip_rate', 2)}, Runaway Index {number('runaway_index', 3)}, "
        f"median onset {number('onset', 0)}"
    )
