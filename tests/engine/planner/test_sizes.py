"""Bytes from a shape alone are the bytes that the formats really take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.planner.sizes import DEFAULT_GROUP, GROUP_SIZES, matrix_bytes
from engine.quant import grouped
from engine.quant.formats import DEFAULT_GROUPS, empty, nbytes
from engine.quant.matrix import Format

FORMATS = {fmt.value: fmt for fmt in Format}


@given(
    st.sampled_from(["fp32", "fp16", "bf16", "fp8", "int8", "int4"]),
    st.integers(1, 300),
    st.integers(1, 700),
    st.sampled_from([None, *GROUP_SIZES]),
    st.sampled_from([(128, 128), (32, 64)]),
)
def test_a_plan_counts_what_the_format_counts(precision, rows, columns, group, block):
    assert matrix_bytes(precision, rows, columns, group, block) == nbytes(
        FORMATS[precision], rows, columns, block, group
    )


@pytest.mark.parametrize("precision", ["bf16", "fp8", "int8", "int4"])
def test_a_plan_counts_what_is_allocated(precision):
    matrix = empty(FORMATS[precision], 45, 321, (128, 128), 32 if precision.startswith("int") else None)
    held = [matrix.data, matrix.scale, matrix.zero]
    assert matrix_bytes(precision, 45, 321, 32) == sum(t.nbytes for t in held if t is not None)


def test_groups_are_those_of_the_formats():
    assert GROUP_SIZES == grouped.GROUP_SIZES
    assert {fmt.value: group for fmt, group in DEFAULT_GROUPS.items()}.items() <= DEFAULT_GROUP.items()


def test_bits_a_value_are_those_of_the_design():
    assert matrix_bytes("int4", 2048, 7168, 64) * 8 / (2048 * 7168) == 4.5
    assert matrix_bytes("int4", 2048, 7168, 128) * 8 / (2048 * 7168) == 4.25
    assert matrix_bytes("int8", 2048, 7168) * 8 / (2048 * 7168) == 8.125
