"""Block FP8 against the plain definition, and its error bounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.quant import formats, fp8
from engine.quant.matrix import Format, Matrix
from tests.engine.checkpoints import dequantize_blocks, quantize_blocks

sizes = st.integers(1, 70)
blocks = st.tuples(st.sampled_from([1, 7, 16, 32, 128]), st.sampled_from([1, 7, 16, 32, 128]))


def matrix(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = torch.exp(4 * torch.randn(rows, 1, generator=generator))
    return torch.randn(rows, columns, generator=generator) * size


def dequantize(values: torch.Tensor, scale: torch.Tensor, block: tuple[int, int]) -> torch.Tensor:
    return formats.dequantize(Matrix(Format.FP8, values, scale, block))


def all_codes() -> torch.Tensor:
    return torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)


def test_every_code_decodes_exactly_and_keeps_the_sign_of_zero():
    codes = all_codes()
    expected = codes.float()
    number = ~expected.isnan()
    decoded = torch.empty(1, len(codes))
    fp8.widen_into(decoded, codes[None], torch.ones(1, 1), (1, len(codes)))
    decoded = decoded[0]
    assert torch.equal(decoded[number], expected[number])
    assert torch.equal(decoded.signbit()[number], expected.signbit()[number])


def test_both_nan_codes_are_seen_and_no_other_code_is_taken_for_one():
    for code in range(256):
        values = torch.zeros(4, 8, dtype=torch.uint8)
        values[2, 5] = code
        assert fp8.has_nan(values.view(torch.float8_e4m3fn)) == (code in (0x7F, 0xFF))


@given(sizes, sizes, blocks)
@settings(max_examples=60, deadline=None)
def test_dequantize_equals_the_definition_for_cut_blocks_too(rows, columns, block):
    values, scale = quantize_blocks(matrix(rows, columns), block)
    assert torch.equal(dequantize(values, scale, block), dequantize_blocks(values, scale, block))


@pytest.mark.parametrize("block", [(128, 128), (48, 100)])
def test_tiles_of_a_large_matrix_meet_without_a_seam(block):
    values, scale = quantize_blocks(matrix(700, 1500), block)
    assert torch.equal(dequantize(values, scale, block), dequantize_blocks(values, scale, block))


def test_a_tile_smaller_than_a_block_row_still_takes_the_right_scale():
    columns = 3000  # 87 rows fit a tile, a block has 128
    values, scale = quantize_blocks(matrix(300, columns), (128, 128))
    assert torch.equal(dequantize(values, scale, (128, 128)), dequantize_blocks(values, scale, (128, 128)))


def test_rounding_to_bfloat16_happens_once():
    values, scale = quantize_blocks(matrix(90, 90), (32, 32))
    out = formats.empty(Format.BF16, 90, 90)
    formats.convert_into(out, Matrix(Format.FP8, values, scale, (32, 32)))
    assert torch.equal(out.data, dequantize_blocks(values, scale, (32, 32)).bfloat16())


@given(sizes, sizes, blocks)
@settings(max_examples=60, deadline=None)
def test_quantize_stays_within_half_a_step_of_e4m3(rows, columns, block):
    weight = matrix(rows, columns)
    values, scale = fp8.quantize(weight, block)
    assert tuple(scale.shape) == (math.ceil(rows / block[0]), math.ceil(columns / block[1]))
    back = dequantize(values, scale, block)
    spread = dequantize_blocks(torch.ones(rows, columns).to(torch.float8_e4m3fn), scale, block)
    bound = torch.maximum(weight.abs() * 2**-4, spread * 2**-10) * (
        1 + 1e-6
    )  # float32 rounding of scale and quotient
    assert bool(((back - weight).abs() <= bound).all())


def test_a_block_of_zeros_stays_zero():
    values, scale = fp8.quantize(torch.zeros(40, 40), (32, 32))
    assert bool((scale > 0).all())
    assert not dequantize(values, scale, (32, 32)).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(bad):
    weight = torch.ones(8, 8)
    weight[3, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        fp8.quantize(weight, (4, 4))


def test_half_a_block_of_rows_has_a_scale_row_of_its_own():
    assert fp8.scale_shape(576, 7168, (128, 128)) == (5, 56)
    assert fp8.scale_shape(200, 128, (128, 128)) == (2, 1)
    assert fp8.nbytes(576, 7168, (128, 128)) == 576 * 7168 + 5 * 56 * 4
