"""Bytes of a matrix in each precision, from its shape alone. Knows no tensors; engine.quant holds the formats themselves.

| precision | bytes of (rows, columns), groups of g along a row |
|---|---|
| fp32, fp16, bf16 | 4, 2, 2 a value |
| fp8 | 1 a value, 4 a block of 128 x 128 (edge blocks are cut) |
| int8 | 1 a value, 2 a group (scale) |
| int4, int3, int2 | 4, 3, 2 bit a value, a row in whole bytes; 4 a group (scale and zero point) |
"""

from __future__ import annotations

import math

WIDE_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
GROUP_SIZES = (32, 64, 128)
DEFAULT_GROUP = {"int8": 128, "int4": 64, "int3": 64, "int2": 64}
_BITS = {"int4": 4, "int3": 3, "int2": 2}


def matrix_bytes(
    precision: str,
    rows: int,
    columns: int,
    group_size: int | None = None,
    block: tuple[int, int] | None = None,
) -> int:
    """Bytes with scales. `group_size` None is the format's own; `block` is that of fp8, by default 128 x 128."""
    if precision in WIDE_BYTES:
        return rows * columns * WIDE_BYTES[precision]
    if precision == "fp8":
        block = block or (128, 128)
        return rows * columns + 4 * math.ceil(rows / block[0]) * math.ceil(columns / block[1])
    groups = math.ceil(columns / (group_size or DEFAULT_GROUP[precision]))
    if precision == "int8":
        return rows * (columns + 2 * groups)
    return rows * (math.ceil(columns * _BITS[precision] / 8) + 4 * groups)
