"""What stands between Inspect AI and a provider.

Inspect writes every failure of a provider to its log before anybody else sees it. So the provider's own
``generate`` is watched (`guard`): secrets leave its errors before Inspect records them, a success without a
completion in it becomes a failure that is tried again, and what went wrong last is remembered for the line
in which a request is given up.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from homeostasis_agents.llm.scrubbing import hidden, hide_in, scrub, scrubbed

__all__ = ["Heard", "NoCompletionError", "UnreadableReplyError", "guard", "listening"]

_SHOWN_OF_BODY = 200
"""Characters of an answer without completion that are told."""

_SILENCE = "no answer came within the time of an attempt (`attempt_timeout`)"


class NoCompletionError(Exception):
    """The server said success, and what it sent is no completion."""


class UnreadableReplyError(Exception):
    """The server sent a completion whose bytes cannot be read."""


class _HiddenError(Exception):
    """Stands for a provider's error that kept a secret where it cannot be taken out."""

    def __init__(self, text: str, retry: Any) -> None:
        super().__init__(text)
        self.retry = retry


@dataclass
class Heard:
    """What is known of the attempts of one request.

    Attributes:
        failure: What went wrong last, in one line without secrets; empty while nothing has.
        status: Status of the last answer of this attempt, 0 before it.
        body: Its body, where it did not come as a stream.
        secrets: What must not be told.
    """

    failure: str = ""
    status: int = 0
    body: bytes = b""
    secrets: list[str] = field(default_factory=list)


_HEARD: ContextVar[Heard | None] = ContextVar("_HEARD", default=None)


@contextlib.contextmanager
def listening() -> Iterator[Heard]:
    """Remember what goes wrong in the requests made inside."""
    heard = Heard()
    token = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(token)


def guard(api: Any) -> None:
    """Watch a provider of Inspect from now on; a second time does nothing.

    Args:
        api: Inspect's ``ModelAPI``. Other users of the same object keep what they had, less the secrets.
    """
    import anyio  # comes with Inspect

    _listen(api)
    if getattr(api, "_guarded", False):
        return
    generate, should_retry = api.generate, api.should_retry

    async def guarded(*args: Any, **kwargs: Any) -> Any:
        heard = _HEARD.get()
        if heard is None:
            heard = Heard()
        _listen(api)  # a provider makes a new HTTP client when its old one was closed
        heard.status, heard.body = 0, b""
        before, heard.failure = heard.failure, ""
        secrets = heard.secrets = _keys(api)
        try:
            result = await generate(*args, **kwargs)
            output, call = result if isinstance(result, tuple) else (result, None)
            if isinstance(output, Exception):
                judged = _judged(output, heard, secrets, should_retry)
                heard.failure = heard.failure or _told(judged, secrets)
                if call is not None:
                    call.response = hide_in(call.response, secrets)
                return judged, call
            if not output.choices and _error_in(heard.body):
                raise _no_completion(heard, secrets)
            return result
        except anyio.get_cancelled_exc_class():
            heard.failure = heard.failure or _silent(before)
            raise
        except Exception as error:
            _hide_in_event(secrets)
            judged = _judged(error, heard, secrets, should_retry)
            if isinstance(judged, NoCompletionError) or not heard.failure:
                heard.failure = _told(judged, secrets)
            if judged is error:
                raise
            raise judged from None

    def retry(error: Exception) -> Any:
        if isinstance(error, NoCompletionError):
            return True
        if isinstance(error, UnreadableReplyError):
            return False
        return error.retry if isinstance(error, _HiddenError) else should_retry(error)

    api.generate, api.should_retry, api._guarded = guarded, retry, True


