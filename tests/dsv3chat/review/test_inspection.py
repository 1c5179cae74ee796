"""One chunk through passes, retry, agreement, thresholds and the second look, with answers from a script."""

import json
import math

import pytest

from dsv3chat.review.answer import OUTSIDE_CHUNK
from dsv3chat.review.general_protocol import GENERAL
from dsv3chat.review.inspection import (
    BELOW_CONFIDENCE,
    DUPLICATE,
    NOT_CONFIRMED,
    PASS_TEMPERATURE,
    RETRY_TEMPERATURE,
    UNCHANGED_LINES,
    Inspector,
)
from dsv3chat.review.nano_protocol import NANO
from dsv3chat.review.question import Answer, Choice
from dsv3chat.review.second_look import close_up
from dsv3chat.review.values import Chunk
from tests.dsv3chat.review.scripted import EMPTY, answer, finding, general_finding

CHUNK = Chunk("a.py", "python", 10, ("a = 1", "b = 2", "c = 3"))


def script(*replies):
    """An `ask` that gives the replies in turn; a reply is (text, probability of its first token) or text."""
    asked = []
    left = list(replies)

    def ask(question):
        asked.append(question)
        reply = left.pop(0)
        text, p = reply if isinstance(reply, tuple) else (reply, 1.0)
        begin = text.find("{", 1)
        return Answer(text, "stop", (Choice(begin, begin + 1, math.log(p)),))

    return ask, asked


def inspect(*replies, chunk=CHUNK, protocol=NANO, **how):
    ask, asked = script(*replies)
    return Inspector(protocol, how.pop("min_confidence", 0.5), **how).inspect(chunk, ask), asked


def places(result):
    return [(sure.candidate.line, sure.candidate.rule) for sure in result.findings]


def test_one_pass_is_greedy_and_asks_once():
    result, asked = inspect(answer(finding(line=10)))
    assert places(result) == [(10, "off-by-one")]
    assert [question.temperature for question in asked] == [0.0]


def test_below_the_threshold_is_dropped_and_counted():
    result, _ = inspect((answer(finding(line=10)), 0.49))
    assert (places(result), result.dropped) == ([], {BELOW_CONFIDENCE: 1})
    result, _ = inspect((answer(finding(line=10)), 0.51))
    assert result.findings[0].confidence == pytest.approx(0.51)


def test_the_same_line_and_rule_is_one_finding_the_more_certain_one():
    twice = answer(finding(line=10, message="unsure"), finding(line=10, message="sure"))
    result, _ = inspect((twice, 0.6))
    assert (len(result.findings), result.dropped) == (1, {DUPLICATE: 1})
    assert result.findings[0].candidate.message == "sure"


def test_an_answer_that_is_none_is_asked_once_more_at_another_temperature():
    result, asked = inspect("Sorry.", answer(finding(line=11)))
    assert places(result) == [(11, "off-by-one")]
    assert [question.temperature for question in asked] == [0.0, RETRY_TEMPERATURE]
    assert result.failure == ""


def test_twice_no_answer_is_a_failure_with_the_raw_text():
    result, asked = inspect("Sorry.", "Sorry again.")
    assert len(asked) == 2
    assert "no JSON" in result.failure
    assert result.raw == "Sorry again."
    assert result.findings == ()


def test_an_answer_that_was_cut_says_so():
    cut = Answer('{"findings":[{"line":10', "length", ())
    result = Inspector(NANO, 0.5).inspect(CHUNK, lambda question: cut)
    assert result.failure == "the answer is longer than 1024 tokens"


def test_passes_sample_with_seeds_of_their_own_and_agree():
    both, once = finding(line=10), finding(line=11)
    result, asked = inspect(answer(both), answer(both, once), answer(both), passes=3, seed=7)
    assert [(q.temperature, q.seed) for q in asked] == [
        (0.0, 7),
        (PASS_TEMPERATURE, 8),
        (PASS_TEMPERATURE, 9),
    ]
    assert places(result) == [(10, "off-by-one")]
    assert result.dropped == {BELOW_CONFIDENCE: 1}  # a third of the passes is 0.33


def test_the_confidence_of_passes_is_their_mean():
    said = answer(finding(line=10))
    result, _ = inspect((said, 0.9), (EMPTY, 1.0), (said, 0.75), passes=3)
    assert result.findings[0].confidence == pytest.approx((0.9 + 0.75) / 3)


