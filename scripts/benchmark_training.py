"""Frames per second of PPO training over our VecEnv against Stable-Baselines3's usual `make_vec_env`.

    python scripts/benchmark_training.py

Both sides train the same network with the same settings in the same environment, in turns, in one process;
only the vectorisation differs. Frames per second are those of whole trainings, first calls (compilation,
imports) left out; given is the median over the rounds and the ratio of the medians. The share of time in
the environment is taken around its `step`. One thread, so that the ratio does not depend on the number of
cores.
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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lanes", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--frames", type=int, default=8 * FRAMES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="passes over the frames per update")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    rows = []
    for lanes in arguments.lanes:
        rates: dict[str, list[float]] = {"ours": [], "usual": []}
        shares: dict[str, list[float]] = {"ours": [], "usual": []}
        for _ in range(arguments.rounds):
            for name, make in (("ours", ours), ("usual", usual)):
                rate, share = train(make, lanes, arguments.frames, arguments.epochs)
                rates[name].append(rate)
                shares[name].append(share)
        row: dict[str, Any] = {"lanes": lanes}
        for name in rates:
            row[f"{name}_fps"] = statistics.median(rates[name])
            row[f"{name}_env_share"] = statistics.median(shares[name])
        row["ratio"] = row["ours_fps"] / row["usual_fps"]
        rows.append(row)
        told = [
            f"{name} {row[f'{name}_fps']:8.0f} frames/s, {row[f'{name}_env_share']:.1%} in the environment"
            for name in rates
        ]
        print(f"{lanes:5d} lanes: {'; '.join(told)}; ratio {row['ratio']:.2f}", flush=True)
    best = {name: max(row[f"{name}_fps"] for row in rows) for name in ("ours", "usual")}
    ratio = best["ours"] / best["usual"]
    print(f"each side's best: {best['ours']:.0f} against {best['usual']:.0f}, ratio {ratio:.2f}")
    if arguments.out is not None:
        data = {
            "rows": rows,
            "best_ratio": ratio,
            "epochs": arguments.epochs,
            "machine": platform.platform(),
            "versions": versions(),
        }
        arguments.out.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
