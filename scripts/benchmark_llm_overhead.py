"""What a step costs beside the model: our agent's loop, and the same episode through Inspect AI.

    python scripts/benchmark_llm_overhead.py            # both, 100 steps, full history
    python scripts/benchmark_llm_overhead.py --realtime # Inspect with its log written while the task runs

The model answers at once from this process, so that what is measured is ours, Inspect's and Python's. CPU
time of the process is what counts; wall time on a busy machine says little.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import gymnasium as gym
import numpy as np
from homeostasis_agents.llm import LanguageModelAgent, Reply, ScriptedClient, Usage

import homeostasis_gym
from homeostasis_gym.agent import Task
from homeostasis_gym.rollout import rollout

REPLY = "12, 11"


def ours(steps: int) -> tuple[float, list[float]]:
    """CPU milliseconds per step of our loop, and of each step's decision."""
    env = gym.make("Homeostasis-MOHoN-v0", max_consumption=None, episode_length=steps)
    client = ScriptedClient(lambda request: Reply(REPLY, usage=Usage(30, 30 * len(request.messages), 8)))
    agent = LanguageModelAgent(Task.from_env(env), client)
    rollout(env, agent, seed=1)  # compiled kernels are loaded here
    spent: list[float] = []
    act = agent.act

    def timed(observation, info):
        began = time.process_time()
        decision = act(observation, info)
        spent.append(1000 * (time.process_time() - began))
        return decision

    agent.act = timed  # type: ignore[method-assign]
    began = time.process_time()
    rollout(env, agent, seed=1)
    return 1000 * (time.process_time() - began) / steps, spent


def through_inspect(steps: int, episodes: int, realtime: bool) -> float:
    """CPU milliseconds per step of a whole Inspect evaluation, its logs included."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    def answer(said, tools, tool_choice, config):
        output = ModelOutput.from_content("mockllm/model", REPLY)
        # Without usage Inspect would count tokens itself and fetch a table for it from the network.
        output.usage = ModelUsage(input_tokens=30, output_tokens=8, total_tokens=38)
        return output

    def run(episodes: int, steps: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            model = get_model("mockllm/model", custom_outputs=answer, memoize=False)
            began = time.process_time()
            log = inspect_eval(
                "homeostasis_gym/mohon",
                model=model,
                task_args={"episodes": episodes, "steps": steps},
                log_dir=folder,
                display="none",
                log_realtime=realtime,
            )[0]
            assert log.status == "success", log.error
            return 1000 * (time.process_time() - began)

    run(1, 2)
    # What an evaluation costs as such is measured with episodes of one step and taken off.
    return (run(episodes, steps) - run(episodes, 1)) / (episodes * (steps - 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=3, help="episodes through Inspect")
    parser.add_argument("--realtime", action="store_true", help="Inspect writes its log while the task runs")
    arguments = parser.parse_args()
    print(f"homeostasis-gym {homeostasis_gym.__version__}, {arguments.steps} steps, full history")
    mean, steps = ours(arguments.steps)
    print(f"ours: {mean:.2f} ms of CPU a step (decisions: first ten {np.mean(steps[:10]):.2f}, ", end="")
    print(f"last ten {np.mean(steps[-10:]):.2f})")
    cost = through_inspect(arguments.steps, arguments.episodes, arguments.realtime)
    kind = "realtime log" if arguments.realtime else "log written at the end"
    print(f"through Inspect, {kind}: {cost:.2f} ms of CPU a step")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
