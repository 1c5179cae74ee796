"""Which tokens of an answer make a finding's confidence."""

import math

import pytest

from dsv3chat.review.confidence import confidence
from dsv3chat.review.question import Choice


def choices(*pieces):
    """(text, probability) pairs as consecutive choices; probability None: forced, so no choice."""
    found, at = [], 0
    for text, p in pieces:
        if p is not None:
            found.append(Choice(at, at + len(text), math.log(p)))
        at += len(text)
    return found


def test_it_is_the_product_over_the_span_and_nothing_beyond():
    found = choices(("[", 0.1), ("{", 0.9), ("rule", 0.8), ('"', 0.1), ("message", 0.1))
    assert confidence(found, 1, 6) == pytest.approx(0.9 * 0.8)


def test_a_token_across_a_border_counts_whole():
    found = choices(('[{"', 0.5), ("rule", 1.0), ('","', 0.1))
    assert confidence(found, 1, 7) == pytest.approx(0.5)
    assert confidence(choices(("[{", 0.5), ('ru"', 0.5)), 1, 4) == pytest.approx(0.25)


def test_forced_tokens_do_not_count():
    found = choices(("{", 0.9), ('"line":', None), ("12", 0.5))
    assert confidence(found, 0, 10) == pytest.approx(0.45)


def test_a_span_of_forced_tokens_alone_is_certain():
    assert confidence([], 0, 10) == 1.0


def test_without_probabilities_it_is_one():
    assert confidence(None, 0, 10) == 1.0


def test_rounding_above_zero_never_makes_more_than_one():
    assert confidence([Choice(0, 5, 1e-7)], 0, 5) == 1.0
