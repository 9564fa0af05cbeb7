"""Models behind Inspect AI's model layer: every hosted and local provider that it knows.

Inspect brings the providers, their retries and their rate limits. Left alone it retries for ever; here
every request has a deadline (`RetryLimits`), after which the run stops with one line that says so, and what
was finished is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from homeostasis_agents.llm.client import ClientError, ContextFullError, Message, Reply, Request, Usage
from homeostasis_agents.llm.guard import UnreadableReplyError, guard, listening
from homeostasis_agents.llm.scrubbing import check_address, scrubbed
from homeostasis_gym.errors import HomeostasisError, MissingExtraError

__all__ = ["BACKENDS", "InspectClient", "RetryLimits", "scrubbed"]

INSTALL = "pip install 'homeostasis-gym[llm]'"

BACKENDS: tuple[str, ...] = ("", "llama.cpp")
"""Servers of which more is known than OpenAI's protocol: ``llama.cpp`` takes grammars and lets a
conversation begin with an empty prefix cache."""


@dataclass(frozen=True)
class RetryLimits:
    """How long a failing request is tried.

    Args:
        attempt_timeout: Seconds after which one attempt is given up.
        give_up_after: Seconds after which the request is given up, waits between attempts included.
        retries: Most attempts after the first.
    """

    attempt_timeout: int = 60
    give_up_after: int = 180
    retries: int = 8

    def __post_init__(self) -> None:
        if self.attempt_timeout < 1 or self.give_up_after < 1:
            raise HomeostasisError(
                "`attempt_timeout` and `give_up_after` must be at least 1 second, got "
                f"{self.attempt_timeout} and {self.give_up_after}"
            )
        if self.retries < 0:
            raise HomeostasisError(f"`retries` of a request must be at least 0, got {self.retries}")


class InspectClient:
    """Asks a model through Inspect AI.

    Args:
        model: Inspect's name of the model (``openai/gpt-4o-mini``, ``ollama/llama3.2``,
            ``openai-api/SERVICE/MODEL``), or one of its ``Model`` objects.
        temperature: Of sampling; None for the model's own setting or the provider's default.
        backend: See `BACKENDS`.
        base_url: Address of the server, where it is not the provider's own; without user and password.
        limits: How long a failing request is tried.
        context_tokens: Longest conversation, None when unknown.
        logprobs: Whether to ask for log-probabilities.
        connections: Requests at once; None for what the provider and Inspect's options say.
        run: Runs an asynchronous call and waits for it; by default in an event loop of our own, in a
            thread in the background.

    Raises:
        MissingExtraError: Inspect AI is not installed.
        HomeostasisError: No such model, or its key is not in the environment.
    """

    def __init__(
        self,
        model: Any,
        *,
        temperature: float | None = None,
        backend: str = "",
        base_url: str | None = None,
        limits: RetryLimits | None = None,
        context_tokens: int | None = None,
        logprobs: bool = False,
        connections: int | None = None,
        run: Callable[[Callable[[], Awaitable[Any]]], Any] | None = None,
    ) -> None:
        if backend not in BACKENDS:
            raise HomeostasisError(f"`backend` must be '' or 'llama.cpp', got {backend!r}")
        if connections is not None and connections < 1:
            raise HomeostasisError(f"`connections` must be at least 1, got {connections}")
        if base_url is not None:
            check_address("base_url", base_url, str(model))
        self._library = library = _library()
        self.limits = limits or RetryLimits()
        self._run = run or _LOOP.run
        self.context_tokens = context_tokens
        self.backend = backend
        self.temperature = temperature
        self.logprobs = logprobs
        self.connections = connections
        self.constraints = frozenset({"schema"} | ({"grammar"} if backend == "llama.cpp" else set()))
        if isinstance(model, str):
            try:
                # A memoised model would be shared between event loops.
                model = library.get_model(model, base_url=base_url, memoize=False)
            except MissingExtraError:
                raise
            except Exception as error:  # providers raise whatever they like
                raise HomeostasisError(f"`model` {model!r} cannot be used: {scrubbed(error)}") from None
            # Open connections end with the client that made them.
            weakref.finalize(self, _close, model.api, self._run)
        guard(model.api)
        self._model = model
        self._known: list[tuple[Message, Any]] = []
        self._limit_reached = _limit_reached()
        if self.temperature is None:
            self.temperature = model.config.temperature
        self.base_url = base_url
        self.name = str(model)
        if self.name.startswith("smollm2/"):
            self.backend = "llama.cpp"
            self.constraints = frozenset({"grammar", "schema"})

    @property
    def record(self) -> Mapping[str, Any]:
        """What every record says of this client."""
        return {
            "runtime": f"inspect-ai {version('inspect-ai')}",
            "temperature": self.temperature,
            "backend": self.backend,
            "base_url": self.base_url,
            "limits": asdict(self.limits),
        }

    def complete(self, request: Request) -> Reply:
        """Answer a request, with retries until the limits are reached."""
        start = time.perf_counter()
        output = self._run(lambda: self.output(request))
        return self.read(output, time.perf_counter() - start)

    async def output(self, request: Request) -> Any:
        """Inspect's answer to a request.

        Raises:
            ClientError: The model could not be asked.
        """
        import anyio  # comes with Inspect

        messages = self._messages(request)
        started = time.monotonic()
        with listening() as heard:
            try:
                # Inspect looks at its deadline only between attempts; this one holds in the middle of a wait.
                with anyio.fail_after(self.limits.give_up_after):
                    return await self._model.generate(messages, config=self._config(request), cache=False)
            except (self._limit_reached, HomeostasisError):
                raise  # Inspect's own limits on a sample, and what we ourselves have to say
            except UnreadableReplyError as error:
                return _Unreadable(str(error))
            except Exception as error:  # providers raise whatever they like
                waited = time.monotonic() - started
                raise ClientError(
                    f"{self.name} could not be asked; gave up after {waited:.0f} s (at most "
                    f"{self.limits.retries} retries within {self.limits.give_up_after} s): "
                    f"{heard.failure or scrubbed(error)}"
                ) from None

    def read(self, output: Any, seconds: float) -> Reply:
        """Inspect's answer as a reply.

        Raises:
            ContextFullError: The conversation was too long.
        """
        if isinstance(output, _Unreadable):
            # It was paid for: it counts as a reply that cannot be used, and is asked again as such.
            return Reply("", f"unreadable ({output.reason})", seconds=seconds)
        if not output.choices:
            return Reply("", "empty", seconds=seconds)
        if output.stop_reason == "model_length":
            raise ContextFullError(f"the context of {self.name} is full")
        usage = output.usage
        tokens = Usage()
        if usage is not None:
            # Inspect's input tokens leave out what came from the cache.
            uncached = usage.input_tokens + (usage.input_tokens_cache_write or 0)
            tokens = Usage(uncached, usage.input_tokens_cache_read or 0, usage.output_tokens)
        logprobs = output.choices[0].logprobs
        return Reply(
            text=output.completion,
            finish_reason=output.stop_reason,
            usage=tokens,
            logprobs=() if logprobs is None else tuple(t.logprob for t in logprobs.content),
            seconds=seconds,
        )

    def _messages(self, request: Request) -> list[Any]:
        """The conversation as Inspect's objects, the same ones as long as the conversation only grows.

        Inspect knows a message again by its id: new objects would be logged in full at every step.
        """
        before, same = self._known, 0  # never changed in place: several conversations may share a client
        for (known, _), message in zip(before, request.messages, strict=False):
            if known != message:
                break
            same += 1
        kinds = {
            "system": self._library.ChatMessageSystem,
            "user": self._library.ChatMessageUser,
            "assistant": self._library.ChatMessageAssistant,
        }
        new = [(m, kinds[m.role](content=m.content)) for m in request.messages[same:]]
        self._known = [*before[:same], *new]
        return [theirs for _, theirs in [*before[:same], *new]]

    def _config(self, request: Request) -> Any:
        extra: dict[str, Any] = {}
        schema = None
        if self.backend == "llama.cpp":
            extra["cache_prompt"] = not request.fresh
        if request.constraint is not None:
            if self.backend == "llama.cpp":
                extra["grammar"] = request.constraint.grammar
            elif request.constraint.schema is not None:
                schema = self._library.ResponseSchema(
                    name="reply", json_schema=request.constraint.schema, strict=True
                )
        return self._library.GenerateConfig(
            max_tokens=request.max_tokens,
            temperature=self.temperature,
            seed=request.seed if self.temperature else None,
            logprobs=self.logprobs or None,
            max_retries=self.limits.retries,
            timeout=self.limits.give_up_after,
            attempt_timeout=self.limits.attempt_timeout,
            max_connections=self.connections,
            response_schema=schema,
            extra_body=extra or None,
        )


def _close(api: Any, run: Callable[[Callable[[], Awaitable[Any]]], Any]) -> None:
    with contextlib.suppress(Exception):  # nothing depends on it, and the loop may be gone at exit
        run(api.aclose)


@dataclass(frozen=True)
class _Unreadable:
    reason: str


class _Loop:
    """An event loop in a thread of its own, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="llm", daemon=True)
                self._thread.start()

        async def awaited() -> Any:
            return await call()

        future = asyncio.run_coroutine_threadsafe(awaited(), self._loop)
        # Nobody waits for what the loop's own thread asks for: a finaliser may run there.
        return None if threading.get_ident() == self._thread.ident else future.result()


_LOOP = _Loop()


def _limit_reached() -> type[Exception]:
    from inspect_ai.util import LimitExceededError

    return LimitExceededError


def require() -> None:
    """Check that Inspect AI and the providers' client are installed, without importing them.

    Raises:
        MissingExtraError: One of them is not.
    """
    for name in ("inspect_ai", "openai"):
        try:
            found = importlib.util.find_spec(name)
        except ImportError:
            found = None
        if found is None:
            raise MissingExtraError(f"Inspect AI with its providers ({name})", INSTALL)


def _library() -> Any:
    require()
    try:
        import inspect_ai.model
        import openai  # noqa: F401 (Inspect imports it at the first call, and fails there)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"Inspect AI with its providers ({error.name})", INSTALL) from error
    except ImportError as error:
        raise HomeostasisError(f"Inspect AI is installed and cannot be imported: {error}") from error
    return inspect_ai.model
