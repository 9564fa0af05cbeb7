"""One table of environment ids; nothing is imported before an environment is made."""

from __future__ import annotations

import gymnasium as gym

__all__ = ["ENVIRONMENTS", "register_all"]

# id -> (scalar entry point, vector entry point). A change of dynamics or rewards means a new version.
ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "Homeostasis-Single-v0": (
        "homeostasis_gym.envs.single:SingleEnv",
        "homeostasis_gym.envs.single:SingleVectorEnv",
    ),
    "Homeostasis-MOHoN-v0": (
        "homeostasis_gym.envs.mohon:MOHoNEnv",
        "homeostasis_gym.envs.mohon:MOHoNVectorEnv",
    ),
    "Homeostasis-MOBUO-v0": (
        "homeostasis_gym.envs.mobuo:MOBUOEnv",
        "homeostasis_gym.envs.mobuo:MOBUOVectorEnv",
    ),
    "Homeostasis-MOBUON-v0": (
        "homeostasis_gym.envs.mobuon:MOBUONEnv",
        "homeostasis_gym.envs.mobuon:MOBUONVectorEnv",
    ),
    "Homeostasis-Sustainability-v0": (
        "homeostasis_gym.envs.sustainability:SustainabilityEnv",
        "homeostasis_gym.envs.sustainability:SustainabilityVectorEnv",
    ),
    "Homeostasis-SleepWake-v0": (
        "homeostasis_gym.envs.sleepwake:SleepWakeEnv",
        "homeostasis_gym.envs.sleepwake:SleepWakeVectorEnv",
    ),
    "Homeostasis-ValueGraph-v0": (
        "homeostasis_gym.envs.value_graph:ValueGraphEnv",
        "homeostasis_gym.envs.value_graph:ValueGraphVectorEnv",
    ),
}


def register_all() -> None:
    """Register every environment with Gymnasium; safe to call again."""
    for env_id, (entry_point, vector_entry_point) in ENVIRONMENTS.items():
        if env_id not in gym.registry:
            gym.register(
                env_id,
                entry_point=entry_point,
                vector_entry_point=vector_entry_point,
                # No max_episode_steps: it would cut a longer `episode_length`. The environments truncate
                # their episodes themselves; who needs it in the spec gives it to `gymnasium.make`.
                # Gymnasium's passive checker takes a vector reward for a mistake and warns.
                disable_env_checker=True,
                # Our environments check the order of calls themselves; a wrapper would double the check.
                order_enforce=False,
            )
