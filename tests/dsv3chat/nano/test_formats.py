"""Two-bit changes and FP8 blocks against element-by-element formulas."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv3chat.nano.delta import LEVELS, two_bit_change
from dsv3chat.nano.fp8 import block_fp8


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 8), (7, 130)])
def test_two_bit_codes_are_read_lowest_bits_first_and_row_by_row(shape):
    generator = torch.Generator().manual_seed(shape[1])
    count = math.prod(shape)
    codes = torch.randint(0, 256, (-(-count // 4),), dtype=torch.uint8, generator=generator)
    scale = torch.rand(shape[0], 1, generator=generator).half()
    change = two_bit_change(codes, scale, torch.Size(shape))
    for index in range(count):
        row, column = divmod(index, shape[1])
        code = (int(codes[index // 4]) >> 2 * (index % 4)) & 3
        assert change[row, column] == torch.tensor(LEVELS[code]) * scale[row, 0].float()


def nearest_e4m3(value):
    """The nearest of e4m3's values, ties to the even mantissa: from the format's definition."""
    if value == 0:
        return 0.0
    exponent = max(math.floor(math.log2(abs(value))), -6)
    step = 2.0 ** (exponent - 3)
    return math.copysign(min(round(abs(value) / step) * step, 448.0), value)  # round() is half to even


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 260), columns=st.integers(1, 260), seed=st.integers(0, 1 << 30))
def test_fp8_blocks_round_to_nearest_with_the_scale_of_their_own_block(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * torch.rand(rows, 1, generator=generator) * 3
    values, scales = block_fp8(weight)
    assert values.shape == weight.shape
    assert scales.shape == (-(-rows // 128), -(-columns // 128))
    for r in range(scales.shape[0]):
        for c in range(scales.shape[1]):
            area = (slice(128 * r, 128 * r + 128), slice(128 * c, 128 * c + 128))
            assert scales[r, c] == weight[area].abs().max() / 448
            assert values[area].float().abs().max() == 448
    for row, column in torch.randint(0, 1 << 30, (20, 2), generator=generator).tolist():
        row, column = row % rows, column % columns
        scaled = (weight[row, column] / scales[row // 128, column // 128]).item()
        assert values[row, column].float().item() == nearest_e4m3(scaled)


def test_fp8_of_zeros_is_zeros_with_a_finite_scale():
    values, scales = block_fp8(torch.zeros(130, 5))
    assert not values.float().any()
    assert scales.isfinite().all()
    assert (scales > 0).all()


def test_stacked_matrices_have_blocks_of_their_own():
    stacked = torch.randn(3, 64, 576, generator=torch.Generator().manual_seed(1))
    values, scales = block_fp8(stacked)
    for matrix, v, s in zip(stacked, values, scales, strict=True):
        alone_values, alone_scales = block_fp8(matrix)
        assert torch.equal(v.float(), alone_values.float())
        assert torch.equal(s, alone_scales)
