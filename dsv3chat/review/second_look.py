"""The second look: a finding is asked about once more, with only its own code. Knows no backend.

A protocol with a prompt for it is asked whether the finding is real. A protocol without one was trained on reviews alone:
the finding's function is reviewed by itself, and confirms the finding when it reports the same rule on the same line.

VERIFY_FROM_PARAMETERS is where a model is large enough to gain: below it the second look is off unless it is asked for.
"""

from __future__ import annotations

import json
from dataclasses import replace

from dsv3chat.review.answer import Candidate, NoAnswerError, read_answer
from dsv3chat.review.protocol import ReviewProtocol, prompt_path
from dsv3chat.review.question import Question
from dsv3chat.review.values import Chunk
from dsv3chat.sanitize import clean_line
from engine import Message

VERIFY_FROM_PARAMETERS = 7_000_000_000
_REACH = 12  # lines that the second look sees above and below the finding, at most
_HEADS = ("def ", "async def ", "class ")
_VERDICT_TOKENS = 16
_VERDICT = json.dumps(
    {
        "type": "object",
        "properties": {"confirmed": {"type": "boolean"}},
        "required": ["confirmed"],
        "additionalProperties": False,
    }
)


def second_question(protocol: ReviewProtocol, chunk: Chunk, finding: Candidate) -> Question:
    """What is asked about `finding`, greedily."""
    near = close_up(chunk, finding.line, finding.end_line)
    if not protocol.confirm_prompt:
        return Question(protocol.messages(near), protocol.schema(near), protocol.max_answer_tokens)
    place = (
        f"line {finding.line}"
        if finding.end_line == finding.line
        else f"lines {finding.line} to {finding.end_line}"
    )
    text = (
        f"Finding in {prompt_path(chunk.path)}, {place}: {finding.rule}: {clean_line(finding.title)}\n"
        f"{clean_line(finding.message)}\n\n{protocol.user_prompt(near)}"
    )
    messages = (Message("system", protocol.confirm_prompt), Message("user", text))
    return Question(messages, _VERDICT, _VERDICT_TOKENS)


def confirms(protocol: ReviewProtocol, chunk: Chunk, finding: Candidate, text: str) -> bool:
    """Whether the second answer stands by the finding; an answer that cannot be read does not."""
    if protocol.confirm_prompt:
        try:
            return bool(json.loads(text) == {"confirmed": True})
        except ValueError:
            return False
    near = close_up(chunk, finding.line, finding.end_line)
    try:
        again = read_answer(text, protocol, near).candidates
    except NoAnswerError:
        return False
    return any((found.line, found.rule) == (finding.line, finding.rule) for found in again)


def close_up(chunk: Chunk, line: int, end_line: int) -> Chunk:
    """The part of the chunk around lines [line, end_line]: from the head of their function where it is near, to its end."""
    first = max(chunk.start, line - _REACH)
    last = min(chunk.end, end_line + _REACH)
    start, depth = line, _indent(chunk.line(line))
    for number in range(line, first - 1, -1):
        text = chunk.line(number)
        if text.strip() and _indent(text) <= depth and text.lstrip().startswith(_HEADS):
            start = number
            break
    inner = _indent(chunk.line(start)) + 1 if start < line else depth
    end = end_line
    for number in range(end_line + 1, last + 1):
        text = chunk.line(number)
        if text.strip():
            if _indent(text) < inner:
                break
            end = number
    if start == line:
        start = min(line, max(first, _block_start(chunk, line, first)))
    lines = chunk.lines[start - chunk.start : end - chunk.start + 1]
    return replace(chunk, start=start, lines=lines, changed=None, removed=())


def _block_start(chunk: Chunk, line: int, first: int) -> int:
    """Where the run of lines without a blank one that leads to `line` begins."""
    start = line
    while start > first and chunk.line(start - 1).strip():
        start -= 1
    return start


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())
