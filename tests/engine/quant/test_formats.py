"""Every format: its bytes are what its tensors hold, and the way to float32 and back."""

import pytest
import torch

from engine.kernels.reference import dequantized
from engine.quant import formats
from engine.quant.matrix import Format
from engine.quant.widen import take_rows, widen_rows

BLOCK = (32, 48)
EPS = {Format.FP32: 0.0, Format.FP16: 2**-11, Format.BF16: 2**-8, Format.FP8: 2**-4}  # half a step, relative


@pytest.mark.parametrize("fmt", list(Format))
@pytest.mark.parametrize("shape", [(1, 1), (33, 47), (64, 96), (70, 200)])
def test_bytes_are_those_of_the_tensors(fmt, shape):
    for group in (None, 32, 128):
        expected = formats.nbytes(fmt, *shape, BLOCK, group)
        one, three = (
            formats.empty(fmt, *shape, BLOCK, group),
            formats.empty_stack(fmt, 3, *shape, BLOCK, group),
        )
        assert (one.nbytes, three.nbytes) == (expected, 3 * expected)
        assert one.shape == three[2].shape == shape


@pytest.mark.parametrize("fmt", list(EPS))
def test_quantize_then_dequantize_errs_by_half_a_step(fmt):
    weight = torch.rand(70, 100, generator=torch.Generator().manual_seed(1)) + 0.5
    matrix = formats.quantize(weight, fmt, BLOCK)
    assert matrix.data.dtype == formats.DTYPES[fmt]
    error = (formats.dequantize(matrix) - weight).abs()
    assert bool((error <= weight * EPS[fmt] * (1 + 1e-6)).all())


def test_a_matrix_of_a_stack_shares_its_memory():
    stack = formats.empty_stack(Format.FP8, 4, 64, 64, BLOCK)
    assert stack[2].data.data_ptr() == stack.data[2].data_ptr()
    assert stack[2].scale is not None
    assert stack[2].scale.data_ptr() == stack.scale[2].data_ptr()


def test_bits_a_value():
    bits = {fmt: 8 * formats.nbytes(fmt, 1024, 7168, (128, 128)) / (1024 * 7168) for fmt in Format}
    assert bits[Format.INT4] == 4.5
    assert bits[Format.INT8] == 8.125
    assert 8 * formats.nbytes(Format.INT4, 1024, 7168, (128, 128), 128) / (1024 * 7168) == 4.25


@pytest.mark.parametrize("source", list(Format))
@pytest.mark.parametrize("target", list(Format))
def test_every_format_becomes_every_other_tile_by_tile(source, target, monkeypatch):
    """Small tiles, whose borders meet those of no block, give what the whole matrix at once gives."""
    weight = torch.randn(67, 75, generator=torch.Generator().manual_seed(3))
    stored = formats.quantize(weight, source, BLOCK, 32)
    at_once = formats.empty(target, 67, 75, BLOCK, 64)
    formats.convert_into(at_once, stored)
    monkeypatch.setattr(formats, "_TILE_VALUES", 5 * 75)
    tiled = formats.empty(target, 67, 75, BLOCK, 64)
    formats.convert_into(tiled, stored)
    wide = formats.dequantize(tiled)
    assert torch.equal(wide, formats.dequantize(at_once))
    expected = dequantized(stored)
    error = (wide - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < {Format.INT4: 0.13, Format.FP8: 0.03, Format.INT8: 0.009}.get(target, 2**-8)


@pytest.mark.parametrize("fmt", list(Format))
@pytest.mark.parametrize("columns", [1, 2, 31, 64, 65, 200])
def test_rows_widened_from_the_middle_equal_the_definition(fmt, columns):
    matrix = formats.quantize(
        torch.randn(50, columns, generator=torch.Generator().manual_seed(5)), fmt, BLOCK, 32
    )
    expected = dequantized(matrix)
    assert torch.equal(formats.dequantize(matrix), expected)
    out = torch.full((19, columns), torch.nan)
    widen_rows(matrix, 21, 40, out)
    assert torch.equal(out, expected[21:40])
    strided = torch.full((19, 2, columns), torch.nan)
    widen_rows(matrix, 21, 40, strided[:, 1])
    assert torch.equal(strided[:, 1], out)
    assert bool(strided[:, 0].isnan().all())
    rows = torch.tensor([3, 49, 3, 0])
    assert torch.equal(take_rows(matrix, rows), expected[rows])
