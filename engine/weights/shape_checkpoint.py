"""A checkpoint of a shape alone: every tensor is known and none is stored. Reads no files.

With weights that are kept, or filled in (random_parameters.py), it runs as another does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.model.config import ModelConfig
from engine.weights.checkpoint import Checkpoint
from engine.weights.names import TensorSpec, expected_tensors
from engine.weights.quantization import StoredFormat
from engine.weights.safetensors_header import TensorInfo

_DTYPES = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "fp8": "F8_E4M3", "int8": "I8", "int4": "U8"}


def shape_checkpoint(
    name: str, config: ModelConfig, stored: Callable[[TensorSpec], str], groups: Mapping[str, int]
) -> Checkpoint:
    """`stored` is the precision that `precision: native` would find, `groups` the group sizes of what is stored in groups."""
    specs = expected_tensors(config)
    tensors, formats = {}, {}
    for spec in specs.values():
        precision = stored(spec) if spec.kind.is_matrix else "fp32"
        tensors[spec.name] = TensorInfo(_DTYPES[precision], spec.shape, "", 0, math.prod(spec.shape))
        if spec.name in groups:
            formats[spec.name] = StoredFormat(precision, groups[spec.name])
    return Checkpoint(Path(), name, config, specs, tensors, {}, (), formats)
