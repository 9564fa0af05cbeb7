"""Agents for the tests of the runner, found as ``probe_agents:NAME``."""

import os
import time
from pathlib import Path

import numpy as np

from homeostasis_gym.agent import Attempt, Decision, traits


class Slow:
    """Takes its time and writes down every episode that it begins."""

    def __init__(self, task, pause=0.01):
        self.pause = pause

    def reset(self, seed):
        self.generator = np.random.default_rng(seed)
        with Path(os.environ["PROBE_LOG"]).open("a") as log:
            log.write(f"{seed}\n")

    def act(self, observation, info):
        time.sleep(self.pause)
        action = self.generator.integers(0, 5, 2)
        return Decision(action, (Attempt("?", str(action.tolist()), seconds=self.pause),))


@traits(slow=True, costs=lambda **settings: lambda attempt: 1.0)
def ponderous(task):
    """Says that it is slow and costs money, and takes no `payments`."""
    return Slow(task)


class Broken:
    """Fails in its third step."""

    def __init__(self, task):
        self.steps = 0

    def reset(self, seed):
        self.steps = 0

    def act(self, observation, info):
        self.steps += 1
        return Decision(np.array([0, 0] if self.steps < 3 else [-1, 0]))


class Speechless:
    """Comes to no decision at every second step, after three refused attempts."""

    def __init__(self, task):
        self.steps = 0

    def reset(self, seed):
        self.steps = 0

    def act(self, observation, info):
        self.steps += 1
        if self.steps % 2:
            return Decision(np.array([0, 0]))
        return Decision(None, (Attempt("?", "well", error="no numbers"),) * 3)


not_callable = 3
