"""From the text of a reply to an action, by rules that never guess.

Digits are never joined across separators, signs and decimal points are never dropped, and what does not
name exactly as many whole numbers as there are objectives is refused with the reason in words.

Two readings are told apart. *Strict*: the whole reply is the declared format and nothing else.
*Lenient*: one line of the reply is (the last such line counts), or the whole reply holds exactly the
numbers needed. `read` says which of the two a stored reply passes, so that the share of either can be
counted from records whatever was used in the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from homeostasis_agents.llm.checks import check_choice
from homeostasis_agents.llm.client import Constraint

__all__ = ["FORMATS", "PARSINGS", "REFUSALS", "AnswerFormat", "Parsing", "Reading", "ReplyParser"]

AnswerFormat: TypeAlias = Literal["list", "labelled", "json"]
Parsing: TypeAlias = Literal["strict", "lenient"]

FORMATS: tuple[str, ...] = ("list", "labelled", "json")
PARSINGS: tuple[str, ...] = ("strict", "lenient")

REFUSALS: Mapping[str, str] = {
    "empty": "the reply is empty",
    "long": "the reply has {count} characters, more than {most}",
    "cut": "the reply was cut off at its last number, which may have had more digits; give a shorter one",
    "ambiguous": "{text} may be one number or two; put a space behind each comma",
    "form": "the reply must be {form} and nothing else",
    "odd": "{text!r} is not a whole number of 0 or more",
    "count": "the reply holds {count} numbers, not {wanted}",
    "limit": "a number must be at most {limit}, got {text}",
}
"""Why a reply is refused, in the words that the model is told; hashed into the prompt's fingerprint."""

_MOST_CHARACTERS = 4000
"""A longer reply is refused unread: no answer needs it, and patterns stay fast."""

_TOKEN = re.compile(r"""[^\s,;:=()\[\]{}"']*\d[^\s,;:=()\[\]{}"']*""")
"""Whatever has a digit in it, with all that touches it (signs, points, letters)."""

_UNFINISHED = re.compile(r"[0-9][.,]?\Z")
"""A number that touches the end: behind it, more of the same number may have been cut off."""

_WHOLE = re.compile(r"0|[1-9][0-9]*")

_AMBIGUOUS = re.compile(r"\d,\d{3}(?!\d)")
"""One number with a thousands separator, or two numbers: not for us to say."""


@dataclass(frozen=True)
class Reading:
    """What a reply was read as.

    Attributes:
        units: One count per objective, None when the reply was refused.
        error: Why it was refused, empty otherwise. Never holds text of the reply beyond one number.
        how: ``strict`` or ``lenient``, empty when refused.
    """

    units: tuple[int, ...] | None
    error: str = ""
    how: str = ""


