import pytest
from homeostasis_agents.llm.parser import ReplyParser
from hypothesis import given
from hypothesis import strategies as st

from homeostasis_gym.errors import HomeostasisError

NO_LIMIT = 2**31 - 1
two = ReplyParser(("A", "B"), NO_LIMIT)


@pytest.mark.parametrize(
    "reply, units",
    [("3, 4", (3, 4)), (" 3,4 \n", (3, 4)), ("0, 0.", (0, 0)), (f"{NO_LIMIT}, 0", (NO_LIMIT, 0))],
)
def test_a_strict_reply_is_read(reply, units):
    reading = two.read(reply)
    assert (reading.units, reading.how, reading.error) == (units, "strict", "")


@pytest.mark.parametrize(
    "reply, units",
    [
        ("I will add 3 to A and 4 to B.", (3, 4)),
        ("Thinking about 12 things\n3, 4", (3, 4)),
        ("A=3, B=4", (3, 4)),
        ('{"A": 3, "B": 4}', (3, 4)),
        ("**3** and **4**", (3, 4)),
        ("3 4", (3, 4)),
        ("[3, 4]", (3, 4)),
    ],
)
def test_a_lenient_reply_is_told_apart_from_a_strict_one(reply, units):
    assert two.read(reply).how == "lenient"
    assert two.read(reply).units == units
    assert two.parse(reply).units is None
    lenient = ReplyParser(("A", "B"), NO_LIMIT, parsing="lenient")
    assert lenient.parse(reply).units == units


@pytest.mark.parametrize(
    "reply, reason",
    [
        ("", "empty"),
        ("  \n ", "empty"),
        ("3", "1 numbers, not 2"),
        ("3, 4, 5", "3 numbers, not 2"),
        ("20,549,293", "may be one number or two"),
        ("1,000", "may be one number or two"),
        ("3.5, 4", "'3.5' is not a whole number"),
        ("-3, 4", "'-3' is not a whole number"),
        ("3, +4", "'+4' is not a whole number"),
        ("1e3, 4", "'1e3' is not a whole number"),
        ("0x3, 4", "'0x3' is not a whole number"),
        ("007, 4", "'007' is not a whole number"),
        ("3/4, 5", "'3/4' is not a whole number"),
        ("٣, ٤", "'٣' is not a whole number"),
        ("2147483648, 0", "at most 2147483647"),
        ("9" * 3000 + ", 1", "at most 2147483647"),
        ("7" * 5000, "5000 characters, more than 4000"),
        ("<script>alert(1)</script>", "1 numbers, not 2"),
        ("add nothing", "0 numbers, not 2"),
    ],
)
def test_whatever_is_no_action_is_refused_with_the_reason(reply, reason):
    reading = two.read(reply)
    assert reading.units is None and reading.how == ""
    assert reason in reading.error


def test_json_is_judged_by_our_rule_and_not_by_a_number_type():
    parser = ReplyParser(("A", "B"), 10, "json")
    assert parser.parse('{"B": 4, "A": 3}').units == (3, 4)
    for reply in ('{"A": 3.0, "B": 4}', '{"A": 3}', '{"A": true, "B": 4}', '{"A": 11, "B": 4}'):
        assert parser.parse(reply).units is None
    assert parser.read('{"A": 1, "A": 2, "B": 4}').units is None
    assert parser.read("[" * 3000).units is None
    assert parser.constraint().schema["required"] == ["A", "B"]


def test_labels_are_text_and_never_patterns():
    parser = ReplyParser(("(x", ".*"), 9, "labelled")
    assert parser.parse("(x=3, .*=4").units == (3, 4)
    assert parser.parse("ax=3, b=4").units is None


@given(st.lists(st.integers(0, 999), min_size=1, max_size=5), st.sampled_from(["list", "labelled", "json"]))
def test_what_is_written_is_read_back(units, answer):
    labels = tuple("ABCDE"[: len(units)])
    parser = ReplyParser(labels, 999, answer)
    assert parser.parse(parser.write(units)).units == tuple(units)


@given(st.text())
def test_no_text_makes_the_parser_fail(text):
    reading = two.read(text)
    assert (reading.units is None) == bool(reading.error)
    if reading.units is not None:
        assert len(reading.units) == 2 and all(0 <= u <= NO_LIMIT for u in reading.units)


def test_unknown_formats_are_refused():
    with pytest.raises(HomeostasisError, match="`answer` must be one of list, labelled, json, got 'xml'"):
        ReplyParser(("A",), 9, "xml")
    with pytest.raises(HomeostasisError, match="`parsing` must be one of strict, lenient, got 'loose'"):
        ReplyParser(("A",), 9, parsing="loose")


@pytest.mark.parametrize("reply", ["12, 1", "12, 1.", "3, 4\n12, 1", "A=1, B=2"])
def test_a_number_that_touches_a_cut_is_refused(reply):
    """The next digit may be missing."""
    parser = ReplyParser(("A", "B"), 99, "list", "lenient")
    assert parser.parse(reply).units is not None
    assert "was cut off at its last number" in parser.parse(reply, cut_off=True).error
    assert parser.parse(f"{reply}\n", cut_off=True).units is not None
