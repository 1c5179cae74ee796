"""One tensor's way through a conversion: read from the files, put into its format, handed on. Knows no shard and no order."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from engine.convert.plan import ConversionPlan, Item, Part
from engine.quant.formats import convert_into, empty
from engine.quant.matrix import Matrix
from engine.weights.safetensors_file import SafetensorsFiles
from engine.weights.stored import damaged, stored_matrix


def converted(
    plan: ConversionPlan, files: SafetensorsFiles, item: Item
) -> Iterator[tuple[Part, torch.Tensor]]:
    """The parts of `item` and their values. CheckpointError for values that no number is.

    A tensor that keeps its format comes as it is stored, without a copy in memory.
    """
    if item.format is None:
        yield item.parts[0], files.map(item.name)
        return
    matrix = stored_matrix(plan.checkpoint, files, item.name)
    keeps = matrix.format is item.format and matrix.group == item.group
    target = matrix if keeps else _quantized(plan, item, matrix)
    tensors = [part for part in (target.data, target.scale, target.zero) if part is not None]
    yield from zip(item.parts, tensors, strict=True)


def _quantized(plan: ConversionPlan, item: Item, matrix: Matrix) -> Matrix:
    assert item.format is not None
    rows, columns = item.shape
    target = empty(item.format, rows, columns, plan.block, item.group or None)
    try:
        convert_into(target, matrix, plan.fit)
    except ValueError as error:
        raise damaged(plan.checkpoint, item.name, str(error)) from error
    return target
