"""How the agents are built from a name and flat settings, as they come from a command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from homeostasis_agents.llm.agent import ConversationSettings, LanguageModelAgent
from homeostasis_agents.llm.checks import check_flag, check_text
from homeostasis_agents.llm.client import ScriptedClient
from homeostasis_agents.llm.history import HistoryPolicy
from homeostasis_agents.llm.prompts import PromptSpec
from homeostasis_gym.agent import Attempt, Task, traits
from homeostasis_gym.core.benchmark import check_integer, check_number
from homeostasis_gym.errors import HomeostasisError

if TYPE_CHECKING:
    from homeostasis_agents.llm.metering import Estimate, Price
    from homeostasis_gym.experiments.payments import Payments

__all__ = ["conversation_settings", "hosted_settings", "llm", "smollm2"]

_RENAMED = {"history": "kind"}
"""Flat settings whose field has another name."""


def conversation_settings(
    settings: Mapping[str, Any], **defaults: Any
) -> tuple[ConversationSettings, dict[str, Any]]:
    """Sort flat settings into prompt, history and conversation.

    Args:
        settings: Any of the fields of `PromptSpec`, `HistoryPolicy` (its ``kind`` is called
            ``history``) and `ConversationSettings`. The labels are words, or one text with a bar between
            any two of them: commas already stand between the agents of a command line.
        **defaults: Values for what `settings` leaves out.

    Returns:
        The settings, and what belongs to none of the three.
    """
    rest = {**defaults, **settings}
    prompt = _taken(rest, PromptSpec)
    if prompt.get("labels") is not None:
        prompt["labels"] = _labels(prompt["labels"])
    history = _taken(rest, HistoryPolicy)
    talk = _taken(rest, ConversationSettings, but=("prompt", "history"))
    return (
        ConversationSettings(prompt=PromptSpec(**prompt), history=HistoryPolicy(**history), **talk),
        rest,
    )


def named_settings(parts: Sequence[str]) -> dict[str, Any]:
    """Settings as they stand in an agent's name: ``NAME:VALUE`` each, the value JSON or a bare word.

    A switch is ``true`` or ``false``, as in JSON; ``yes``, ``no``, ``on`` and ``off`` are words.

    Raises:
        HomeostasisError: A part of another form.
    """
    found = {}
    for part in parts:
        name, colon, value = part.partition(":")
        if not colon or not name.isidentifier():
            raise HomeostasisError(f"a setting in an agent's name must be NAME:VALUE, got {part!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


@traits(slow=True)
def smollm2(task: Task, argument: str = "", **settings: Any) -> LanguageModelAgent:
    """A real language model of 135 million parameters, in this process, without key or network.

    Args:
        task: What is to be played.
        argument: Settings in the name: ``smollm2:history:blind+retries:1``.
        **settings: See `conversation_settings`, and ``threads``, ``temperature``, ``logprobs``,
            ``prompt_cache`` of `homeostasis_agents.llm.embedded.SmolLM2Client`.

    Raises:
        MissingExtraError: The runtime or the weights are not installed.
        HomeostasisError: Unknown setting, or one that cannot be used.
    """
    from homeostasis_agents.llm.embedded import SmolLM2Client

    settings = {**named_settings(argument.split("+") if argument else []), **settings}
    talk, rest = conversation_settings(settings, example=True)
    names = ("threads", "temperature", "logprobs", "prompt_cache")
    own = {name: rest.pop(name) for name in names if name in rest}
    refuse_unknown("smollm2", rest, names)
    return LanguageModelAgent(task, SmolLM2Client(**own), talk)


def _hosted_costs(
    *, prices: Path | None = None, argument: str = "", **settings: Any
) -> Callable[[Attempt], float] | None:
    """Price of an exchange in dollars, see `homeostasis_gym.agent.Traits`."""
    from homeostasis_agents.llm.metering import known_price

    model, settings = _named_model(argument, settings)
    price = known_price(model, settings.get("prices", prices))
    return None if price.free else price.of_attempt


def _hosted_estimate(
    task: Task, *, episodes: int, prices: Path | None = None, argument: str = "", **settings: Any
) -> str:
    """What episodes are expected to take, see `homeostasis_gym.agent.Traits`."""
    from homeostasis_agents.llm.hosted import require

    require()
    model, settings = _named_model(argument, settings)
    talk, _, price_of, max_cost = hosted_settings("llm", {"prices": prices, **settings})
    if max_cost is not None:
        raise HomeostasisError(
            "`max_cost` must be given for the whole command, as --max-cost DOLLARS, and not for one agent: "
            f"a higher one would make it another agent, got {max_cost}"
        )
    return str(_estimate(task, talk, price_of(model), episodes))


def _estimate(task: Task, talk: ConversationSettings, price: Price | None, episodes: int = 1) -> Estimate:
    from homeostasis_agents.llm.metering import estimate

    free = replace(talk, constrained=False)  # what is told to the model is the same
    opening = LanguageModelAgent(task, ScriptedClient(()), free).prompts.opening()
    steps = getattr(task.benchmark, "episode_length", 100)
    return estimate(talk, "".join(m.content for m in opening), steps, price, episodes=episodes)


def _named_model(argument: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model, and the settings in the agent's name with those beside it.

    Raises:
        HomeostasisError: No model.
    """
    model, *given = argument.split("+")
    if not model:
        raise HomeostasisError("agent llm needs a model behind a colon, such as llm:openai/gpt-4o-mini")
    return model, {**named_settings(given), **settings}


