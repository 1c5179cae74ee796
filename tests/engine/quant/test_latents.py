"""Latents in fp8: exact scales, the stated error, and what is not finite stays so."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.quant import latents

RANK, ROPE = 11, 4


def both(c_kv: torch.Tensor, k_pe: torch.Tensor) -> torch.Tensor:
    return latents.decode(latents.encode(c_kv, k_pe), c_kv.shape[1])


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(st.integers(-120, 110), st.integers(-120, 110), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_the_error_is_half_a_step_of_e4m3_whatever_the_sizes(exponent, other, seed):
    c_kv, k_pe = randn(5, RANK, seed=seed) * 2.0**exponent, randn(5, ROPE, seed=seed + 1) * 2.0**other
    got = both(c_kv, k_pe)
    for part, values in ((c_kv, got[:, :RANK]), (k_pe, got[:, RANK:])):
        # the scale is at most 1 / 224 of the largest value, the subnormal step 2^-9 of the scale
        bound = torch.maximum(part.abs() * 2**-4, part.abs().amax(dim=1, keepdim=True) * 2**-10 / 224)
        assert bool(((values - part).abs() <= bound).all())


def test_codes_that_e4m3_holds_come_back_exactly():
    c_kv = torch.tensor([[448.0, -1.5, 0.0, -0.0, 2.0**-6]])
    got = both(c_kv, torch.tensor([[3.0, -0.25]]))
    assert torch.equal(got, torch.tensor([[448.0, -1.5, 0.0, 0.0, 2.0**-6, 3.0, -0.25]]))


def test_parts_have_scales_of_their_own():
    c_kv, k_pe = torch.full((1, 3), 1e-6), torch.full((1, 2), 1e6)
    got = both(c_kv, k_pe)
    torch.testing.assert_close(got, torch.cat((c_kv, k_pe), dim=1), rtol=2**-4, atol=0)


def test_zeros_and_unwritten_rows_are_zero():
    assert not both(torch.zeros(2, RANK), torch.zeros(2, ROPE)).any()
    assert not latents.decode(torch.zeros(3, RANK + ROPE + 2, dtype=torch.uint8), RANK).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_part_that_is_not_finite_is_read_as_such_and_its_neighbours_are_not(bad):
    c_kv = randn(3, RANK)
    c_kv[1, 4] = bad
    got = both(c_kv, randn(3, ROPE))
    assert not got[1, :RANK].isfinite().any()
    assert bool(got[1, RANK:].isfinite().all())
    assert bool(got[[0, 2]].isfinite().all())
