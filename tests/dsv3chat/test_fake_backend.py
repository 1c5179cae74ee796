"""The scripted backend keeps the protocol that the interface is written against."""

from __future__ import annotations

import time

import pytest

from dsv3chat.fake_backend import FakeBackend, Reply
from engine import (
    Failed,
    Finished,
    LoadCancelledError,
    Message,
    Queued,
    RequestTooLargeError,
    SamplingParams,
    TextDelta,
)

HELLO = [Message("user", "hello there")]


def run(reply: Reply, params: SamplingParams = SamplingParams()) -> list:  # noqa: B008
    backend = FakeBackend([reply])
    backend.load(lambda progress: None)
    stream = backend.start(HELLO, params)
    events = []
    end = time.monotonic() + 60
    while not events or not isinstance(events[-1], Finished | Failed):
        events += stream.wait(1.0)
        assert time.monotonic() < end
    return events


def text_of(events: list, kind: str = "answer") -> str:
    return "".join(e.text for e in events if isinstance(e, TextDelta) and e.kind == kind)


def test_the_sum_of_the_deltas_is_the_script():
    events = run(Reply("an answer,\n\n  indented", thinking="a thought"))
    assert text_of(events) == "an answer,\n\n  indented"
    assert text_of(events, "thinking") == "a thought"
    usage = events[-1].usage
    assert usage.completion_tokens == sum(e.num_tokens for e in events if isinstance(e, TextDelta))


def test_queue_positions_count_down():
    assert [e.position for e in run(Reply("x", queue=3)) if isinstance(e, Queued)] == [3, 2, 1]


def test_failure_and_length_keep_the_text_so_far():
    failed = run(Reply("one two three", fail_after=2))
    assert isinstance(failed[-1], Failed)
    assert text_of(failed) == "one two"
    limited = run(Reply("one two three"), SamplingParams(max_new_tokens=1))
    assert limited[-1].reason == "length"
    assert text_of(limited) == "one"


def test_cancel_ends_with_finished():
    backend = FakeBackend([Reply("word " * 100, tokens_per_s=20)])
    stream = backend.start(HELLO, SamplingParams())
    stream.cancel()
    events = []
    while not events or not isinstance(events[-1], Finished):
        events += stream.wait(5.0)
    assert events[-1].reason == "cancelled"


def test_loading_can_be_cancelled_and_a_prompt_that_cannot_fit_is_refused():
    backend = FakeBackend(context_tokens=4, load_s=60)
    backend.cancel_load()
    with pytest.raises(LoadCancelledError):
        backend.load(lambda progress: None)
    with pytest.raises(RequestTooLargeError, match="holds 4"):
        backend.start(HELLO, SamplingParams())
