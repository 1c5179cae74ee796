"""What a plan has to know of a model: its config, and how each tensor is stored. Reads no weights, loads no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import CheckpointError, ModelNotFoundError
from engine.model.config import ModelConfig
from engine.planner.known import KNOWN_CONFIGS
from engine.weights.config_reader import config_from_dict
from engine.weights.json_fields import read_json_object
from engine.weights.locate import find_model
from engine.weights.names import Kind, TensorSpec, expected_tensors
from engine.weights.quantization import read_formats
from engine.weights.shards import read_tensors

_STORED = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "I8": "int8", "U8": "int4"}
_TORCH = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """`source` says in words where the shape comes from. `stored` is precision by tensor, empty without weight files;
    `groups` is the group size of what `dsv3chat convert` has stored in groups."""

    name: str
    config: ModelConfig
    source: str
    default_precision: str = "bf16"  # of what is not in `stored` and not in FP8 blocks
    stored: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_parameters(self) -> int:
        """Weights without block scales and MTP layers; a tied head counts once."""
        return sum(math.prod(spec.shape) for spec in expected_tensors(self.config).values())

    def stored_precision(self, spec: TensorSpec) -> str:
        """As the files say; without files, as DeepSeek stores: every matrix of a layer in FP8 blocks where there are any."""
        found = self.stored.get(spec.name)
        if found is not None:
            return found
        in_layer = spec.layer is not None and spec.kind.is_matrix and spec.kind is not Kind.EMBEDDING
        return "fp8" if in_layer and self.config.weight_block_size else self.default_precision


def read_shape(model: str) -> ModelShape:
    """`model`: a config.json, a folder, a built model's name, a hub id in the local cache, or one whose shape is known here.

    ModelError for what is none of them or cannot be read; a folder whose weights are absent or incomplete is planned
    from its config.json, and `source` says so.
    """
    if model.endswith(".json"):
        path = Path(model).expanduser()
        name = path.absolute().parent.name if path.name == "config.json" else path.stem
        return _from_config(read_json_object(path), str(path), name, f"{path} alone")
    try:
        folder = find_model(model)
    except ModelNotFoundError:
        if model not in KNOWN_CONFIGS:
            raise
        return _from_config(
            KNOWN_CONFIGS[model], model, model, "its published shape; the model is not on this machine"
        )
    config_path = folder / "config.json"
    raw = read_json_object(config_path)
    shape = _from_config(raw, str(config_path), model, f"{config_path} alone")
    try:
        tensors = read_tensors(folder)
    except CheckpointError as error:
        return ModelShape(shape.name, shape.config, f"{config_path} alone ({error})", shape.default_precision)
    stored = {name: _STORED[info.dtype] for name, info in tensors.items() if info.dtype in _STORED}
    formats = read_formats(raw, expected_tensors(shape.config), str(config_path))
    groups = {name: own.group_size for name, own in formats.items() if own.group_size}
    return ModelShape(shape.name, shape.config, str(folder), shape.default_precision, stored, groups)


def _from_config(raw: Mapping[str, object], where: str, name: str, source: str) -> ModelShape:
    dtype = raw.get("torch_dtype", raw.get("dtype"))
    return ModelShape(
        name,
        config_from_dict(raw, where=where),
        source,
        _TORCH.get(str(dtype).removeprefix("torch."), "bf16"),
    )
