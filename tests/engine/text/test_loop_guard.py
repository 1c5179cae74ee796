"""What counts as a loop, and what does not."""

from __future__ import annotations

import random

import pytest

from engine.text.loop_guard import NGRAM, WINDOW, LoopGuard


def stops_at(ids: list[int]) -> int | None:
    guard = LoopGuard()
    return next((index for index, token in enumerate(ids) if guard.push(token)), None)


@pytest.mark.parametrize("period", [1, 2, 7, 40, 200])
def test_a_phrase_repeated_for_ever_is_noticed_soon(period):
    start = list(range(1000, 1100))
    ids = start + list(range(period)) * (2000 // period)
    at = stops_at(ids)
    assert at is not None
    assert len(start) + 2 * period <= at <= len(start) + 2 * period + WINDOW + NGRAM


def test_a_loop_that_stumbles_now_and_then_is_noticed():
    ids = [token for turn in range(60) for token in (*range(30), 5000 + turn)]
    assert stops_at([token if token < 5000 else 30 for token in ids]) is not None


def test_text_without_repetition_is_let_go_on():
    draw = random.Random(0)
    assert stops_at([draw.randrange(5000) for _ in range(8000)]) is None


def test_a_long_passage_may_come_twice():
    draw = random.Random(1)
    passage = [draw.randrange(5000) for _ in range(700)]
    assert stops_at([*passage, 1, 2, 3, *passage]) is None


def test_a_list_of_like_lines_with_something_new_in_each_is_let_go_on():
    """`| name_17 | int | not null | default 17 |`: ten tokens the same, two new ones a line."""
    ids = [token for row in range(300) for token in (1, 2, 3, 4, 5, 1000 + row, 6, 7, 8, 9, 10, 4000 + row)]
    assert stops_at(ids) is None


def test_a_ruler_of_one_token_is_let_go_on():
    assert stops_at([*range(50), *[7] * 80, *range(100, 200)]) is None
