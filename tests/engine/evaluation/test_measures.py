"""Two models' rows compared: the plain definitions, in tiles or whole, whatever the logits are."""

import math

import numpy as np
import torch

from engine.evaluation.measures import TokenMeasures, compare_rows


def rows(seed: int, count: int = 21, width: int = 50) -> torch.Tensor:
    return 3 * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_the_values_are_those_of_the_definition():
    q, p, targets = rows(1), rows(2), torch.arange(21)
    nll, kl, agrees = compare_rows(q, p, targets)
    for i in range(21):
        probs_q = [math.exp(v) for v in q[i].tolist()]
        probs_p = [math.exp(v) for v in p[i].tolist()]
        probs_q = [v / sum(probs_q) for v in probs_q]
        probs_p = [v / sum(probs_p) for v in probs_p]
        assert math.isclose(nll[i], -math.log(probs_q[i]), rel_tol=1e-9)
        expected = sum(a * math.log(a / b) for a, b in zip(probs_p, probs_q, strict=True))
        assert math.isclose(kl[i], expected, rel_tol=1e-9)
        assert agrees[i] == (max(probs_q) == probs_q[probs_p.index(max(probs_p))])
    assert 0 < agrees.sum() < 21


def test_a_model_diverges_from_itself_by_nothing_and_adding_a_constant_changes_nothing():
    p = rows(3)
    _, kl, agrees = compare_rows(p + 7.0, p, torch.zeros(21, dtype=torch.int64))
    assert torch.allclose(kl, torch.zeros(21, dtype=torch.float64), atol=1e-12)
    assert bool(agrees.all())


def test_an_impossible_token_of_the_reference_adds_nothing():
    p, q = rows(4), rows(5)
    p[:, 7] = -math.inf
    _, kl, _ = compare_rows(q, p, torch.zeros(21, dtype=torch.int64))
    assert bool(torch.isfinite(kl).all())
    q[:, 9] = -math.inf  # and one that only the other excludes is infinitely bad
    assert bool(torch.isinf(compare_rows(q, p, torch.zeros(21, dtype=torch.int64))[1]).all())


def test_a_small_divergence_is_not_lost_among_many_tokens():
    """Float32 sums over a large vocabulary would leave about 1e-7: what is measured is 1e-9."""
    p = torch.zeros(1, 50_000)
    q = torch.zeros(1, 50_000)
    q[0, :25_000] = 2.0**-13
    _, kl, _ = compare_rows(q, p, torch.zeros(1, dtype=torch.int64))
    half = 2.0**-13
    expected = math.log((math.exp(half) + 1) / 2) - half / 2
    assert math.isclose(kl[0], expected, rel_tol=1e-4)


def test_filling_in_parts_is_filling_at_once():
    q, p, targets = rows(6), rows(7), torch.arange(21)
    whole, parts = TokenMeasures.empty(21), TokenMeasures.empty(21)
    whole.take(0, q, p, targets)
    parts.take(10, q[10:], p[10:], targets[10:])
    assert not parts.taken.all()
    parts.take(0, q[:10], p[:10], targets[:10])
    assert parts.taken.all()
    for name in ("nll", "kl", "agrees"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))