@traits(slow=True, costs=_hosted_costs, estimate=_hosted_estimate)
def llm(
    task: Task, argument: str = "", *, payments: Payments | None = None, **settings: Any
) -> LanguageModelAgent:
    """A language model of any provider that Inspect AI knows: ``llm:openai/gpt-4o-mini``.

    Keys come from the environment alone, under the names that the provider gives them.

    Args:
        task: What is to be played.
        argument: The model, in Inspect's words, and settings behind plus signs:
            ``llm:openai/gpt-4o-mini+history:window+hint:true``. ``smollm2/135m`` is the embedded model,
            by this road.
        payments: Given by a run, see `homeostasis_gym.experiments.payments`: what was paid for before is not
            asked again, and the run's limit holds. The run tells the estimate.
        **settings: See `conversation_settings`; ``temperature``, ``backend``, ``base_url``, ``logprobs``,
            ``connections`` of `homeostasis_agents.llm.hosted.InspectClient`; ``attempt_timeout``,
            ``give_up_after`` and ``request_retries`` (how long a failing request is tried);
            ``prices`` (price file) and, outside of a run, ``max_cost`` (dollars for this agent).

    Raises:
        MissingExtraError: Inspect AI is not installed.
        HomeostasisError: No model, a missing key, an unknown setting.
    """
    from homeostasis_agents.llm.hosted import InspectClient
    from homeostasis_agents.llm.metering import Meter, MeteredClient, say

    model, settings = _named_model(argument, settings)
    talk, options, price_of, max_cost = hosted_settings("llm", {"temperature": 0.0, **settings})
    price = price_of(model)
    client = InspectClient(model, **options)
    metered = MeteredClient(client, Meter(price, max_cost), payments)
    if payments is None:
        metered.before_first = lambda: say(f"{model}: {_estimate(task, talk, price)}")
    return LanguageModelAgent(task, metered, talk)


def hosted_settings(
    agent: str, settings: Mapping[str, Any]
) -> tuple[ConversationSettings, dict[str, Any], Callable[[str], Price | None], float | None]:
    """Sort the settings of an agent that asks through Inspect.

    Returns:
        How to talk, the arguments for `homeostasis_agents.llm.hosted.InspectClient`, a function that gives
        a model's price, and the most dollars to be spent.

    Raises:
        HomeostasisError: Unknown setting, or one that cannot be used.
    """
    from homeostasis_agents.llm.hosted import RetryLimits
    from homeostasis_agents.llm.metering import known_price, read_prices

    talk, rest = conversation_settings(settings)
    names = {
        "attempt_timeout": "attempt_timeout",
        "give_up_after": "give_up_after",
        "request_retries": "retries",
    }
    tried = {inner: rest.pop(name) for name, inner in names.items() if name in rest}
    own = ("temperature", "backend", "base_url", "logprobs", "connections")
    options = {name: rest.pop(name) for name in own if name in rest}
    path, max_cost = rest.pop("prices", None), rest.pop("max_cost", None)
    refuse_unknown(agent, rest, (*names, *own, "prices", "max_cost"))
    _check_hosted(options, path, max_cost)
    for name, inner in names.items():
        if inner in tried:
            check_integer(name, tried[inner], 0 if inner == "retries" else 1)
    options |= {"limits": RetryLimits(**tried), "context_tokens": talk.context_tokens}

    prices = read_prices(path)

    def price_of(model: str) -> Price | None:
        return prices.get(model) if max_cost is None else known_price(model, path)

    return talk, options, price_of, max_cost


def refuse_unknown(agent: str, rest: Mapping[str, Any], own: Sequence[str] = ()) -> None:
    """Raise HomeostasisError if a setting is left over.

    Args:
        agent: The agent's name.
        rest: What is left over.
        own: Names of the agent's settings beside those of a conversation.
    """
    if rest:
        known = sorted({*_outer_names(PromptSpec), *_outer_names(HistoryPolicy), *_TALK, *own})
        raise HomeostasisError(
            f"agent {agent} does not know the settings {', '.join(sorted(rest))}; it knows {', '.join(known)}"
        )


def _check_hosted(options: Mapping[str, Any], path: Any, max_cost: Any) -> None:
    if options.get("temperature") is not None:
        check_number("temperature", options["temperature"], 0.0, 10.0)
    if "logprobs" in options:
        check_flag("logprobs", options["logprobs"])
    if options.get("connections") is not None:
        check_integer("connections", options["connections"], 1)
    if options.get("base_url") is not None:
        check_text("base_url", options["base_url"])
    if path is not None and not isinstance(path, Path):
        check_text("prices", path)
    if max_cost is not None:
        check_number("max_cost", max_cost, 0.0)


def _labels(given: Any) -> tuple[Any, ...]:
    if isinstance(given, str):
        return tuple(word.strip() for word in given.split("|"))
    if isinstance(given, Sequence):
        return tuple(given)
    raise HomeostasisError(f"`labels` must be words with | between them, got {given!r}")


def _taken(rest: dict[str, Any], kind: type, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Take the fields of a dataclass out of `rest`."""
    return {
        inner: rest.pop(outer)
        for outer, inner in _outer_names(kind).items()
        if inner not in but and outer in rest
    }


def _outer_names(kind: type) -> dict[str, str]:
    """Names of a dataclass's fields as the user knows them, with those in the code."""
    names = {value: key for key, value in _RENAMED.items()} if kind is HistoryPolicy else {}
    return {names.get(item.name, item.name): item.name for item in fields(kind)}


_TALK = frozenset(_outer_names(ConversationSettings)) - {"prompt", "history"}
