"""Tunes a Stable-Baselines3 algorithm for an environment with Optuna.

    python scripts/tune_sb3.py --algo PPO --env Homeostasis-MOHoN-v0 --trials 24 --write

Each trial trains with fewer steps than a real training and is judged by its mean regret on noise paths that
no other part of the project uses. The first trial is what the settings file holds now. Trials are kept in a
journal: the same command goes on where it stopped; they are also written to ``docs/figures/tuning.json``.
With ``--write`` the best settings go to ``agents/homeostasis_agents/sb3/settings.json`` beside the command
that found them.

Needs ``pip install optuna``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import optuna
from homeostasis_agents.sb3 import spec as specs
from homeostasis_agents.sb3.evaluation import BestPolicy, play, quality, unseen_noise
from homeostasis_agents.sb3.policy import policy_of
from homeostasis_agents.sb3.training import train

SETTINGS = Path(specs.__file__).with_name("settings.json")
VALIDATION = 1  # number of the set of noise paths; 0 judges segments, 2 the baseline table


def present(algorithm: str, env_id: str) -> dict[str, Any]:
    """The settings of now by the names that `propose` uses; what it does not ask for is passed over."""
    settings = specs.settings_for(algorithm, env_id)
    known = {**settings, **settings["arguments"]}
    known["one_minus_gamma"] = 1.0 - known["gamma"]
    return {name: value for name, value in known.items() if isinstance(value, int | float)}


def propose(trial: optuna.Trial, algorithm: str, env_id: str) -> dict[str, Any]:
    """Settings to try: what the first experiments showed to matter. Those of now are among the choices."""
    known = present(algorithm, env_id)

    def choice(name: str, *usual: float) -> Any:
        return trial.suggest_categorical(name, sorted({*usual, known.get(name, usual[0])}))

    arguments: dict[str, Any] = {"gamma": 1.0 - trial.suggest_float("one_minus_gamma", 0.008, 0.2, log=True)}
    changes: dict[str, Any] = {
        "learning_rate": trial.suggest_float("learning_rate", 5e-4, 6e-3, log=True),
        "arguments": arguments,
    }
    if "component_limit" in known:  # not where nothing is damped
        changes["component_limit"] = choice("component_limit", 30.0, 50.0, 100.0, 150.0, 300.0)
    if algorithm in ("PPO", "A2C", "RecurrentPPO"):
        arguments["ent_coef"] = trial.suggest_float("ent_coef", 0.005, 0.1, log=True)
        arguments["gae_lambda"] = choice("gae_lambda", 0.0, 0.3, 0.6)
    if algorithm in ("PPO", "RecurrentPPO"):
        arguments["n_epochs"] = trial.suggest_int("n_epochs", 2, 10)
    if algorithm == "PPO":
        arguments["n_steps"] = choice("n_steps", 10, 20, 50)
        changes["envs"] = choice("envs", 256, 512, 1024)
    if algorithm == "A2C":
        arguments["n_steps"] = choice("n_steps", 5, 10, 20)
    if algorithm in ("DQN", "SAC"):
        # The others normalise advantages; values learned step by step have to resolve single units.
        changes["reward_scale"] = choice("reward_scale", 0.001, 0.003, 0.01)
        arguments["gradient_steps"] = choice("gradient_steps", 1, 2, 4)
        arguments["batch_size"] = choice("batch_size", 256, 512, 1024)
    if algorithm == "DQN":
        arguments["target_update_interval"] = choice("target_update_interval", 1280, 6400, 12800)
    if algorithm == "SAC":
        arguments["ent_coef"] = trial.suggest_float("ent_coef", 0.002, 0.2, log=True)
    return changes


def regret_of(spec: specs.TrainingSpec, episodes: int) -> float:
    """Train, and play the best segment's policy on the validation paths."""
    best = BestPolicy(spec)
    model = train(spec, on_segment=best)
    best.put_into(model)
    noise = unseen_noise(best.benchmark, episodes, VALIDATION)
    return quality(play(policy_of(model, spec), best.benchmark, noise)).regret


def keep(path: Path, name: str, study: optuna.Study) -> None:
    """Write every finished trial of a study into the file of all studies."""
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    held[name] = [
        {"mean_regret": round(math.sinh(trial.value or math.nan), 2), **trial.params}
        for trial in study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    ]
    # One trial a line.
    studies = [
        f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(trial) for trial in trials) + "\n]"
        for key, trials in sorted(held.items())
    ]
    path.write_text("{\n" + ",\n".join(studies) + "\n}\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--algo", default="PPO", choices=list(specs.ALGORITHMS))
    parser.add_argument("--env", default="Homeostasis-MOHoN-v0")
    parser.add_argument("--trials", type=int, default=24, help="trials in all, earlier ones counted")
    parser.add_argument("--steps", type=int, default=500_000, help="environment steps per trial")
    parser.add_argument("--seeds", type=int, default=1, help="training seeds per trial")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs/tuning"))
    parser.add_argument("--data", type=Path, default=Path("docs/figures/tuning.json"), help="all trials")
    parser.add_argument("--write", action="store_true", help="write the best into settings.json")
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    name = f"{arguments.algo}-{arguments.env}-{arguments.steps}-{arguments.seeds}-{arguments.episodes}"
    backend = optuna.storages.journal.JournalFileBackend(str(arguments.out / f"{name}.journal"))
    study = optuna.create_study(
        study_name=name,
        storage=optuna.storages.JournalStorage(backend),
        sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=6),
        load_if_exists=True,
    )

    def objective(trial: optuna.Trial) -> float:
        changes = propose(trial, arguments.algo, arguments.env)
        regrets = [
            regret_of(
                specs.make_spec(
                    arguments.algo, arguments.env, seed=1000 + k, steps=arguments.steps, **changes
                ),
                arguments.episodes,
            )
            for k in range(arguments.seeds)
        ]
        trial.set_user_attr("settings", changes)
        # Regrets span orders of magnitude, and may be negative where the reference can be beaten.
        return math.asinh(sum(regrets) / len(regrets))

    if not study.trials:
        study.enqueue_trial(present(arguments.algo, arguments.env))
    done = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    if done < arguments.trials:
        study.optimize(objective, n_trials=arguments.trials - done)
    keep(arguments.data, name, study)
    best = study.best_trial
    found = best.user_attrs["settings"]
    trials = len(study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
    print(json.dumps({"mean_regret": math.sinh(best.value), "trials": trials, "settings": found}, indent=2))
    if arguments.write:
        table = json.loads(SETTINGS.read_text(encoding="utf-8"))
        own = table[arguments.algo].setdefault(arguments.env, {})
        base = {**table[arguments.algo]["default"], **own}
        own.update({k: v for k, v in found.items() if k != "arguments"})
        own["arguments"] = {**base["arguments"], **found["arguments"]}
        own["tuned_by"] = (
            f"scripts/tune_sb3.py --algo {arguments.algo} --env {arguments.env} --trials {trials} "
            f"--steps {arguments.steps} --seeds {arguments.seeds}"
        )
        SETTINGS.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
