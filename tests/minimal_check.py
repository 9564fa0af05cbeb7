"""Run by CI with the wheel and its core dependencies alone: what must work without any extra."""

import subprocess
import sys
import time

started = time.perf_counter()
import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402

bare = time.perf_counter() - started
started = time.perf_counter()
import homeostasis_gym  # noqa: E402, F401

print(f"import: gymnasium and numpy {bare:.2f} s, homeostasis_gym {time.perf_counter() - started:.2f} s more")
heavy = {"numba", "torch", "pandas", "scipy", "matplotlib", "pyarrow", "pettingzoo"} & set(sys.modules)
if heavy:
    raise SystemExit(f"importing homeostasis_gym imported {heavy}")

from homeostasis_gym import Task, make_agent  # noqa: E402
from homeostasis_gym.rollout import rollout  # noqa: E402

for env_id in sorted(i for i in gym.registry if i.startswith("Homeostasis-")):
    env = gym.make(env_id)
    agent = make_agent("random", Task.from_env(env))
    trajectory = rollout(env, agent, seed=3)
    vector = gym.make_vec(env_id, num_envs=3, vectorization_mode="vector_entry_point")
    vector.reset(seed=3)
    _, rewards, *_ = vector.step(vector.action_space.sample())
    if not (np.isfinite(trajectory.rewards).all() and np.isfinite(rewards).all()):
        raise SystemExit(f"{env_id}: a reward is not finite")
    print(f"{env_id}: {len(trajectory)} steps, score {trajectory.score:.1f}")

# Every verb that needs an extra says so in one line.
command = [sys.executable, "-m", "homeostasis_gym.cli", "compare", "--episodes", "1"]
answer = subprocess.run(command, capture_output=True, text=True, check=False)
if answer.returncode != 2 or "pip install" not in answer.stderr or "Traceback" in answer.stderr:
    raise SystemExit(f"compare without extras: status {answer.returncode}, {answer.stderr!r}")
print(answer.stderr.strip())
print("1 passed, 0 failed")
