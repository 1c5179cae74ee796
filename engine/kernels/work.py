"""Memory that the kernels of a GPU need beside weights, cache and activations. Loads no torch: plans count with it."""

from __future__ import annotations

TILE_VALUES = 1 << 23
"""How much of a matrix is wide at a time. Ten launches of some 4 us hide behind the 100 us that widening so much takes."""

WORK_VALUES = 1 << 25
"""Most float32 values of attention's scores, keys and values at a time."""

CODE_BYTES = 130_000_000
"""Kernels of torch and cuBLAS that the driver loads when they are first used: 110 to 170 MB on an H100."""

WORK_BYTES = TILE_VALUES * (4 + 2 + 6) + WORK_VALUES * 4 + CODE_BYTES
"""The tile in float32 and bf16, what unpacks it (three times two bytes a value), attention, and code."""
