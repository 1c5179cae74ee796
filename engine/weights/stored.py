"""A matrix of a checkpoint as the files store it: values, scales and zero points together. Knows no placement."""

from __future__ import annotations

from engine.errors import CheckpointError
from engine.quant import fp8
from engine.quant.formats import FORMATS
from engine.quant.matrix import Format, Matrix
from engine.weights.checkpoint import Checkpoint
from engine.weights.names import group_scale_name, scale_name, zero_name
from engine.weights.safetensors_file import SafetensorsFiles


def stored_matrix(checkpoint: Checkpoint, files: SafetensorsFiles, name: str) -> Matrix:
    """The matrix `name` in its stored format; its tensors live in the files until it goes.

    CheckpointError for FP8 codes, scales or zero points that are no numbers; float values are not looked at.
    """
    data = files.map(name)
    fmt = FORMATS[data.dtype]
    if fmt is Format.FP8:
        block = checkpoint.config.weight_block_size or (128, 128)
        matrix = Matrix(fmt, data, files.map(scale_name(name)).float(), block)
    elif fmt in (Format.INT8, Format.INT4):
        rows, columns = checkpoint.specs[name].shape
        scale = files.map(group_scale_name(name))
        group = checkpoint.formats[name].group_size
        if fmt is Format.INT8:
            matrix = Matrix(fmt, data, scale, group=group)
        else:
            zero = files.map(zero_name(name))
            matrix = Matrix(fmt, data, scale, packed_shape=(rows, columns), zero=zero, group=group)
    else:
        return Matrix(fmt, data)
    parts = [part for part in (matrix.scale, matrix.zero) if part is not None]
    if (fmt is Format.FP8 and fp8.has_nan(data)) or not all(bool(part.isfinite().all()) for part in parts):
        problem = "it or its scales hold values that are not numbers"
        raise damaged(checkpoint, name, problem)
    return matrix


def damaged(checkpoint: Checkpoint, name: str, problem: str) -> CheckpointError:
    """The error of a tensor whose values cannot be used."""
    shard = checkpoint.tensors[name].shard
    again = "convert" if checkpoint.formats else "download"
    return CheckpointError(f"{checkpoint.path}: {name}: {problem}; {again} {shard} again")
