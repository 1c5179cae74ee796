"""int8 and int4: exact where they can be, best where they cannot, and nothing beyond a row's end plays a part."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kernels.reference import dequantized
from engine.quant import formats, grouped
from engine.quant.matrix import Format, Matrix
from engine.weights.checkpoint import Checkpoint

GROUPED = (Format.INT8, Format.INT4)
GROUPS = (32, 64, 128)
FITS = ("rtn", "hqq")


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def heavy_tailed(*shape: int, seed: int = 0) -> torch.Tensor:
    """Student's t with 3 degrees of freedom."""
    return randn(*shape, seed=seed) / randn(3, *shape, seed=seed + 1).square().mean(dim=0).sqrt()


def stored(
    weight: torch.Tensor, fmt: Format = Format.INT4, group: int = 64, fit: str = "hqq"
) -> torch.Tensor:
    return dequantized(formats.quantize(weight, fmt, group=group, fit=fit))


def spread(scales: torch.Tensor, columns: int, group: int) -> torch.Tensor:
    """A group's number at each of its columns."""
    return scales.float().repeat_interleave(group, dim=1)[:, :columns]


@given(
    st.integers(1, 9),
    st.integers(1, 300),
    st.sampled_from(GROUPS),
    st.integers(-100, 100),
    st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_int8_errs_by_half_a_scale_whatever_the_sizes(rows, columns, group, exponent, seed):
    weight = heavy_tailed(rows, columns, seed=seed) * 2.0**exponent
    matrix = formats.quantize(weight, Format.INT8, group=group)
    step = spread(matrix.scale, columns, group)
    assert bool(((dequantized(matrix) - weight).abs() <= 0.5001 * step).all())
    largest = torch.stack([part.abs().amax(dim=1) for part in weight.split(group, dim=1)], dim=1)
    assert bool(
        (matrix.scale.float() <= largest / 127 * (1 + 2**-7)).all()
    )  # one step of bfloat16 above, no more


@given(
    st.integers(1, 9),
    st.integers(1, 300),
    st.sampled_from(GROUPS),
    st.integers(-100, 100),
    st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_int4_rounded_to_nearest_errs_by_half_a_step_and_the_zero_points_rounding(
    rows, columns, group, exponent, seed
):
    weight = heavy_tailed(rows, columns, seed=seed) * 2.0**exponent
    matrix = formats.quantize(weight, Format.INT4, group=group, fit="rtn")
    step, zero = spread(matrix.scale, columns, group).abs(), spread(matrix.zero, columns, group)
    bound = step * (0.5001 + zero.abs().clamp(min=1) * 2**-11)
    assert bool(((dequantized(matrix) - weight).abs() <= bound).all())


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("weights", [randn, heavy_tailed])
def test_half_quadratic_fitting_is_better_than_rounding_in_squared_and_in_robust_error(group, weights):
    weight = weights(200, 640, seed=4)
    nearest, fitted = (stored(weight, group=group, fit=fit) - weight for fit in FITS)
    assert fitted.square().mean() < 0.95 * nearest.square().mean()
    assert fitted.abs().sqrt().mean() < 0.99 * nearest.abs().sqrt().mean()
    by_group = [(e.square().unflatten(1, (-1, group)).sum(dim=2)) for e in (fitted, nearest)]
    assert bool((by_group[0] <= by_group[1] * (1 + 1e-5)).all())


@pytest.mark.parametrize("part", ["self_attn.o_proj", "self_attn.kv_b_proj", "mlp.experts.3.down_proj"])
def test_half_quadratic_fitting_is_better_on_nanos_weights(nano_dir, part):
    name = f"model.layers.12.{part}.weight"
    checkpoint = Checkpoint.open(nano_dir)
    blocks = Matrix(Format.FP8, checkpoint.read(name), checkpoint.read(f"{name}_scale_inv"))
    weight = formats.dequantize(blocks)
    nearest, fitted = (stored(weight, fit=fit) - weight for fit in FITS)
    assert fitted.square().mean() < 0.95 * nearest.square().mean()
    assert fitted.abs().sqrt().mean() < nearest.abs().sqrt().mean()


@pytest.mark.parametrize("fmt", GROUPED)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("value", [0.0, 1.0, -0.0137, 3e-5, -1e-30, 1e-40, 7e37])
def test_a_group_of_one_value_is_exact(fmt, fit, value):
    """As exact as the scale is: int4 holds any bfloat16 number, and any float32 number to 2^-19."""
    weight = torch.full((3, 150), value)
    error = (stored(weight, fmt, fit=fit) - weight).abs().max()
    assert error <= abs(value) * (2**-19 if fmt is Format.INT4 else 2**-8) + 2.0**-127
    exact = weight.bfloat16().float()
    if fmt is Format.INT4 and abs(value) > 1e-37:
        assert torch.equal(stored(exact, fmt, fit=fit), exact)


@pytest.mark.parametrize("fit", FITS)
def test_two_values_that_lie_close_together_stay_apart(fit):
    weight = torch.tensor([1.0, 1.01]).repeat(2, 40)
    got = stored(weight, fit=fit)
    assert float((got - weight).abs().max()) < 2**-9
    assert bool((got[:, 1::2] > got[:, ::2]).all())


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("fmt", GROUPED)
def test_an_outlier_costs_its_own_group_only_and_is_kept(fmt, fit):
    weight = 0.01 * randn(4, 256)
    plain = stored(weight, fmt, 64, fit)
    weight[2, 70] = 50.0
    got = stored(weight, fmt, 64, fit)
    assert float((got[2, 70] - 50).abs()) < 50 / 15
    others = torch.ones(4, 256, dtype=torch.bool)
    others[2, 64:128] = False
    assert torch.equal(got[others], plain[others])


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("fmt", GROUPED)
@pytest.mark.parametrize("size", [1e-44, 1e-39, 1e-20, 1e20, 8e37])
def test_tiny_and_huge_weights_stay_numbers_and_are_no_further_off_than_others(fmt, fit, size):
    weight = randn(5, 96).clamp(-1, 1) * size
    got = stored(weight, fmt, 32, fit)
    assert bool(got.isfinite().all())
    assert float((got - weight).abs().max()) <= size / 7 + grouped.SMALLEST_SCALE


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("fmt", GROUPED)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e38])
def test_what_is_not_finite_or_too_large_is_refused(fmt, fit, bad):
    weight = randn(5, 70)
    weight[4, 69] = bad
    with pytest.raises(ValueError, match="not finite"):
        stored(weight, fmt, fit=fit)


