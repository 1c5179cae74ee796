"""Standard errors from blocks, and which profiles a text does not tell apart."""

import math

import numpy as np
import pytest

from engine.evaluation.estimates import block_means, estimate, perplexity_change, ties
from engine.evaluation.values import Estimate, Quality

NOISE = np.random.default_rng(1)


def quality(name: str, kl: np.ndarray) -> Quality:
    none = Estimate(0.0, None)
    return Quality(name, 1, 1.0, none, estimate(kl), none, (), block_means(kl), 0.0, 0.0)


def test_the_error_of_a_mean_of_independent_values_is_the_textbook_one():
    values = NOISE.normal(2.0, 1.0, 64 * 400)
    found = estimate(values)
    assert found.value == pytest.approx(2.0, abs=0.03)
    assert found.error == pytest.approx(1.0 / math.sqrt(len(values)), rel=0.15)


def test_neighbours_that_are_alike_count_as_fewer():
    values = np.repeat(NOISE.normal(0.0, 1.0, 400), 64)
    assert estimate(values).error == pytest.approx(1.0 / math.sqrt(400), rel=0.15)


def test_a_text_of_one_block_has_no_error():
    assert estimate(np.ones(127)).error is None
    assert estimate(np.ones(128)).error == 0.0


def test_what_is_hard_for_both_falls_out_of_the_change():
    hard = NOISE.normal(3.0, 2.0, 1024)
    found = perplexity_change(hard + math.log(1.09), hard)
    assert found.value == pytest.approx(0.09)
    assert found.error == pytest.approx(0.0, abs=1e-12)


def test_the_error_of_the_change_is_scaled_as_the_change_is():
    difference = NOISE.normal(math.log(2), 0.1, 1024)
    found = perplexity_change(difference, np.zeros(1024))
    assert found.error == pytest.approx((1 + found.value) * estimate(difference).error)


def test_profiles_that_noise_separates_are_named_and_others_are_not():
    common = NOISE.exponential(0.1, 64 * 20)
    near = common + NOISE.normal(0.0, 0.05, len(common))
    far = common + 0.05
    found = ties([quality("a", common), quality("b", near), quality("c", far)])
    assert [(tie.first, tie.second) for tie in found] == [("a", "b")]
    assert abs(found[0].difference.value) < 2 * found[0].difference.error
    assert [(t.first, t.second) for t in ties([quality("a", common[:64]), quality("c", far[:64])])] == [
        ("a", "c")
    ]