def _judged(error: Exception, heard: Heard, secrets: list[str], should_retry: Any) -> Exception:
    """The error as Inspect may see it: of the right kind, and without secrets."""
    if 200 <= heard.status < 300 and not isinstance(error, NoCompletionError) and not _broke_off(error):
        if _is_completion(heard.body):
            if isinstance(error, UnicodeDecodeError):
                return UnreadableReplyError(f"not UTF-8: {error.reason}: {_start(heard.body, secrets)}")
        else:
            return _no_completion(heard, secrets)
    if not heard.status:  # a provider whose answers cannot be heard
        if isinstance(error, UnicodeDecodeError):
            return UnreadableReplyError(f"not UTF-8: {error.reason}")
        if isinstance(error, json.JSONDecodeError):
            return NoCompletionError(f"the server's answer is no JSON: {error.msg}")
    if scrub(error, secrets):
        return error
    return _HiddenError(scrubbed(error, secrets), should_retry(error))


def _broke_off(error: BaseException) -> bool:
    """Whether the connection was lost under an answer that had begun."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"APIConnectionError", "TransportError", "OSError"})


def _no_completion(heard: Heard, secrets: list[str]) -> NoCompletionError:
    return NoCompletionError(
        f"the server answered {heard.status} without a completion: {_start(heard.body, secrets)}"
    )


def _start(body: bytes, secrets: list[str]) -> str:
    text = hidden(" ".join(body.decode("utf-8", "replace").split()), secrets)
    return repr(text[:_SHOWN_OF_BODY]) + (f", cut from {len(text)}" if len(text) > _SHOWN_OF_BODY else "")


def _told(error: BaseException, secrets: list[str]) -> str:
    text = scrubbed(error, secrets)
    cause = error.__cause__
    if cause is not None and str(cause) and str(cause) not in str(error):
        text = f"{text}: {scrubbed(cause, secrets)}"
    return text


def _silent(before: str) -> str:
    if not before or before.startswith(_SILENCE):
        return before or _SILENCE
    return f"{_SILENCE}; before that: {before}"


def _error_in(body: bytes) -> bool:
    with contextlib.suppress(ValueError):
        data = json.loads(body.decode("utf-8", "replace"))
        return isinstance(data, dict) and bool(data.get("error"))
    return False


def _is_completion(body: bytes) -> bool:
    """Whether a body is a completion of any of the protocols in use, by what must be in it."""
    with contextlib.suppress(ValueError):
        data = json.loads(body.decode("utf-8", "replace"))
        kinds = ("choices", "content", "candidates", "output", "message")
        return isinstance(data, dict) and not data.get("error") and any(data.get(kind) for kind in kinds)
    return False


def _keys(api: Any) -> list[str]:
    """The keys that a provider holds, wherever they came from."""
    found = [getattr(api, name, None) for name in ("api_key", "initial_api_key")]
    return [key for key in found if isinstance(key, str)]


def _hide_in_event(secrets: list[str]) -> None:
    """Take secrets out of the answer that Inspect already holds for the call under way."""
    from inspect_ai.log import transcript

    for event in list(transcript().events)[-5:]:
        call = getattr(event, "call", None)
        if call is not None and call.response is not None and getattr(event, "pending", False):
            call.response = hide_in(call.response, secrets)


def _listen(api: Any) -> None:
    """Hear every answer as it comes, also those after which the provider's library tries again itself."""
    http = getattr(getattr(api, "client", None), "_client", None)
    send = getattr(http, "send", None)
    if http is None or send is None or getattr(http, "_heard", False):
        return

    async def hearing(*args: Any, **kwargs: Any) -> Any:
        heard = _HEARD.get()
        try:
            response = await send(*args, **kwargs)
        except Exception as error:
            if heard is not None:
                heard.status, heard.body = 0, b""
                heard.failure = _told(error, heard.secrets)
            raise
        if heard is not None:
            heard.status = response.status_code
            # One that comes as a stream is read by whoever wants it.
            heard.body = response.content if response.is_stream_consumed else b""
            if response.status_code >= 400:
                again = response.headers.get("retry-after")
                wait = f" (Retry-After: {again[:40]})" if again else ""
                heard.failure = (
                    f"the server answered {response.status_code} {response.reason_phrase}{wait}: "
                    f"{_start(heard.body, heard.secrets)}"
                )
        return response

    http.send, http._heard = hearing, True
