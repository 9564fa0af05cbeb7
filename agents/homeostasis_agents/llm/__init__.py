"""Language-model agents: client, prompts, history, parser, and the agent that joins them.

`smollm2` plays with the model that comes with the package's extra ``local``: real, offline, without a key.
"""

from homeostasis_agents.llm.agent import ConversationSettings, LanguageModelAgent
from homeostasis_agents.llm.client import (
    Client,
    ClientError,
    Constraint,
    ContextFullError,
    Message,
    RecordedClient,
    Reply,
    Request,
    ScriptedClient,
    Usage,
)
from homeostasis_agents.llm.factories import llm, smollm2
from homeostasis_agents.llm.history import HistoryPolicy
from homeostasis_agents.llm.parser import ReplyParser
from homeostasis_agents.llm.prompts import PromptBuilder, PromptSpec
from homeostasis_agents.llm.recorded import RecordedAgent, recorded

__all__ = [
    "Client",
    "ClientError",
    "Constraint",
    "ContextFullError",
    "ConversationSettings",
    "HistoryPolicy",
    "LanguageModelAgent",
    "Message",
    "PromptBuilder",
    "PromptSpec",
    "RecordedAgent",
    "RecordedClient",
    "Reply",
    "ReplyParser",
    "Request",
    "ScriptedClient",
    "Usage",
    "llm",
    "recorded",
    "smollm2",
]
