"""Secrets kept out of whatever is told, logged or recorded."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

from homeostasis_gym.errors import HomeostasisError

__all__ = ["check_address", "hidden", "hide_in", "scrub", "scrubbed"]

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"\b(?:sk|pk|xai|gsk|hf|AIza)[-_A-Za-z0-9]{12,}|Bearer\s+\S+|(?<=://)[^/\s@]+@", re.IGNORECASE
)
_LONGEST_LINE = 500


def hidden(text: str, also: Sequence[str] = ()) -> str:
    """A text without anything that looks like a key.

    Args:
        text: The text.
        also: Secrets that are known, beside what environment variables named like a secret hold and what
            has a key's form.
    """
    named = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    for value in (*also, *named):
        if len(value) >= 6:
            text = text.replace(value, "[hidden]")
    return _SECRET_TEXT.sub("[hidden]", text)


def scrubbed(error: BaseException | str, also: Sequence[str] = ()) -> str:
    """The text of an error in one line of bounded length, without anything that looks like a key."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, BaseException) and type(error).__name__ not in text:
        text = f"{type(error).__name__}: {text}"
    text = re.sub(r"\[/?(?:bold|blue|red|italic|link)\]", "", text)  # Inspect writes for a terminal
    return hidden(text, also)[:_LONGEST_LINE]


def hide_in(value: Any, also: Sequence[str] = ()) -> Any:
    """Plain data with every text in it `hidden`; anything else as it is."""
    if isinstance(value, str):
        return hidden(value, also)
    if isinstance(value, bytes):
        return hidden(value.decode("utf-8", "replace"), also).encode()
    if isinstance(value, dict):
        return {hide_in(key, also): hide_in(item, also) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(hide_in(item, also) for item in value)
    return value


def scrub(error: BaseException, also: Sequence[str] = ()) -> bool:
    """Take secrets out of an exception and all that it came from, in place.

    Returns:
        Whether that worked: some exceptions keep their text where nobody can change it.
    """
    clean = True
    for one in _family(error):
        with contextlib.suppress(Exception):  # judged by the result below
            one.args = hide_in(one.args, also)
        for name, value in list(getattr(one, "__dict__", {}).items()):
            with contextlib.suppress(Exception):
                changed = hide_in(value, also)
                if changed != value:
                    setattr(one, name, changed)
        for text in (str(one), repr(one)):
            clean = clean and hidden(text, also) == text
    return clean


def _family(error: BaseException) -> Iterator[BaseException]:
    """An exception, its causes and contexts, and the members of groups among them."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def check_address(name: str, address: Any, model: str = "") -> None:
    """Check the address of a server, which records, names and reports show as it is.

    Args:
        name: The argument's name.
        address: The address.
        model: The model's name, from which the environment variables to use follow.

    Raises:
        HomeostasisError: No address, or one with a user or a password in it. The message holds neither.
    """
    if not isinstance(address, str) or not address.startswith(("http://", "https://")):
        raise HomeostasisError(
            f"`{name}` must be an address that begins with http:// or https://, got {_short(address)}"
        )
    if any(sign in address for sign in "@?#"):
        raise HomeostasisError(
            f"`{name}` must hold no user, password or query, because it is recorded; got one with one. "
            f"Put such an address into the environment variable {_variable(model, 'BASE_URL')}, and the key "
            f"into {_variable(model, 'API_KEY')}"
        )


def _variable(model: str, kind: str) -> str:
    parts = [part for part in model.split("/")[:-1] if part != "openai-api"]
    service = re.sub(r"[^A-Z0-9]", "_", parts[0].upper()) if parts else "SERVICE"
    return f"{service}_{kind}"


def _short(value: Any) -> str:
    # No message may hold what somebody may have meant as a secret.
    text = hidden(repr(value))
    return "[hidden]" if "@" in text else text[:100]
