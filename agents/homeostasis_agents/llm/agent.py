"""The language-model agent: five parts put together.

The conversation is written once, as a generator that asks for replies (`LanguageModelAgent.deciding`).
`LanguageModelAgent.act` answers it from a blocking client; an asynchronous program answers it in its own
way, and both get the same decisions from the same replies.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from homeostasis_agents.llm import prompts
from homeostasis_agents.llm.checks import check_choice, check_flag
from homeostasis_agents.llm.client import Client, Constraint, ContextFullError, Message, Reply, Request
from homeostasis_agents.llm.history import History, HistoryPolicy, Turn
from homeostasis_agents.llm.parser import PARSINGS, Parsing, Reading, ReplyParser
from homeostasis_agents.llm.prompts import PromptBuilder, PromptSpec
from homeostasis_gym.agent import Attempt, Decision, Task, no_op
from homeostasis_gym.core.benchmark import check_integer
from homeostasis_gym.errors import HomeostasisError

__all__ = ["ConversationSettings", "LanguageModelAgent", "Question"]

Question: TypeAlias = Generator[Request, "Reply | ContextFullError", Decision]
"""Yields requests, takes replies (or the news that the context is full), returns the decision."""

_SHOWN_OF_REFUSED = 200
"""Characters of a refused reply that the model is shown when it is asked again."""


@dataclass(frozen=True)
class ConversationSettings:
    """How the agent talks, whatever it talks to.

    Args:
        prompt: What the model is told.
        history: What it is shown of what was.
        parsing: ``strict`` or ``lenient``, see `homeostasis_agents.llm.parser`.
        constrained: Force every reply into the declared format while it is decoded. This cures
            invalid replies, not behaviour, and it changes behaviour: a condition, never a default.
        retries: How often an invalid reply is asked again, with the reason, before the step is
            marked invalid.
        on_invalid: What an invalid step leads to: ``no-op`` (nothing is done, the episode goes on) or
            ``end`` (the episode ends with this step, and stays unscored).
        max_tokens: Most tokens of one reply.
        context_tokens: Longest conversation, None for what the client says. The instructions, a turn and its
            reply must fit.
    """

    prompt: PromptSpec = field(default_factory=PromptSpec)
    history: HistoryPolicy = field(default_factory=HistoryPolicy)
    parsing: Parsing = "strict"
    constrained: bool = False
    retries: int = 2
    on_invalid: Literal["no-op", "end"] = "no-op"
    max_tokens: int = 24
    context_tokens: int | None = None

    def __post_init__(self) -> None:
        check_choice("parsing", self.parsing, PARSINGS)
        check_flag("constrained", self.constrained)
        check_integer("retries", self.retries, 0, 100)
        check_choice("on_invalid", self.on_invalid, ("no-op", "end"))
        check_integer("max_tokens", self.max_tokens, 1)
        if self.context_tokens is not None:
            check_integer("context_tokens", self.context_tokens, 1)
            if self.context_tokens < 2 * self.max_tokens:
                raise HomeostasisError(
                    f"`context_tokens` must be at least twice `max_tokens` ({self.max_tokens}), "
                    f"got {self.context_tokens}"
                )


class LanguageModelAgent:
    """Plays a task by talking to a model.

    Args:
        task: What is to be played.
        client: Whoever answers.
        settings: How to talk.
    """

    def __init__(self, task: Task, client: Client, settings: ConversationSettings | None = None) -> None:
        self.task = task
        self.client = client
        self.settings = settings = settings or ConversationSettings()
        _, limit = prompts.action_limits(task)
        labels = prompts.objective_labels(task, settings.prompt.labels)
        self.parser = ReplyParser(labels, limit, settings.prompt.answer, settings.parsing)
        self.prompts = PromptBuilder(task, settings.prompt, self.parser)
        self._constraint: Constraint | None = None
        if settings.constrained:
            forms = {"grammar"} | ({"schema"} if settings.prompt.answer == "json" else set())
            if not forms & client.constraints:
                wanted = "; answer=json may help" if "schema" in client.constraints else ""
                raise HomeostasisError(
                    f"`constrained` needs a backend that forces {' or '.join(sorted(forms))}, which "
                    f"{client.name} does not{wanted}"
                )
        self._limit = settings.context_tokens or client.context_tokens
        if settings.context_tokens is not None:
            self._check_room(settings.context_tokens)
        self.reset(0)

    @property
    def record(self) -> Mapping[str, Any]:
        """What every record says of this agent: model, prompt version and fingerprint, settings."""
        return {
            "model": self.client.name,
            "client": dict(getattr(self.client, "record", {})),
            "prompt_version": prompts.VERSION,
            "prompt_fingerprint": self.prompts.fingerprint,
            "conversation": asdict(self.settings),
        }

    def reset(self, seed: int) -> None:
        """Begin a new conversation."""
        self._seed = seed
        self._asked = 0
        self._history = History(self.settings.history)
        self._wasted = False
        self._ended = False
        self._tokens = 0  # of the last request, as the backend counted them
        self._characters = 0

    def act(self, observation: Any, info: Mapping[str, Any]) -> Decision:
        """Ask the model for one step's action."""
        question = self.deciding(observation, info)
        try:
            request = next(question)
            while True:
                answer: Reply | ContextFullError
                try:
                    answer = self.client.complete(request)
                except ContextFullError as error:
                    answer = error
                request = question.send(answer)
        except StopIteration as done:
            decision: Decision = done.value
            return decision

    def deciding(self, observation: Any, info: Mapping[str, Any]) -> Question:
        """One step's conversation, for whoever has the replies.

        Args:
            observation: See `homeostasis_gym.agent.Agent.act`.
            info: See there.

        Yields:
            Requests; send the reply to each.

        Returns:
            The decision.
        """
        if self._ended:
            return Decision(None, end=True)
        if info.get("your_turn") is False:
            # Nothing that this seat says would count: it is not asked, and nothing is paid.
            return Decision(no_op(self.task.action_space))
        attempts: list[Attempt] = []
        yield from self._summarise(attempts)
        if self.settings.constrained:
            self._constraint = self.parser.constraint(self._allowed(observation))
        said = self.prompts.observation(observation, info.get("last_reward"), wasted=self._wasted)
        extra: list[Message] = []  # refused replies and what was said to them, gone after this step
        units: NDArray[np.int64] | None = None
        for _ in range(self.settings.retries + 1):
            told = extra[-1].content if extra else said
            reply, first = yield from self._ask(said, extra)
            reading = self._judge(reply, observation)
            attempts.append(reply.attempt(f"{first}{told}", reading.error))
            if reading.units is not None:
                units = np.asarray(reading.units, dtype=np.int64)
                break
            extra += [
                Message("assistant", reply.text[:_SHOWN_OF_REFUSED]),
                Message("user", self.prompts.feedback(reading.error)),
            ]
        self._wasted = units is None
        self._ended = units is None and self.settings.on_invalid == "end"
        if units is not None:
            # Refused replies leave no trace in the conversation: a model copies what it finds there.
            self._history.append(Turn(said, reply.text))
        if units is None:
            return Decision(None, tuple(attempts), end=self._ended)
        return Decision(self.task.action(units), tuple(attempts))

    # Parts of a step.

    def _check_room(self, limit: int) -> None:
        """Raise HomeostasisError unless the instructions, one turn and its reply fit into the context."""
        turn = Message("user", self.prompts.observation(np.zeros(self.prompts.components)))
        least = _most_tokens([*self.prompts.opening(), turn]) + self.settings.max_tokens
        if least > limit:
            raise HomeostasisError(
                f"`context_tokens` must have room for the instructions, a turn and its reply, which may take "
                f"{least} tokens (two bytes a token, and `max_tokens`), got {limit}"
            )

    def _ask(
        self, said: str, extra: list[Message]
    ) -> Generator[Request, Reply | ContextFullError, tuple[Reply, str]]:
        """Send the conversation, with less history where it does not fit.

        Returns:
            The reply, and what the model was told before this step's message for the first time
            (the instructions, on the first request of an episode).
        """
        opening = self.prompts.opening()
        first = "" if self._asked else "".join(f"[{m.role}] {m.content}\n" for m in opening)
        while True:
            messages = [*opening, *self._history.messages(), Message("user", said), *extra]
            size = self._size(messages)
            if self._limit is not None and size + self.settings.max_tokens > self._limit:
                if self._history.drop_oldest_half():
                    self._tokens = 0
                    continue
                if len(extra) > 2:
                    # This turn alone fills the context with refused replies: show the last one only.
                    del extra[:-2]
                    continue
            request = self._request(messages)
            answer = yield request
            if isinstance(answer, ContextFullError):
                if self._history.drop_oldest_half():
                    self._tokens = 0
                    continue
                raise answer
            self._remember_size(messages, answer)
            return answer, first

    def _request(self, messages: list[Message], *, free: bool = False) -> Request:
        fresh = self._asked == 0
        mixed = hashlib.sha256(f"{self._seed}:{self._asked}".encode()).digest()
        self._asked += 1
        return Request(
            messages=tuple(messages),
            max_tokens=4 * self.settings.max_tokens if free else self.settings.max_tokens,
            fresh=fresh,
            seed=int.from_bytes(mixed[:4], "big") >> 1,
            constraint=None if free else self._constraint,
        )

    def _size(self, messages: list[Message]) -> int:
        """Upper bound of the conversation's tokens: what was counted last, and a token per new byte."""
        characters = _characters(messages)
        if self._tokens and characters >= self._characters:
            return self._tokens + characters - self._characters
        return _most_tokens(messages)  # nothing counted for this conversation yet

    def _remember_size(self, messages: list[Message], reply: Reply) -> None:
        if reply.usage.prompt >= 0:
            self._tokens = reply.usage.prompt
            self._characters = _characters(messages)

    def _judge(self, reply: Reply, observation: Any) -> Reading:
        reading = self.parser.parse(reply.text, cut_off=reply.cut_off)
        benchmark = self.task.benchmark
        if reading.units is None or benchmark is None:
            return reading
        why = benchmark.why_forbidden(np.asarray(observation), np.asarray(reading.units, dtype=np.int64))
        return Reading(None, why) if why else reading

    def _allowed(self, observation: Any) -> list[tuple[int, ...]] | None:
        """Every action that the rules allow now, None where there are too many to list."""
        benchmark = self.task.benchmark
        if benchmark is None:
            return None
        seen, count = np.asarray(observation), len(self.parser.labels)

        def fits(units: tuple[int, ...]) -> bool:
            return not benchmark.why_forbidden(seen, np.asarray(units, dtype=np.int64))

        if self.parser.limit > _MOST_LISTED and fits((_MOST_LISTED,) + (0,) * (count - 1)):
            return None
        most = 0
        while most < self.parser.limit and fits((most + 1,) + (0,) * (count - 1)):
            most += 1
        if (most + 1) ** count > _MOST_LISTED**2:
            return None
        return [units for units in itertools.product(range(most + 1), repeat=count) if fits(units)]

    def _summarise(self, attempts: list[Attempt]) -> Generator[Request, Reply | ContextFullError, None]:
        turns = self._history.due_for_summary()
        if not turns:
            return
        told = [(turn.observation, turn.reply) for turn in turns]
        said = self.prompts.summary_request(told, self._history.summary)
        request = self._request([Message("system", self.prompts.system), Message("user", said)], free=True)
        answer = yield request
        if isinstance(answer, ContextFullError):
            self._history.drop_oldest_half()
            return
        text = " ".join(answer.text.split())[:_LONGEST_SUMMARY]
        attempts.append(answer.attempt(f"[summary] {said}", ""))
        self._history.summarise(text, len(turns))
        self._tokens = 0


def _characters(messages: list[Message]) -> int:
    return sum(len(m.content.encode()) + 8 for m in messages)


def _most_tokens(messages: list[Message]) -> int:
    """Text of words and numbers has at least two bytes a token, roles and separators included."""
    return _characters(messages) // 2


_MOST_LISTED = 50
"""Most units of one objective up to which a constrained step lists the allowed actions one by one."""

_LONGEST_SUMMARY = 600
"""Characters of the model's own summary that are carried on."""
