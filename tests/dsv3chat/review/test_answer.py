"""Answers read strictly: what is none is refused, what is wrong in one finding drops that finding."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv3chat.review.answer import INVALID, OUTSIDE_CHUNK, UNKNOWN_RULE, NoAnswerError, read_answer
from dsv3chat.review.general_protocol import GENERAL
from dsv3chat.review.nano_protocol import NANO
from dsv3chat.review.values import Chunk, Severity
from tests.dsv3chat.review.scripted import answer, finding, general_finding

CHUNK = Chunk("a.py", "python", 10, ("a", "b", "c"))


def read(text, protocol=NANO):
    return read_answer(text, protocol, CHUNK)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "No defects.",
        'Here: {"findings":[]}',
        '{"findings":[]} done',
        '```json\n{"findings":[]}\n```',
        '{"findings":[{"line":10,',
        '{"findings":{}}',
        '{"results":[]}',
        '{"findings":[],"more":1}',
        '{"findings":"[","findings":[]}',
        "[]",
        "null",
        "[" * 100_000,
    ],
)
def test_what_is_no_list_of_findings_is_no_answer(text):
    with pytest.raises(NoAnswerError):
        read(text)


def test_an_empty_list_is_an_answer():
    assert read('{"findings":[]}').candidates == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"line": 9}, OUTSIDE_CHUNK),
        ({"line": 13}, OUTSIDE_CHUNK),
        ({"line": "10"}, INVALID),
        ({"line": True}, INVALID),
        ({"line": 10.0}, INVALID),
        ({"line": None}, INVALID),
        ({"rule": "made-up"}, UNKNOWN_RULE),
        ({"rule": 1}, INVALID),
        ({"severity": "fatal"}, INVALID),
        ({"message": None}, INVALID),
        ({"message": "\ud800"}, INVALID),
        ({"extra": 1}, INVALID),
    ],
)
def test_a_wrong_finding_is_dropped_for_its_reason_and_the_others_stay(change, reason):
    reading = read(answer(finding(line=10) | change, finding(line=11)))
    assert [candidate.line for candidate in reading.candidates] == [11]
    assert reading.dropped == {reason: 1}


def test_a_missing_property_and_what_is_no_object_are_dropped():
    short = finding(line=10)
    del short["suggestion"]
    assert read(answer(short, 3, None, [])).dropped == {INVALID: 4}


@pytest.mark.parametrize("line", [11, 12])
def test_an_end_before_the_line_or_outside_is_dropped(line):
    reading = read(answer(general_finding(line=line, end_line=line - 1)), GENERAL)
    assert reading.dropped == {INVALID: 1}
    assert read(answer(general_finding(line=12, end_line=13)), GENERAL).dropped == {OUTSIDE_CHUNK: 1}


def test_severities_are_the_protocols_and_four_rules_are_always_critical():
    reading = read(answer(finding(line=10, severity="error"), finding(line=11, rule="sql-injection")))
    assert [c.severity for c in reading.candidates] == [Severity.HIGH, Severity.CRITICAL]


def test_the_title_is_the_models_where_there_is_one_else_the_rules():
    assert read(answer(finding(line=10))).candidates[0].title == "Off by one"
    reading = read(answer(general_finding(line=10, title="a\nb")), GENERAL)
    assert reading.candidates[0].title == "a b"


@pytest.mark.parametrize("spaces", [{"separators": (",", ":")}, {"indent": 2}, {}])
def test_the_span_goes_from_the_brace_through_the_rule_whatever_the_spacing(spaces):
    text = json.dumps({"findings": [finding(line=10), finding(line=11, rule="missing-call")]}, **spaces)
    for candidate in read(text).candidates:
        span = text[candidate.start : candidate.end]
        assert span.startswith("{")
        assert span.endswith(candidate.rule)
        assert span.count("{") == 1


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_in_a_finding_comes_back_as_it_is(message, suggestion):
    if any("\ud800" <= char <= "\udfff" for char in message + suggestion):
        return
    text = answer(finding(line=10, message=message, suggestion=suggestion), finding(line=11))
    first, second = read(text).candidates
    assert (first.message, first.suggestion) == (message.strip(), suggestion.rstrip("\r\n"))
    assert second.line == 11
    assert text[second.start] == "{"
