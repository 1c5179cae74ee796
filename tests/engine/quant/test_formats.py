"""Every format: its bytes are what its tensors hold, and the way to float32 and back."""

import pytest
import torch

from engine.quant import formats
from engine.quant.matrix import Format

BLOCK = (32, 48)
EPS = {Format.FP32: 0.0, Format.FP16: 2**-11, Format.BF16: 2**-8, Format.FP8: 2**-4}  # half a step, relative


@pytest.mark.parametrize("fmt", list(Format))
@pytest.mark.parametrize("shape", [(1, 1), (33, 47), (64, 96), (70, 200)])
def test_bytes_are_those_of_the_tensors(fmt, shape):
    assert formats.nbytes(fmt, *shape, BLOCK) == formats.empty(fmt, *shape, BLOCK).nbytes
    assert formats.empty_stack(fmt, 3, *shape, BLOCK).nbytes == 3 * formats.nbytes(fmt, *shape, BLOCK)


@pytest.mark.parametrize("fmt", list(Format))
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
