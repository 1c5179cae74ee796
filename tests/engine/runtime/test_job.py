"""From tokens to events: stop strings, thinking and forced tokens, without an engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.events import Finished, TextDelta, TokenLogprob
from engine.runtime.job import AnswerText, Job
from engine.sampling import ResolvedSampling
from engine.text.stop import StopFinder
from engine.text.tokenizer import Tokenizer
from tests.engine.text.tokenizers import trained

PARAMS = ResolvedSampling(100, 0.0, 0, 1.0, 0.0, 1.0, 0, (), None, False)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    return Tokenizer.open(trained(tmp_path_factory.mktemp("think"), "byte-level", think=True))


def make_job(tokenizer, params=PARAMS, prompt=(), forced=()) -> Job:
    text = AnswerText(tokenizer.detokenizer(), tokenizer.thinking_splitter(prompt), StopFinder(params.stop))
    return Job(1, prompt, params, text, None, forced)


def drained(job: Job) -> list:
    events = []
    while not job.outbox.empty():
        events.append(job.outbox.get())
    return events


def test_a_stop_string_that_only_the_cut_end_of_the_thinking_completes_ends_the_answer(tokenizer):
    open_id, close_id = tokenizer.think_ids
    job = make_job(tokenizer, replace(PARAMS, stop=("a\ufffd",)), [open_id])
    [half, _] = tokenizer.encode_text("ß")  # the first of two bytes becomes U+FFFD when the thinking closes
    ids = [*tokenizer.encode_text("xa"), half, close_id, *tokenizer.encode_text("no more")]
    stopped = [job.tokens([token], None, ends=False) for token in ids[:-1]]
    assert stopped.index("stop_string") == ids.index(close_id)
    job.finish("stop_string")
    events = drained(job)
    assert [(e.kind, e.text) for e in events if isinstance(e, TextDelta) and e.text] == [("thinking", "x")]


def test_a_stop_string_that_only_the_cut_end_of_the_answer_completes_is_the_reason_given(tokenizer):
    job = make_job(tokenizer, replace(PARAMS, stop=("\ufffd",)))
    [half, _] = tokenizer.encode_text("ß")
    assert not job.tokens([half], None, ends=False)
    job.finish("length")
    assert [e.reason for e in drained(job) if isinstance(e, Finished)] == ["stop_string"]
    cancelled = make_job(tokenizer, replace(PARAMS, stop=("\ufffd",)))
    cancelled.tokens([half], None, ends=False)
    cancelled.finish("cancelled")
    assert drained(cancelled)[-1].reason == "cancelled"


def test_a_forced_beginning_is_known_at_once_and_given_out_with_the_first_sampled_token(tokenizer):
    beginning, sampled, after = (tokenizer.encode_text(part) for part in ('{"', "name", '":'))
    job = make_job(tokenizer, replace(PARAMS, logprobs=0), [5, 6], beginning)
    assert (list(job.history), job.draw().index) == ([5, 6, *beginning], len(beginning))
    assert (drained(job), job.usage().completion_tokens) == ([], 0)
    own = TokenLogprob(sampled[0], -0.5)
    job.tokens([sampled[0], *after], own, ends=False)
    events = drained(job)
    ids = [*beginning, sampled[0], *after]
    assert [i for event in events for i in event.token_ids] == ids
    logprobs = [one for event in events for one in event.logprobs]
    assert [one.forced for one in logprobs] == [i != len(beginning) for i in range(len(ids))]
    assert logprobs[len(beginning)] == own
    assert job.usage().completion_tokens == len(ids)


def test_what_follows_a_stop_string_among_forced_tokens_is_neither_given_out_nor_counted(tokenizer):
    job = make_job(tokenizer, replace(PARAMS, stop=('"',)))
    ids = [*tokenizer.encode_text("x"), *tokenizer.encode_text('":'), *tokenizer.encode_text("yy")]
    assert job.tokens(ids, None, ends=False)
    job.finish("stop_string")
    events = drained(job)
    assert "".join(event.text for event in events[:-1]) == "x"
    assert events[-1].usage.completion_tokens == 2


def test_a_loop_ends_the_answer_with_its_reason_and_keeps_the_text(tokenizer):
    job = make_job(tokenizer, replace(PARAMS, loop_guard=True))
    phrase = tokenizer.encode_text("round and round ")
    reasons = [job.tokens([phrase[place % len(phrase)]], None, ends=False) for place in range(400)]
    end = next(place for place, reason in enumerate(reasons) if reason)
    assert reasons[end] == "looping"
    job.finish("looping")
    events = drained(job)
    assert events[-1].reason == "looping"
    assert "".join(e.text for e in events if isinstance(e, TextDelta)).startswith("round and round round")


def test_without_the_guard_a_loop_goes_on(tokenizer):
    job = make_job(tokenizer, PARAMS)
    assert not any(job.tokens([5], None, ends=False) for _ in range(500))
