"""How the agents are built from a name and flat settings, as they come from a command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from homeostasis_agents.llm.agent import ConversationSettings, LanguageModelAgent
from homeostasis_agents.llm.history import HistoryPolicy
from homeostasis_agents.llm.prompts import PromptSpec
from homeostasis_gym.agent import Task
from homeostasis_gym.errors import HomeostasisError

__all__ = ["conversation_settings", "smollm2"]

_RENAMED = {"history": "kind"}
"""Flat settings whose field has another name."""


def conversation_settings(
    settings: Mapping[str, Any], **defaults: Any
) -> tuple[ConversationSettings, dict[str, Any]]:
    """Sort flat settings into prompt, history and conversation.

    Args:
        settings: Any of the fields of `PromptSpec`, `HistoryPolicy` (its ``kind`` is called
            ``history``) and `ConversationSettings`.
        **defaults: Values for what `settings` leaves out.

    Returns:
        The settings, and what belongs to none of the three.
    """
    rest = {**defaults, **settings}
    prompt = _taken(rest, PromptSpec)
    if prompt.get("labels") is not None:
        prompt["labels"] = tuple(prompt["labels"])
    history = _taken(rest, HistoryPolicy)
    talk = _taken(rest, ConversationSettings, but=("prompt", "history"))
    return (
        ConversationSettings(prompt=PromptSpec(**prompt), history=HistoryPolicy(**history), **talk),
        rest,
    )


def smollm2(task: Task, **settings: Any) -> LanguageModelAgent:
    """A real language model of 135 million parameters, in this process, without key or network.

    Args:
        task: What is to be played.
        **settings: See `conversation_settings`, and ``threads``, ``temperature``, ``logprobs`` of
            `homeostasis_agents.llm.embedded.SmolLM2Client`.

    Raises:
        MissingExtraError: The runtime or the weights are not installed.
        HomeostasisError: Unknown setting, or one that cannot be used.
    """
    from homeostasis_agents.llm.embedded import SmolLM2Client

    talk, rest = conversation_settings(settings, example=True)
    own = {name: rest.pop(name) for name in ("threads", "temperature", "logprobs") if name in rest}
    refuse_unknown("smollm2", rest)
    return LanguageModelAgent(task, SmolLM2Client(**own), talk)


def refuse_unknown(agent: str, rest: Mapping[str, Any]) -> None:
    """Raise HomeostasisError if a setting is left over."""
    if rest:
        raise HomeostasisError(f"agent {agent} does not know the settings {', '.join(sorted(rest))}")


def _taken(rest: dict[str, Any], kind: type, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Take the fields of a dataclass out of `rest`."""
    found = {}
    names = {value: key for key, value in _RENAMED.items()} if kind is HistoryPolicy else {}
    for item in fields(kind):
        outer = names.get(item.name, item.name)
        if item.name not in but and outer in rest:
            found[item.name] = rest.pop(outer)
    return found
