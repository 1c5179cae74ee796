"""The sampler against a plain reference, and its distributions against chi-square with fixed seeds."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.events import TokenLogprob
from engine.runtime.sampler import Sampler, candidates, largest, penalise, uniform
from engine.sampling import ResolvedSampling

GREEDY = ResolvedSampling(
    max_new_tokens=100,
    temperature=0.0,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    repetition_penalty=1.0,
    seed=0,
    stop=(),
    logprobs=None,
    ignore_eos=False,
)
PLAIN = replace(GREEDY, temperature=1.0)


def random_logits(rows: int, size: int, seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * scale


def reference_candidates(logits: np.ndarray, param: ResolvedSampling) -> dict[int, float]:
    """Softmax, full stable sort, one filter after the other; probabilities of what is left."""
    scaled = [float(value) / param.temperature for value in logits]
    order = sorted(range(len(scaled)), key=lambda i: (-scaled[i], i))
    if param.top_k:
        order = order[: param.top_k]
    weights = [math.exp(scaled[i] - scaled[order[0]]) for i in order]
    share = param.top_p * math.fsum(weights)
    kept, mass = [], 0.0
    for i, weight in zip(order, weights, strict=True):
        kept.append((i, weight))
        mass += weight
        if param.top_p < 1.0 and mass >= share:
            break
    kept = [(i, weight) for i, weight in kept if weight >= param.min_p]
    total = math.fsum(weight for _, weight in kept)
    return {i: weight / total for i, weight in kept}


def draws(logits: torch.Tensor, param: ResolvedSampling, count: int) -> list[int]:
    sampler = Sampler(logits.shape[1])
    rows = sampler.sample(logits.expand(count, -1), [param] * count, [()] * count, range(count))
    return [row.token_id for row in rows]


@given(
    size=st.integers(1, 60),
    seed=st.integers(0, 1000),
    temperature=st.floats(0.05, 5.0),
    top_k=st.integers(0, 70),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 0.999)),
    min_p=st.one_of(st.just(0.0), st.floats(0.0, 1.0)),
    rounded=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_the_filters_leave_what_a_full_sort_leaves(size, seed, temperature, top_k, top_p, min_p, rounded):
    logits = random_logits(1, size, seed)[0]
    logits = (logits.round() if rounded else logits).numpy()  # rounded: many equal logits
    param = replace(PLAIN, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    ids, weights = candidates(logits, param)
    expected = reference_candidates(logits, param)
    assert sorted(ids) == sorted(expected)
    for i, weight in zip(ids, weights / weights.sum(), strict=True):
        assert weight == pytest.approx(expected[int(i)], rel=1e-9)  # float64, another order of summing


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 8.0])
@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.999])
def test_a_nucleus_of_a_large_vocabulary_is_that_of_a_full_sort(scale, top_p):
    logits = random_logits(1, 10_001, seed=3, scale=scale)[0].bfloat16().float().numpy()  # with many ties
    ids, _ = candidates(logits, replace(PLAIN, top_p=top_p))
    assert sorted(ids) == sorted(reference_candidates(logits, replace(PLAIN, top_p=top_p)))


@pytest.mark.parametrize(
    "param",
    [
        PLAIN,
        replace(PLAIN, temperature=0.7),
        replace(PLAIN, top_k=5),
        replace(PLAIN, top_p=0.8),
        replace(PLAIN, min_p=0.1),
        replace(PLAIN, temperature=1.5, top_k=8, top_p=0.9, min_p=0.05),
    ],
)
def test_draws_follow_the_distribution(param):
    logits = random_logits(1, 12, seed=5, scale=1.5)
    count = 5_000
    expected = reference_candidates(logits[0].numpy(), param)
    seen = np.bincount(draws(logits, param, count), minlength=12)
    assert set(np.flatnonzero(seen)) <= set(expected)
    statistic = sum((seen[i] - count * p) ** 2 / (count * p) for i, p in expected.items())
    freedom = len(expected) - 1
    assert statistic < freedom + 4 * math.sqrt(
        2 * freedom
    )  # mean plus four standard deviations; the seed is fixed


def test_uniform_numbers_are_uniform_and_depend_on_seed_and_index_only():
    numbers = np.array([[uniform(seed, index) for index in range(200)] for seed in range(50)])
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert len(np.unique(numbers)) == numbers.size
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert ((counts - 500) ** 2 / 500).sum() < 19 + 4 * math.sqrt(2 * 19)
    assert abs(np.corrcoef(numbers[:, :-1].ravel(), numbers[:, 1:].ravel())[0, 1]) < 0.04  # 4 / sqrt(9950)


def test_the_numbers_of_a_seed_never_change():
    numbers = [uniform(0, 0), uniform(7, 1), uniform(2**63 - 1, 2**31)]
    assert numbers == [0.011546754286331562, 0.8824668302545412, 0.07624841183590358]


def test_neither_batch_nor_order_change_a_draw():
    logits = random_logits(6, 500, seed=1)
    params = [replace(PLAIN, seed=row, top_p=0.95, repetition_penalty=1.1) for row in range(6)]
    histories = [list(range(row, row + 5)) for row in range(6)]
    sampler = Sampler(500)
    together = sampler.sample(logits, params, histories, [3] * 6)
    for row in (4, 0, 2):
        [alone] = sampler.sample(logits[row : row + 1], [params[row]], [histories[row]], [3])
        assert alone == together[row]


def test_another_seed_or_another_index_is_another_draw():
    logits = torch.zeros(1, 1000)
    sampler = Sampler(1000)
    tokens = {
        sampler.sample(logits, [replace(PLAIN, seed=seed)], [()], [index])[0].token_id
        for seed in range(5)
        for index in range(5)
    }
    assert len(tokens) > 20


def test_greedy_takes_the_first_of_the_best():
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0]])
    assert Sampler(4).sample(logits, [GREEDY], [()], [0])[0].token_id == 1


@pytest.mark.parametrize(
    "param",
    [
        GREEDY,
        replace(GREEDY, repetition_penalty=1.3, logprobs=5),
        PLAIN,
        replace(PLAIN, top_k=3),
        replace(PLAIN, top_k=100),
        replace(PLAIN, top_p=0.99),
        replace(PLAIN, min_p=0.01),
        replace(PLAIN, temperature=50.0, logprobs=100),
    ],
)
def test_padding_of_the_vocabulary_is_never_sampled_on_any_path(param):
    logits = torch.full((200, 16), 50.0)
    logits[:, :10] = random_logits(200, 10)
    rows = Sampler(10).sample(logits, [param] * 200, [(15, 3, 12)] * 200, range(200))
    assert all(0 <= row.token_id < 10 for row in rows)
    if param.logprobs is not None:
        assert all(i < 10 for row in rows for i, _ in row.logprob.top)
        assert all(sum(math.exp(p) for _, p in row.logprob.top) <= 1 + 1e-6 for row in rows)


@given(st.integers(0, 200), st.floats(0.5, 2.0))
@settings(max_examples=50, deadline=None)
def test_the_repetition_penalty_is_that_of_transformers(seed, penalty):
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = random_logits(1, 50, seed)
    history = np.random.default_rng(seed).integers(0, 50, 80).tolist()
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([history]), logits.clone())
    for kind in (list, tuple, lambda ids: array("q", ids)):
        ours = penalise(logits[0].numpy(), kind(history), penalty)
        np.testing.assert_allclose(ours, expected[0].numpy(), rtol=1e-6)  # one rounding in float32


def test_the_penalty_decides_greedy_and_sampled_tokens_and_leaves_the_logits_as_they_were():
    logits = torch.tensor([[2.0, 1.9, -1.0]])
    before = logits.clone()
    for param in (replace(GREEDY, repetition_penalty=1.5), replace(PLAIN, top_k=1, repetition_penalty=1.5)):
        assert Sampler(3).sample(logits, [param], [[0]], [0])[0].token_id == 1
        assert Sampler(3).sample(logits, [param], [[]], [0])[0].token_id == 0
    assert torch.equal(logits, before)


def test_extreme_penalties_and_temperatures_still_give_a_token():
    logits = random_logits(1, 20)
    for penalty in (1e-45, 1e-3, 100.0):
        for temperature in (0.0, 5e-324, 1e-6, 100.0):
            param = replace(PLAIN, temperature=temperature, repetition_penalty=penalty, top_p=0.9)
            [row] = Sampler(20).sample(logits, [param], [list(range(20))], [0])
            assert 0 <= row.token_id < 20


def test_a_tiny_temperature_is_greedy():
    logits = random_logits(1, 200, seed=2)
    assert set(draws(logits, replace(PLAIN, temperature=1e-9), 50)) == {int(logits.argmax())}


@pytest.mark.parametrize("param", [GREEDY, PLAIN, replace(PLAIN, top_k=4), replace(PLAIN, top_p=0.9)])
def test_masked_ids_are_never_sampled(param):
    logits = random_logits(1, 50)
    logits[0, 7:] = -torch.inf
    assert set(draws(logits, param, 300)) <= set(range(7))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("param", [GREEDY, replace(PLAIN, logprobs=2)])
def test_a_row_that_is_not_finite_is_marked_and_the_others_go_on(bad, param):
    logits = random_logits(3, 50)
    logits[1, 20] = bad
    rows = Sampler(50).sample(logits, [param] * 3, [()] * 3, [0] * 3)
    assert [row.finite for row in rows] == [True, False, True]
    assert rows[1].token_id == -1
    assert rows[1].logprob is None


def test_a_row_without_any_possible_token_is_marked():
    [row] = Sampler(5).sample(torch.full((1, 5), -torch.inf), [GREEDY], [()], [0])
    assert not row.finite


def test_what_stands_in_the_padding_is_not_looked_at():
    logits = random_logits(1, 8)
    logits[0, 6:] = math.nan
    [row] = Sampler(6).sample(logits, [replace(PLAIN, logprobs=1)], [()], [0])
    assert row.finite
    assert math.isfinite(row.logprob.logprob)


def test_log_probabilities_are_raw_at_temperature_1_whatever_was_sampled_with():
    logits = random_logits(1, 40, seed=9)
    param = replace(PLAIN, temperature=0.3, top_k=2, repetition_penalty=1.4, logprobs=3)
    [row] = Sampler(40).sample(logits, [param], [range(20)], [0])
    expected = torch.log_softmax(logits[0].double(), dim=0)
    assert row.logprob.token_id == row.token_id
    # 1e-6: differences of logits up to 16 and their exponentials are float32, the sums are not
    assert row.logprob.logprob == pytest.approx(expected[row.token_id].item(), abs=1e-6)
    values, ids = expected.topk(3)
    assert [i for i, _ in row.logprob.top] == ids.tolist()
    assert [p for _, p in row.logprob.top] == pytest.approx(values.tolist(), abs=1e-6)


def test_log_probabilities_are_computed_when_asked_for_only():
    logits = random_logits(3, 40)
    params = [GREEDY, replace(GREEDY, logprobs=0), replace(GREEDY, logprobs=100)]
    none, chosen, all_of_them = Sampler(40).sample(logits, params, [()] * 3, [0] * 3)
    assert none.logprob is None
    assert chosen.logprob.top == ()
    assert len(all_of_them.logprob.top) == 40


def test_the_largest_are_in_order_and_ties_go_to_the_lower_id():
    values = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0], dtype=np.float32)
    assert largest(values, 4).tolist() == [1, 3, 2, 4]
    assert largest(values, 9).tolist() == [1, 3, 2, 4, 5, 0]
    assert largest(values, 0).tolist() == []


def test_bfloat16_logits_are_widened():
    logits = random_logits(1, 40).bfloat16()
    assert Sampler(40).sample(logits, [PLAIN], [()], [0]) == Sampler(40).sample(
        logits.float(), [PLAIN], [()], [0]
    )


def masks(*allowed, width=40):
    """A mask for each row; None allows all."""
    rows = [None if ids is None else np.isin(np.arange(width), list(ids)) for ids in allowed]
    return rows


@pytest.mark.parametrize(
    "param",
    [
        replace(PLAIN, temperature=0.0),
        replace(PLAIN, temperature=0.0, repetition_penalty=1.3),
        PLAIN,
        replace(PLAIN, top_k=3),
        replace(PLAIN, top_p=0.4),
        replace(PLAIN, min_p=0.5, repetition_penalty=1.3),
    ],
)
def test_a_mask_allows_what_it_allows_and_each_row_has_its_own(param):
    logits = random_logits(1, 50, seed=2).repeat(120, 1)
    best_first = logits[0, :40].argsort(descending=True).tolist()
    unlikely, half = set(best_first[-5:]), set(best_first[::2])
    rows = Sampler(40).sample(
        logits, [param] * 120, [(1, 2)] * 120, range(120), masks(unlikely, half, None) * 40
    )
    drawn = [{row.token_id for row in rows[n::3]} for n in range(3)]
    assert drawn[0] <= unlikely
    assert drawn[1] <= half
    unmasked = Sampler(40).sample(logits[2::3], [param] * 40, [(1, 2)] * 40, range(2, 120, 3))
    assert [row.token_id for row in rows[2::3]] == [row.token_id for row in unmasked]


def test_among_the_allowed_the_shares_are_those_of_the_model():
    logits = random_logits(1, 40, seed=5).repeat(4000, 1)
    rows = Sampler(40).sample(logits, [PLAIN] * 4000, [()] * 4000, range(4000), masks({3, 17, 30}) * 4000)
    shares = torch.softmax(logits[0, [3, 17, 30]].double(), dim=0).tolist()
    for token_id, share in zip((3, 17, 30), shares, strict=True):
        count = sum(row.token_id == token_id for row in rows)
        assert abs(count - 4000 * share) < 5 * math.sqrt(4000 * share * (1 - share)) + 1  # five deviations


def test_log_probabilities_under_a_mask_are_given_raw_and_among_the_allowed():
    logits = random_logits(1, 40, seed=9)
    param = replace(PLAIN, logprobs=2)
    allowed = [4, 9, 25, 26]
    [row] = Sampler(40).sample(logits, [param], [()], [0], masks(allowed))
    whole = torch.log_softmax(logits[0].double(), dim=0)
    among = torch.log_softmax(logits[0, allowed].double(), dim=0)
    # 1e-6: as above
    assert row.logprob.logprob == pytest.approx(whole[row.token_id].item(), abs=1e-6)
    assert row.logprob.masked_logprob == pytest.approx(among[allowed.index(row.token_id)].item(), abs=1e-6)
    assert [i for i, _ in row.logprob.top] == whole.topk(2).indices.tolist()
    assert not row.logprob.forced


def test_a_share_among_the_allowed_is_right_where_the_model_thinks_nothing_of_them():
    logits = torch.tensor([[300.0, -150.0, -151.0, 0.0]])
    [row] = Sampler(4).sample(
        logits, [replace(PLAIN, temperature=0.0, logprobs=0)], [()], [0], masks({1, 2}, width=4)
    )
    assert (row.token_id, row.logprob.logprob) == (1, -450.0)
    assert row.logprob.masked_logprob == pytest.approx(-math.log(1 + math.exp(-1)))


def test_the_only_allowed_token_is_forced_and_certain():
    [row] = Sampler(40).sample(random_logits(1, 40), [replace(PLAIN, logprobs=3)], [()], [0], masks({7}))
    assert row.token_id == 7
    assert row.logprob == TokenLogprob(7, 0.0, (), forced=True, masked_logprob=0.0)


def test_a_row_whose_allowed_logits_are_all_minus_infinity_is_not_finite():
    logits = torch.zeros(1, 6)
    logits[0, :3] = -torch.inf
    [row] = Sampler(6).sample(logits, [PLAIN], [()], [0], masks({1, 2}, width=6))
    assert (row.finite, row.token_id) == (False, -1)
