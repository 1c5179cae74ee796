"""Repetition of token ids: the share of n-grams that came before, and what the loop guard says."""

import pytest

from engine.evaluation.repetition import is_looping, repeated_share


def test_share_of_repeated_four_grams():
    assert repeated_share([]) == 0.0
    assert repeated_share([1, 2, 3]) == 0.0
    assert repeated_share(list(range(50))) == 0.0
    assert repeated_share([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(1 / 5)
    assert repeated_share([7] * 13) == pytest.approx(9 / 10)


def test_looping_is_what_the_guard_stops():
    assert is_looping([1, 2, 3, 4, 5] * 100)
    assert is_looping([*range(1000, 1300), *[1, 2, 3] * 100, *range(50)])
    assert not is_looping(list(range(512)))
