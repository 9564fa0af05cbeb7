"""Frames per second of PPO training over our VecEnv against Stable-Baselines3's usual `make_vec_env`.

    python scripts/benchmark_training.py

Both sides train the same network with the same settings in the same environment, in turns, in one process;
only the vectorisation differs. Frames per second are those of whole trainings, first calls (compilation,
imports) left out; given is the median over the rounds and the ratio of the medians. The share of time in
the environment is taken around its `step`. One thread, so that the ratio does not depend on the number of
cores. The more often the learner goes over the frames of an update, the less the environment matters: the
ratio is given for several numbers of passes. The table goes to ``docs/reinforcement_learning.md``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from _page import fill
from homeostasis_agents.sb3.spec import versions
from homeostasis_agents.sb3.vec_env import HomeostasisVecEnv
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

import homeostasis_gym  # noqa: F401

ENV = "Homeostasis-MOHoN-v0"
FRAMES = 8192  # collected between two updates, whatever the number of lanes


def ours(lanes: int) -> VecEnv:
    env = gym.make_vec(
        ENV,
        num_envs=lanes,
        vectorization_mode="vector_entry_point",
        scalarization="linear",
        autoreset_mode="SameStep",
    )
    return VecMonitor(HomeostasisVecEnv(env.unwrapped))


def usual(lanes: int) -> VecEnv:
    return make_vec_env(ENV, n_envs=lanes, env_kwargs={"scalarization": "linear"})


class Timed:
    """Counts the time inside `step` of a VecEnv."""

    def __init__(self, env: VecEnv) -> None:
        self.seconds = 0.0
        for name in ("step_async", "step_wait"):
            setattr(env, name, self._timed(getattr(env, name)))

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            began = time.perf_counter()
            result = function(*args)
            self.seconds += time.perf_counter() - began
            return result

        return timed


def train(make: Callable[[int], VecEnv], lanes: int, frames: int, epochs: int) -> tuple[float, float]:
    """Frames per second of a training, and the environment's share of its time."""
    env = make(lanes)
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=max(1, FRAMES // lanes),
        batch_size=2048,
        n_epochs=epochs,
        seed=0,
        device="cpu",
    )
    model.learn(FRAMES)
    timed = Timed(env)
    began = time.perf_counter()
    model.learn(frames)
    seconds = time.perf_counter() - began
    done = -(-frames // FRAMES) * FRAMES
    env.close()
    return done / seconds, timed.seconds / seconds


def measure(epochs: int, lanes: int, frames: int, rounds: int) -> dict[str, Any]:
    """Both sides in turns: medians over the rounds, and their ratio."""
    rates: dict[str, list[float]] = {"ours": [], "usual": []}
    shares: dict[str, list[float]] = {"ours": [], "usual": []}
    for _ in range(rounds):
        for name, make in (("ours", ours), ("usual", usual)):
            rate, share = train(make, lanes, frames, epochs)
            rates[name].append(rate)
            shares[name].append(share)
    row: dict[str, Any] = {"epochs": epochs, "lanes": lanes}
    for name in rates:
        row[f"{name}_fps"] = statistics.median(rates[name])
        row[f"{name}_env_share"] = statistics.median(shares[name])
    row["ratio"] = row["ours_fps"] / row["usual_fps"]
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each number of passes and lanes, and one for each side's best number of lanes."""
    lines = [
        "| passes over the frames | lanes | our `VecEnv`, frames/s | `make_vec_env`, frames/s | ratio "
        "| environment's share of the time |",
        "|---|---|---|---|---|---|",
    ]
    for epochs in dict.fromkeys(row["epochs"] for row in rows):
        mine = [row for row in rows if row["epochs"] == epochs]
        lines += [
            f"| {epochs} | {row['lanes']} | {row['ours_fps']:,.0f} | {row['usual_fps']:,.0f} "
            f"| {row['ratio']:.2f} "
            f"| {row['ours_env_share']:.1%} in place of {row['usual_env_share']:.1%} |"
            for row in mine
        ]
        best = [max(row[f"{name}_fps"] for row in mine) for name in ("ours", "usual")]
        lines.append(
            f"| {epochs} | each side's best | {best[0]:,.0f} | {best[1]:,.0f} | {best[0] / best[1]:.2f} | |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lanes", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--frames", type=int, default=8 * FRAMES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--epochs", type=int, nargs="+", default=[1, 2, 4, 10], help="passes over the frames per update"
    )
    parser.add_argument("--data", type=Path, default=Path("docs/figures/training_speed.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/reinforcement_learning.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    rows = [
        measure(epochs, lanes, arguments.frames, arguments.rounds)
        for epochs in arguments.epochs
        for lanes in arguments.lanes
    ]
    data = {"rows": rows, "machine": platform.platform(), "versions": versions()}
    arguments.data.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    text = table(rows)
    print(text)
    return fill(arguments.page, "speed", text)


if __name__ == "__main__":
    sys.exit(main())