class ReplyParser:
    """Reads replies for one action space.

    Args:
        labels: Name of every objective, in the action's order.
        limit: Most units of one objective in one action.
        answer: Declared format: ``list`` (``3, 4``), ``labelled`` (``A=3, B=4``) or ``json``
            (``{"A": 3, "B": 4}``).
        parsing: ``strict`` or ``lenient``, what `parse` accepts.
    """

    def __init__(
        self,
        labels: Sequence[str],
        limit: int,
        answer: AnswerFormat = "list",
        parsing: Parsing = "strict",
    ) -> None:
        check_choice("answer", answer, FORMATS)
        check_choice("parsing", parsing, PARSINGS)
        self.labels = tuple(labels)
        self.limit = limit
        self.answer = answer
        self.parsing = parsing
        self._digits = len(str(limit))
        number = r"(0|[1-9][0-9]*)"
        names = [rf"{re.escape(label)}\s*[=:]\s*{number}" for label in self.labels]
        patterns = {
            "list": r"[ \t]*,[ \t]*".join([number] * len(self.labels)),
            "labelled": r"[ \t]*,[ \t]*".join(names),
        }
        self._patterns = {
            name: re.compile(rf"\s*{pattern}\s*\.?\s*", re.ASCII | re.IGNORECASE)
            for name, pattern in patterns.items()
        }

    def parse(self, reply: str, *, cut_off: bool = False) -> Reading:
        """Read a reply under the declared rule; a lenient reading is refused where strict was declared.

        Args:
            reply: The text.
            cut_off: Whether the token limit ended it.
        """
        reading = self.read(reply, cut_off=cut_off)
        if reading.how == "lenient" and self.parsing == "strict":
            return _refused("form", form=self.describe())
        return reading

    def read(self, reply: str, *, cut_off: bool = False) -> Reading:
        """Read a reply under both rules and say which one it passes; see `parse`."""
        if not reply.strip():
            return _refused("empty")
        if len(reply) > _MOST_CHARACTERS:
            return _refused("long", count=len(reply), most=_MOST_CHARACTERS)
        if cut_off and _UNFINISHED.search(reply):
            return _refused("cut")
        ambiguous = _AMBIGUOUS.search(reply)
        if ambiguous is not None:
            return _refused("ambiguous", text=ambiguous[0])
        strict = self._match(self.answer, reply)
        if strict is not None:
            return self._checked(strict, "strict")
        for line in reversed(reply.splitlines()):
            for name in dict.fromkeys((self.answer, *FORMATS)):
                found = self._match(name, line)
                if found is not None:
                    return self._checked(found, "lenient")
        return self._lonely_numbers(reply)

    def describe(self) -> str:
        """The declared format in words, for feedback."""
        count = len(self.labels)
        if self.answer == "list":
            return "one whole number" if count == 1 else f"{count} whole numbers with commas between"
        if self.answer == "labelled":
            return ", ".join(f"{label}=number" for label in self.labels)
        return "a JSON object with a whole number for " + ", ".join(self.labels)

    def write(self, units: Sequence[int]) -> str:
        """Write an action in the declared format, as a perfect reply would."""
        if self.answer == "list":
            return ", ".join(str(int(u)) for u in units)
        if self.answer == "labelled":
            return ", ".join(f"{k}={int(u)}" for k, u in zip(self.labels, units, strict=True))
        return json.dumps(dict(zip(self.labels, map(int, units), strict=True)))

    def constraint(self, allowed: Sequence[Sequence[int]] | None = None) -> Constraint:
        """What a constrained decoder must match to give a strict reply.

        Args:
            allowed: The only actions that the rules allow at this step, where they can be listed; by
                default every action of the action space.
        """
        schema = None
        if self.answer == "json":
            # A schema knows no rule that joins several numbers; what it lets through is judged as ever.
            most = self.limit if not allowed else max(max(units) for units in allowed)
            number = {"type": "integer", "minimum": 0, "maximum": most}
            schema = {
                "type": "object",
                "properties": dict.fromkeys(self.labels, number),
                "required": list(self.labels),
                "additionalProperties": False,
            }
        if allowed:
            return Constraint("root ::= " + " | ".join(_quoted(self.write(u)) for u in allowed), schema)
        # A number as long as the limit might still pass it, and is then refused like any other.
        rules = f'number ::= "0" | [1-9] [0-9]{{0,{self._digits - 1}}}\n'
        if self.answer == "list":
            root = ' ", " '.join(["number"] * len(self.labels))
        elif self.answer == "labelled":
            root = ' ", " '.join(f"{_quoted(label + '=')} number" for label in self.labels)
        else:
            pairs = ' ", " '.join(f"{_quoted(json.dumps(label) + ': ')} number" for label in self.labels)
            root = f'"{{" {pairs} "}}"'
        return Constraint(f"root ::= {root}\n{rules}", schema)

    def _match(self, name: str, text: str) -> tuple[str, ...] | None:
        if name == "json":
            return self._match_json(text)
        match = self._patterns[name].fullmatch(text)
        return None if match is None else match.groups()

    def _match_json(self, text: str) -> tuple[str, ...] | None:
        if not text.strip().startswith("{"):
            return None
        try:
            # Numbers stay text, so that 1e3, 3.0 and numbers of any length are judged by our rule alone.
            found = json.loads(
                text, parse_int=_Digits, parse_float=_not_whole, object_pairs_hook=_no_duplicates
            )
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or set(found) != set(self.labels):
            return None
        values = [found[label] for label in self.labels]
        if not all(isinstance(v, _Digits) and _WHOLE.fullmatch(v) for v in values):
            return None
        return tuple(str(v) for v in values)

    def _lonely_numbers(self, reply: str) -> Reading:
        tokens = [token.strip("*_`").rstrip(".!?") for token in _TOKEN.findall(reply)]
        odd = next((token for token in tokens if not _WHOLE.fullmatch(token)), None)
        if odd is not None:
            return _refused("odd", text=odd[:20])
        wanted = len(self.labels)
        if len(tokens) != wanted:
            return _refused("count", count=len(tokens), wanted=wanted)
        return self._checked(tuple(tokens), "lenient")

    def _checked(self, digits: Sequence[str], how: str) -> Reading:
        for text in digits:
            # Length before value: a number of a million digits is never converted.
            if len(text) > self._digits or int(text) > self.limit:
                return _refused("limit", limit=self.limit, text=text[:20])
        return Reading(tuple(int(text) for text in digits), how=how)


def _refused(why: str, **facts: Any) -> Reading:
    return Reading(None, REFUSALS[why].format(**facts))


class _Digits(str):
    """A JSON integer as it was written."""

    __slots__ = ()


def _not_whole(text: str) -> Any:
    raise ValueError("not a whole number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _quoted(text: str) -> str:
    return json.dumps(text)
