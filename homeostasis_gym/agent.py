"""The one interface behind which every kind of agent stands, and how agents are found by name.

An agent is anything with ``reset(seed)`` and ``act(observation, info) -> Decision``. It is built by a
factory ``factory(task, **settings)``, which is named by an entry point of the group
``homeostasis_gym.agents`` (ours are registered there exactly as a stranger's would be) or given as
``module:attribute``. A name may carry an argument for its factory after a colon
(``sb3:policy.zip``): what stands behind the colon is passed as the setting ``argument``.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, TypeVar, runtime_checkable

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.errors import HomeostasisError, UnknownNameError

__all__ = [
    "Agent",
    "AgentFactory",
    "Attempt",
    "Decision",
    "Task",
    "Traits",
    "agent_factory",
    "agent_names",
    "agent_traits",
    "make_agent",
    "traits",
]

ENTRY_POINT_GROUP = "homeostasis_gym.agents"


@dataclass(frozen=True)
class Attempt:
    """One exchange with whatever makes the decision (for a language model: one request).

    Attributes:
        prompt: What was newly said to the model for this attempt; earlier messages are in earlier
            steps of the record.
        reply: The raw reply, as it came.
        error: Why the reply was not accepted, empty when it was.
        finish_reason: The provider's word for why the reply ended (``stop``, ``length``, ...).
        prompt_tokens: Tokens read, cached ones not counted; -1 when unknown.
        cached_tokens: Tokens taken from a prefix cache; -1 when unknown.
        completion_tokens: Tokens written; -1 when unknown.
        seconds: Wall time of the exchange.
        logprobs: Log-probability of every token written, where they were asked for.
    """

    prompt: str
    reply: str
    error: str = ""
    finish_reason: str = ""
    prompt_tokens: int = -1
    cached_tokens: int = -1
    completion_tokens: int = -1
    seconds: float = 0.0
    logprobs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "logprobs", tuple(self.logprobs))  # a list where it was read from a file


@dataclass(frozen=True)
class Decision:
    """What an agent decided at one step.

    Attributes:
        action: Array that the environment's action space contains, or None when the agent came to
            no valid decision. The loop then does nothing for the agent (an action of zeros) and marks
            the step as invalid; it never invents an action silently.
        attempts: Every exchange that led here, the refused ones included; empty for agents that
            do not converse.
        end: Whether the agent ends the episode: this step is done, and it is the last. An episode that the
            agent ended before its time is recorded as such and stays unscored.
    """

    action: NDArray[Any] | int | None
    attempts: tuple[Attempt, ...] = ()
    end: bool = False

    @property
    def valid(self) -> bool:
        """Whether a valid decision was reached."""
        return self.action is not None


@dataclass(frozen=True)
class Task:
    """What an agent may know of its seat before the first step.

    Attributes:
        env_id: Gymnasium id, or the PettingZoo environment's name.
        observation_space: Space of the observations that `Agent.act` receives.
        action_space: Space that holds the actions.
        reward_names: Name of every component of the vector reward, in its order.
        benchmark: The parameters of the dynamics (a frozen dataclass of `homeostasis_gym.core`), with
            the handwritten policies in ``benchmark.policies``. None for an environment that is not ours.
        seat: The agent's name in an environment with several agents, empty otherwise.
    """

    env_id: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    reward_names: tuple[str, ...] = ()
    benchmark: Any = None
    seat: str = ""

    @classmethod
    def from_env(cls, env: gym.Env[Any, Any]) -> Task:
        """Describe a Gymnasium environment, ours or anyone's."""
        inner = env.unwrapped
        return cls(
            env_id=env.spec.id if env.spec is not None else type(inner).__name__,
            observation_space=env.observation_space,
            action_space=env.action_space,
            reward_names=tuple(getattr(inner, "reward_names", ())),
            benchmark=getattr(inner, "benchmark", None),
        )

    def action(self, units: ArrayLike) -> NDArray[Any] | int:
        """Put counts of units per objective into the form of the action space.

        Args:
            units: Whole numbers, shape (objectives,).

        Returns:
            The counts themselves for ``MultiDiscrete`` and ``Box``, their number in the flattened
            ``Discrete`` space.

        Raises:
            HomeostasisError: The action space does not hold these counts.
        """
        space = self.action_space
        action: Any = np.asarray(units)
        if isinstance(space, gym.spaces.Discrete) and self.benchmark is not None:
            shape = (self.benchmark.action_limit + 1,) * self.benchmark.objectives
            if np.all((action >= 0) & (action <= self.benchmark.action_limit)):
                action = int(np.ravel_multi_index(tuple(int(u) for u in action), shape))
        elif space.dtype is not None:
            action = action.astype(space.dtype)
        if not space.contains(action):
            raise HomeostasisError(f"`units` must be an action of {space}, got {np.asarray(units).tolist()}")
        return action  # type: ignore[no-any-return]