def test_outside_the_changed_lines_is_dropped_unless_context_is_wanted():
    chunk = Chunk("a.py", "python", 10, ("a", "b", "c"), frozenset({11}))
    said = answer(finding(line=10), finding(line=11))
    result, _ = inspect(said, chunk=chunk)
    assert (places(result), result.dropped) == ([(11, "off-by-one")], {UNCHANGED_LINES: 1})
    result, _ = inspect(said, chunk=chunk, context_findings=True)
    assert len(result.findings) == 2


def test_a_finding_of_several_lines_may_begin_above_the_change():
    chunk = Chunk("a.py", "python", 10, ("a", "b", "c"), frozenset({12}))
    result, _ = inspect(answer(general_finding(10, 12)), chunk=chunk, protocol=GENERAL)
    assert places(result) == [(10, "bug")]


def test_where_a_diff_only_deletes_every_line_counts():
    chunk = Chunk("a.py", "python", 10, ("a", "b"), frozenset(), ("close(f)",))
    result, _ = inspect(answer(general_finding(10)), chunk=chunk, protocol=GENERAL)
    assert places(result) == [(10, "bug")]


def test_what_is_invalid_is_counted_with_its_reason():
    result, _ = inspect(answer(finding(line=99), finding(line=10)))
    assert (places(result), result.dropped) == ([(10, "off-by-one")], {OUTSIDE_CHUNK: 1})


@pytest.mark.parametrize(
    ("verdict", "kept"), [('{"confirmed":true}', 1), ('{"confirmed":false}', 0), ("no idea", 0)]
)
def test_general_is_asked_whether_the_finding_is_real(verdict, kept):
    said = answer(general_finding(11, title="T`\n", message="M"))
    result, asked = inspect(said, verdict, chunk=CHUNK, protocol=GENERAL, verify=True)
    assert len(result.findings) == kept
    assert result.dropped.get(NOT_CONFIRMED, 0) == 1 - kept
    system, user = asked[1].messages
    assert system.content == GENERAL.confirm_prompt
    assert "line 11: bug: T`\nM" in user.content
    assert json.loads(asked[1].schema)["required"] == ["confirmed"]


@pytest.mark.parametrize(
    ("second", "kept"),
    [
        (answer(finding(line=11)), 1),
        (answer(finding(line=11, rule="missing-call")), 0),
        (answer(finding(line=10)), 0),
        (EMPTY, 0),
    ],
)
def test_nano_confirms_by_reporting_line_and_rule_again(second, kept):
    chunk = Chunk("a.py", "python", 10, ("def f():", "    b = 2", "", "def g():", "    c = 3"))
    result, asked = inspect(answer(finding(line=11)), second, chunk=chunk, verify=True)
    assert len(result.findings) == kept
    assert asked[1].messages[0].content == NANO.system_prompt


def test_a_chunk_that_is_no_more_than_the_finding_is_not_asked_again():
    result, asked = inspect(answer(finding(line=11)), verify=True)
    assert (len(result.findings), len(asked)) == (1, 1)


def test_the_second_look_sees_the_function_alone():
    code = [
        "import os",
        "",
        "def first():",
        "    return 1",
        "",
        "def second(x):",
        "    y = x",
        "",
        "    return y == None",
        "",
        "def third():",
        "    pass",
    ]
    chunk = Chunk("a.py", "python", 101, tuple(code))
    near = close_up(chunk, 109, 109)
    assert (near.start, near.end) == (106, 109)
    near = close_up(chunk, 101, 101)
    assert near.start == 101
    assert near.line(101) == "import os"


@pytest.mark.parametrize("line", range(1, 41))
def test_the_second_look_always_holds_the_finding(line):
    code = tuple(
        "    " * (n % 4) + ("def f():" if n % 5 == 0 else "" if n % 7 == 0 else "x") for n in range(40)
    )
    near = close_up(Chunk("a.py", "python", 1, code), line, min(40, line + 2))
    assert near.start <= line
    assert near.end >= min(40, line + 2)
    assert near.lines == code[near.start - 1 : near.end]


def test_whether_there_were_probabilities_is_known():
    result = Inspector(NANO, 0.5).inspect(CHUNK, lambda q: Answer(answer(finding(line=10)), "stop", None))
    assert result.findings[0].confidence == 1.0
    assert not result.has_confidence
