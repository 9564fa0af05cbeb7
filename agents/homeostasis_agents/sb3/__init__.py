"""Stable-Baselines3 agents: trained on the spot (`ppo`), or loaded from a file (`sb3:PATH`).

Nothing here imports Stable-Baselines3 or PyTorch before an agent is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from homeostasis_gym.agent import Task
from homeostasis_gym.errors import HomeostasisError, MissingExtraError

if TYPE_CHECKING:
    from homeostasis_agents.sb3.policy import PolicyAgent

__all__ = ["load", "ppo"]


def ppo(
    task: Task,
    *,
    scalarization: str | Mapping[str, Any] = "linear",
    training_seed: int = 0,
    steps: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> PolicyAgent:
    """PPO, trained on the spot for the task's benchmark and kept in the cache folder.

    Args:
        task: The seat; it must have a benchmark of ours, whose dynamics the agent trains in.
        scalarization: What the agent maximises: a name or a mapping for
            `homeostasis_gym.core.make_scalarization`. ``linear`` is the published score.
        training_seed: Seed of the training. The same seed gives the same weights.
        steps: Environment steps to train for, by default as many as the settings say.
        progress: Called with the finished share of the training, 0 to 1.

    Raises:
        MissingExtraError: Stable-Baselines3 is not installed.
        HomeostasisError: The task is none that this agent can train for.
    """
    require()
    from homeostasis_agents.sb3.cache import cached_policy
    from homeostasis_agents.sb3.policy import PolicyAgent
    from homeostasis_agents.sb3.spec import spec_for_task

    spec = spec_for_task("PPO", task, scalarization=scalarization, seed=training_seed, steps=steps)
    return PolicyAgent(cached_policy(spec, progress=progress), task)


def load(task: Task, argument: str, *, algorithm: str | None = None) -> PolicyAgent:
    """A trained policy from a file: ``sb3:PATH``.

    A file that ``homeostasis-gym train`` wrote is rebuilt from its plain description and its weights, and
    runs no code. Any other Stable-Baselines3 zip is a pickle, which can run whatever its author wished: it
    is loaded with a warning that says so.

    Args:
        task: The seat.
        argument: Path of the zip file.
        algorithm: Name of the algorithm, for a zip file that does not say it.

    Raises:
        MissingExtraError: Stable-Baselines3 is not installed.
        HomeostasisError: The file is missing, broken, of another major version, or made for other spaces.
    """
    require()
    from homeostasis_agents.sb3.policy import PolicyAgent, is_seat, load_any
    from homeostasis_gym.core.value_graph import ValueGraphSeat

    if isinstance(task.benchmark, ValueGraphSeat) and is_seat(argument):
        from homeostasis_agents.sb3.value_graph import seat_agent

        return seat_agent(argument, task)
    return PolicyAgent(load_any(argument, task, algorithm), task)


def require(package: str = "stable_baselines3", command: str = "pip install 'homeostasis-gym[rl]'") -> None:
    """Check that Stable-Baselines3 and another package are installed and can be imported.

    Args:
        package: Import name.
        command: What installs it.

    Raises:
        MissingExtraError: It is not installed.
        HomeostasisError: It is installed and cannot be imported.
    """
    import importlib

    for module, name in (("stable_baselines3", "Stable-Baselines3"), (package, package.replace("_", "-"))):
        try:
            importlib.import_module(module)
        except (
            ImportError,
            OSError,
        ) as error:  # PyTorch's own libraries may be missing or of another machine
            if isinstance(error, ModuleNotFoundError) and error.name in (module, "torch"):
                raise MissingExtraError(name, command) from error
            raise HomeostasisError(f"{name} is installed and cannot be imported: {error}") from error
