"""An answer's text to candidates, with the place of each in the text. Repairs nothing and knows no probabilities.

What is not an object with a list of findings is no answer. What is wrong with a single finding drops that finding, with
the reason.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dsv3chat.review.protocol import ReviewProtocol
from dsv3chat.review.values import Chunk, Severity
from dsv3chat.sanitize import clean_line

INVALID = "not of the asked form"
UNKNOWN_RULE = "unknown rule"
OUTSIDE_CHUNK = "outside the reviewed lines"

_SPACE = re.compile(r"[ \t\r\n]*")
_SURROGATE = re.compile("[\ud800-\udfff]")  # a half escape: text that no encoding has
_DECODER = json.JSONDecoder()


class NoAnswerError(Exception):
    """The text is not what was asked for; the message says in what way."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finding as the model gave it, inside the chunk and of a known rule. [start, end): brace through rule, in the text."""

    line: int
    end_line: int
    severity: Severity
    rule: str
    title: str
    message: str
    suggestion: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The candidates in the order of the answer, and how many were dropped for which reason."""

    candidates: tuple[Candidate, ...]
    dropped: Mapping[str, int]


def read_answer(text: str, protocol: ReviewProtocol, chunk: Chunk) -> Reading:
    """NoAnswerError for what is not JSON or not {"findings":[...]}."""
    if not text.strip():
        raise NoAnswerError("the answer is empty")
    try:
        found = json.loads(text, object_pairs_hook=_no_name_twice)
    except (ValueError, RecursionError) as error:
        raise NoAnswerError(f"the answer is no JSON: {error}") from error
    if not isinstance(found, dict) or set(found) != {"findings"} or not isinstance(found["findings"], list):
        raise NoAnswerError('the answer is no {"findings": [...]}')
    candidates = []
    dropped: Counter[str] = Counter()
    for item, start in _items(text):
        result = _candidate(item, start, text, protocol, chunk)
        if isinstance(result, Candidate):
            candidates.append(result)
        else:
            dropped[result] += 1
    return Reading(tuple(candidates), dropped)


def _no_name_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _items(text: str) -> list[tuple[object, int]]:
    """Each element of the list and where it begins. `text` is known to be {"findings":[...]}."""
    at = text.index("[", text.index('"findings"')) + 1
    items: list[tuple[object, int]] = []
    while True:
        at = _after_space(text, at)
        if text[at] == "]":
            return items
        if text[at] == ",":
            at = _after_space(text, at + 1)
        item, end = _DECODER.raw_decode(text, at)
        items.append((item, at))
        at = end


def _candidate(
    item: object, start: int, text: str, protocol: ReviewProtocol, chunk: Chunk
) -> Candidate | str:
    """The candidate, or why it is dropped."""
    if not isinstance(item, dict) or set(item) != set(protocol.properties):
        return INVALID
    line, end_line = item["line"], item.get("end_line", item["line"])
    texts = [item[name] for name in ("severity", protocol.rule_key, *protocol.max_characters)]
    if type(line) is not int or type(end_line) is not int or not all(isinstance(t, str) for t in texts):
        return INVALID
    severity, rule = protocol.severities.get(item["severity"]), protocol.rule(item[protocol.rule_key])
    if severity is None or end_line < line or any(map(_SURROGATE.search, texts)):
        return INVALID
    if rule is None:
        return UNKNOWN_RULE
    if line < chunk.start or end_line > chunk.end:
        return OUTSIDE_CHUNK
    return Candidate(
        line=line,
        end_line=end_line,
        severity=Severity.CRITICAL if rule.critical else severity,
        rule=rule.name,
        title=clean_line(item.get("title", "")) or rule.title,
        message=item["message"].strip(),
        suggestion=item["suggestion"].rstrip("\r\n"),
        start=start,
        end=_end_of(text, start, protocol.rule_key),
    )


def _end_of(text: str, start: int, key: str) -> int:
    """One past the last character of the value of `key`, a string, in the object that begins at `start`."""
    at = start + 1
    while True:
        name, at = _DECODER.raw_decode(text, _after_space(text, at))
        at = _after_space(text, at) + 1  # the colon
        _, at = _DECODER.raw_decode(text, _after_space(text, at))
        if name == key:
            return at - 1  # the closing quote is not part of it
        at = _after_space(text, at) + 1  # the comma


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at