@runtime_checkable
class Agent(Protocol):
    """Anything that can act: a rule, a trained policy, a language model."""

    def reset(self, seed: int) -> None:
        """Forget the last episode; draw whatever is random in the next one from `seed`."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> Decision:
        """Decide on one step.

        Args:
            observation: The environment's observation.
            info: The environment's info. From the second step on the loop adds
                ``info["last_reward"]``, the vector reward of the step before (float array,
                ``(reward_dim,)``).
        """


class AgentFactory(Protocol):
    """Builds an agent for a task."""

    def __call__(self, task: Task, **settings: Any) -> Agent:
        """Build the agent; `settings` are the user's."""


@dataclass(frozen=True)
class Traits:
    """What a factory says of its agents before one is built.

    Attributes:
        slow: Whether an episode takes minutes: a comparison plays fewer episodes of a slow agent where it is
            not told how many.
        costs: For agents that cost money: ``costs(prices=PATH or None, **settings)`` gives a function from an
            `Attempt` to its price in dollars, or None where the model is free, and raises `HomeostasisError`
            where no price is known. The factory then takes the setting ``payments``, a
            `homeostasis_gym.experiments.payments.Payments`, and asks it before every request.
        estimate: ``estimate(task, episodes=N, prices=PATH or None, **settings)`` says in one line what so
            many episodes are expected to take; it is told before the first of them begins.
    """

    slow: bool = False
    costs: Callable[..., Callable[[Attempt], float] | None] | None = None
    estimate: Callable[..., str] | None = None


_Factory = TypeVar("_Factory", bound=Callable[..., Any])


def traits(**said: Any) -> Callable[[_Factory], _Factory]:
    """Decorate a factory with its `Traits`, given by name."""

    def mark(factory: _Factory) -> _Factory:
        factory.traits = Traits(**said)  # type: ignore[attr-defined]
        return factory

    return mark


def agent_traits(name: str) -> Traits:
    """What the factory of an agent says of it, see `Traits`; the defaults where it says nothing.

    Raises:
        UnknownNameError: No such agent.
    """
    found = getattr(agent_factory(name)[0], "traits", None)
    return found if isinstance(found, Traits) else Traits()


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def agent_names() -> tuple[str, ...]:
    """Names under which installed packages offer agents, sorted."""
    return tuple(sorted(_registered()))


def agent_factory(name: str) -> tuple[Callable[..., Agent], dict[str, Any]]:
    """Find the factory for an agent's name.

    Args:
        name: ``NAME``, ``NAME:ARGUMENT`` with a registered NAME, or ``module:attribute``.

    Returns:
        The factory, and the settings that the name itself carries.

    Raises:
        UnknownNameError: No such agent.
        MissingExtraError: The agent exists, but the extra that it needs is not installed.
    """
    points = _registered()
    if name in points:
        return points[name].load(), {}
    head, colon, tail = name.partition(":")
    if colon and head in points:
        return points[head].load(), {"argument": tail}
    if colon:
        try:
            found = importlib.import_module(head)
            for part in tail.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise UnknownNameError(
                f"`agent` must be a known name or module:attribute, got {name!r} ({error})"
            ) from error
        if not callable(found):
            raise UnknownNameError(f"`agent` must name a factory, but {name!r} is not callable")
        return found, {}
    raise UnknownNameError(
        f"`agent` must be one of {', '.join(sorted(points))} or module:attribute, got {name!r}"
    )


def make_agent(name: str, task: Task, **settings: Any) -> Agent:
    """Build an agent by name.

    Args:
        name: See `agent_factory`.
        task: What the agent may know of its seat.
        **settings: Passed on to the factory.

    Raises:
        UnknownNameError: No such agent.
        MissingExtraError: The extra that the agent needs is not installed.
        HomeostasisError: The agent cannot play this task, or does not know a setting.
    """
    factory, carried = agent_factory(name)
    arguments = {**carried, **settings}
    signature = inspect.signature(factory)
    wanted = signature.parameters.get("argument")
    if wanted is not None and wanted.default is wanted.empty and "argument" not in arguments:
        raise HomeostasisError(f"agent {name!r} must be given with its argument, as {name}:ARGUMENT")
    try:
        signature.bind(task, **arguments)
    except TypeError as error:
        raise HomeostasisError(
            f"agent {name!r} does not take the settings {sorted(arguments)}: {error}"
        ) from error
    agent = factory(task, **arguments)
    if not isinstance(agent, Agent):
        raise HomeostasisError(
            f"the factory of agent {name!r} must return an object with reset and act, got {agent!r}"
        )
    return agent


def no_op(space: gym.Space[Any]) -> NDArray[Any] | int:
    """The action of doing nothing in an action space: zeros of its shape.

    Raises:
        HomeostasisError: The space does not contain zeros.
    """
    zero: Any = np.zeros(space.shape or (), dtype=space.dtype)
    if not space.shape:
        zero = zero.item()
    if not space.contains(zero):
        raise HomeostasisError(f"`action_space` must contain an action of zeros, got {space}")
    return zero  # type: ignore[no-any-return]
