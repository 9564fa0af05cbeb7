"""homeostasis-gym: environments with values to keep in balance, agents, and instruments of collapse.

Importing this package registers its environments with Gymnasium.
"""

from homeostasis_gym.agent import Agent, Attempt, Decision, Task, make_agent
from homeostasis_gym.errors import HomeostasisError
from homeostasis_gym.registration import register_all

__all__ = ["Agent", "Attempt", "Decision", "HomeostasisError", "Task", "make_agent"]
__version__ = "0.1.0"

register_all()