@pytest.mark.parametrize("fmt", GROUPED)
@pytest.mark.parametrize("columns", [1, 31, 33, 65, 127, 130])
def test_the_last_group_is_fitted_and_read_over_its_own_values_alone(fmt, columns):
    """Whole groups of the same row, a cut one, and the cut one alone give the same values."""
    weight = randn(3, columns)
    whole = stored(weight, fmt, 32)
    cut = columns // 32 * 32
    if cut:
        assert torch.equal(whole[:, :cut], stored(weight[:, :cut].contiguous(), fmt, 32))
    if columns > cut:
        assert torch.equal(whole[:, cut:], stored(weight[:, cut:].contiguous(), fmt, 32))


@pytest.mark.parametrize("columns", [1, 7, 33, 65])
def test_the_unused_half_of_a_last_byte_changes_nothing(columns):
    matrix = formats.quantize(randn(4, columns), Format.INT4, group=32)
    before = formats.dequantize(matrix)
    assert not (matrix.data[:, -1] >> 4).any()
    matrix.data[:, -1] |= 0xF0
    assert torch.equal(formats.dequantize(matrix), before)
    assert torch.equal(dequantized(matrix), before)


def test_two_neighbours_share_a_byte_the_left_one_in_its_low_half():
    matrix = formats.quantize(torch.arange(16.0)[None], Format.INT4, fit="rtn")
    assert matrix.data.tolist() == [[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]]
    assert (matrix.scale.item(), matrix.zero.item()) == (1.0, 0.0)


def test_bfloat16_above_is_the_next_number_or_the_number_itself():
    values = torch.tensor([1.0, 1.0 + 2**-7, 1.0 + 2**-20, 3.14159, 2.0**-126])
    above = grouped.bfloat16_above(values)
    assert torch.equal(above, above.bfloat16().float())
    assert above.tolist()[:3] == [1.0, 1.0 + 2**-7, 1.0 + 2**-7]
    assert bool((above >= values).all())
    assert bool((above <= values * (1 + 2**-7)).all())
