"""Thinking and answer are told apart by ids."""

from __future__ import annotations

from engine.text.thinking import ThinkingSplitter
from tests.engine.text.tokenizers import deepseek, nano

OPEN, CLOSE = 7, 8


def test_the_tags_switch_and_have_no_kind_of_their_own():
    splitter = ThinkingSplitter(OPEN, CLOSE)
    assert [splitter.push(token) for token in (1, OPEN, 2, CLOSE, 3)] == [
        "answer",
        "thinking",
        "thinking",
        "answer",
        "answer",
    ]
    assert splitter.switches(OPEN)
    assert splitter.switches(CLOSE)
    assert not splitter.switches(1)


def test_the_prompt_may_have_opened_or_closed_the_thinking():
    assert ThinkingSplitter(OPEN, CLOSE, [1, OPEN, 2]).kind == "thinking"
    assert ThinkingSplitter(OPEN, CLOSE, [1, OPEN, CLOSE]).kind == "answer"
    assert ThinkingSplitter(OPEN, CLOSE, [1]).kind == "answer"


def test_deepseek_has_thinking_tags_and_text_that_looks_like_one_does_not_switch():
    tokenizer = deepseek()
    assert tokenizer.think_ids is not None
    splitter = tokenizer.thinking_splitter(tokenizer.encode_text("say <think> and go"))
    assert splitter is not None
    assert splitter.kind == "answer"
    assert tokenizer.thinking_splitter([tokenizer.think_ids[0]]).kind == "thinking"


def test_a_model_without_tags_has_no_splitter():
    assert nano().thinking_splitter([1, 2]) is None
