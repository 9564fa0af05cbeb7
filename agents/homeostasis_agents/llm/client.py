"""What an agent says to a language model and what comes back: the smallest protocol that carries it.

A client turns a `Request` into a `Reply`. It does not know of environments, and it keeps no
conversation of its own: every request carries all of its messages. Retrying a failed connection is the
client's matter; asking again after an unusable reply is the agent's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from homeostasis_gym.agent import Attempt
from homeostasis_gym.errors import HomeostasisError

__all__ = [
    "Client",
    "ClientError",
    "Constraint",
    "ContextFullError",
    "Message",
    "RecordedClient",
    "Reply",
    "Request",
    "Role",
    "ScriptedClient",
    "Usage",
]

Role: TypeAlias = Literal["system", "user", "assistant"]

_LONGEST_STORED_REPLY = 100_000
"""Characters of one reply that are kept; a longer one is cut there and its finish reason says so."""


class ClientError(HomeostasisError):
    """The model could not be asked; whatever was finished before stays recorded."""


class ContextFullError(ClientError):
    """The conversation does not fit the model's context."""


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True)
class Constraint:
    """What a constrained reply must match; at most one of the two forms is used by a backend.

    Attributes:
        grammar: GBNF grammar, for backends of the llama.cpp family.
        schema: JSON schema of an object, None where the answer format is no JSON object.
    """

    grammar: str
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Request:
    """One question to the model.

    Attributes:
        messages: The whole conversation, oldest first; the last message is the user's.
        max_tokens: Most tokens of the reply.
        fresh: Whether an episode begins with this request: a client that keeps a prefix cache starts
            from an empty one, so that an episode never depends on the one before.
        seed: Seed for sampling, for backends that take one.
        constraint: What the reply is forced to match, None for free replies.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    fresh: bool = False
    seed: int | None = None
    constraint: Constraint | None = None


@dataclass(frozen=True)
class Usage:
    """Tokens of one exchange, as the backend counted them; -1 where it did not say.

    Attributes:
        uncached: Prompt tokens that were read.
        cached: Prompt tokens that came from a prefix cache.
        completion: Tokens written.
    """

    uncached: int = -1
    cached: int = -1
    completion: int = -1

    @property
    def prompt(self) -> int:
        """All prompt tokens, cached or not; -1 when unknown."""
        return -1 if self.uncached < 0 else self.uncached + max(0, self.cached)


@dataclass(frozen=True)
class Reply:
    """What the model answered.

    Attributes:
        text: The raw text.
        finish_reason: Why it ended, in the backend's word (``stop``, ``length``, ...).
        usage: Tokens.
        logprobs: Log-probability of every token written, empty where the backend gave none.
        seconds: Wall time of the exchange.
    """

    text: str
    finish_reason: str = "stop"
    usage: Usage = field(default_factory=Usage)
    logprobs: tuple[float, ...] = ()
    seconds: float = 0.0

    def __post_init__(self) -> None:
        # Lone surrogates cannot be written as UTF-8, and a record must be able to hold any reply.
        text = self.text.encode("utf-8", "replace").decode("utf-8")
        if len(text) > _LONGEST_STORED_REPLY:
            object.__setattr__(self, "finish_reason", f"{self.finish_reason}, cut from {len(text)}")
            text = text[:_LONGEST_STORED_REPLY]
        object.__setattr__(self, "text", text)

    @property
    def cut_off(self) -> bool:
        """Whether the limit on its tokens ended it, in llama.cpp's word or in Inspect's."""
        return self.finish_reason.startswith(("length", "max_tokens"))

    def attempt(self, prompt: str, error: str) -> Attempt:
        """This exchange as the record keeps it."""
        return Attempt(
            prompt=prompt,
            reply=self.text,
            error=error,
            finish_reason=self.finish_reason,
            prompt_tokens=self.usage.uncached,
            cached_tokens=self.usage.cached,
            completion_tokens=self.usage.completion,
            seconds=self.seconds,
            logprobs=self.logprobs,
        )

    @classmethod
    def recorded(cls, attempt: Attempt) -> Reply:
        """The reply of a recorded exchange."""
        usage = Usage(attempt.prompt_tokens, attempt.cached_tokens, attempt.completion_tokens)
        return cls(attempt.reply, attempt.finish_reason, usage, attempt.logprobs, attempt.seconds)


@runtime_checkable
class Client(Protocol):
    """Anything that answers requests.

    Attributes:
        name: Name of the model, for records.
        context_tokens: Longest conversation that the model takes, None when unknown.
        constraints: Which forms of `Constraint` the backend obeys, of ``grammar`` and ``schema``.
    """

    name: str
    context_tokens: int | None
    constraints: frozenset[str]

    def complete(self, request: Request) -> Reply:
        """Answer a request.

        Raises:
            ContextFullError: The conversation is too long for the model.
            ClientError: The model could not be asked, retries included.
        """


Script: TypeAlias = Sequence[str | Reply | Exception] | Callable[[Request], "str | Reply | Exception"]


class ScriptedClient:
    """Answers with given replies, for tests and examples.

    Args:
        script: Replies in their order, or a function of the request. An exception is raised in place
            of a reply.
        name: Name for records.
        context_tokens: See `Client`.
        constraints: See `Client`.
    """

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted",
        context_tokens: int | None = None,
        constraints: frozenset[str] = frozenset(),
    ) -> None:
        self.name = name
        self.context_tokens = context_tokens
        self.constraints = constraints
        self.requests: list[Request] = []
        self._script = script

    def complete(self, request: Request) -> Reply:
        """Give the next reply of the script."""
        index = len(self.requests)
        self.requests.append(request)
        if callable(self._script):
            answer = self._script(request)
        elif index < len(self._script):
            answer = self._script[index]
        else:
            raise ClientError(f"the script holds {len(self._script)} replies, and one more was asked for")
        if isinstance(answer, Exception):
            raise answer
        return Reply(answer) if isinstance(answer, str) else answer


class RecordedClient(ScriptedClient):
    """Gives stored replies again, in their order, with the tokens and times that were recorded.

    What the model is told must be what it was told then; an exchange that holds no prompt is not compared.

    Args:
        attempts: Exchanges of one episode, in their order.
        name: Name of the model that once gave them.
        constraints: See `Client`; replies that were forced into a form were recorded in that form.
    """

    def __init__(
        self,
        attempts: Sequence[Attempt],
        *,
        name: str = "recorded",
        constraints: frozenset[str] = frozenset({"grammar", "schema"}),
    ) -> None:
        super().__init__([Reply.recorded(a) for a in attempts], name=name, constraints=constraints)
        self._prompts = [a.prompt for a in attempts]

    def complete(self, request: Request) -> Reply:
        """Give the next reply.

        Raises:
            ClientError: The record holds no more, or the model is told something else than it was then.
        """
        index = len(self.requests)
        if index < len(self._prompts) and self._prompts[index]:
            _compare(index, self._prompts[index], request.messages)
        return super().complete(request)


def _compare(index: int, recorded: str, messages: Sequence[Message]) -> None:
    """Raise ClientError unless a request says what the record says that it said."""
    told = messages[-1].content
    opening = "".join(f"[{m.role}] {m.content}\n" for m in messages[:-1])
    if recorded in (told, opening + told, f"[summary] {told}"):
        return
    if recorded.startswith("[system] "):
        told = opening + told
    same = next(
        (i for i, (a, b) in enumerate(zip(recorded, told, strict=False)) if a != b),
        min(len(recorded), len(told)),
    )
    begin = max(0, same - 20)
    raise ClientError(
        f"request {index + 1} must say what the record holds, but differs at character {same + 1}: "
        f"{recorded[begin : same + 20]!r} was recorded, got {told[begin : same + 20]!r}"
    )
