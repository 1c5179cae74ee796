"""Groups of a row that share one 16-bit scale, as int8 and int4 have them. Knows neither.

Group g of a row holds its columns [g * group, (g + 1) * group), cut where the row ends: a width that the group does not
divide gets one shorter group on the right, which is fitted over its own values alone, so that nothing is padded.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

GROUP_SIZES = (32, 64, 128)
SCALE_DTYPE = torch.bfloat16
SMALLEST_SCALE = 2.0**-126  # the smallest normal number of float32 and bfloat16: its reciprocal is finite
LARGEST_WEIGHT = 2.0**126  # above it a rounded scale times a code could overflow float32


def num_groups(columns: int, group: int) -> int:
    """Scales of a row."""
    return -(-columns // group)


def spans(columns: int, group: int) -> Iterator[tuple[slice, slice, int]]:
    """(columns, groups, size of a group): first all whole groups, then the cut one. At most two."""
    whole = columns // group
    if whole:
        yield slice(0, whole * group), slice(0, whole), group
    if columns % group:
        yield slice(whole * group, columns), slice(whole, whole + 1), columns % group


def in_groups(rows: torch.Tensor, columns: slice, size: int) -> torch.Tensor:
    """The columns of one span as (rows, groups, size), a view."""
    return rows[:, columns].unflatten(1, (-1, size))  # type: ignore[no-any-return, no-untyped-call]


def bfloat16_above(scale: torch.Tensor) -> torch.Tensor:
    """The smallest bfloat16 number not below each positive float32 number, as float32."""
    return scale.view(torch.int32).add(0xFFFF).bitwise_and_(-0x10000).view(torch.float32)


def check_weights(rows: torch.Tensor) -> None:
    """ValueError unless every weight is finite and at most LARGEST_WEIGHT in size."""
    low, high = torch.aminmax(rows)
    if not (bool(low >= -LARGEST_WEIGHT) and bool(high <= LARGEST_WEIGHT)):
        raise ValueError("a weight to be quantized is not finite, or is larger than 2^126")
