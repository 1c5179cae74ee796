"""A Hugging Face checkpoint of DeepseekV3ForCausalLM, opened and checked. Knows no placement; reads no weights on opening."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch

from engine.errors import ModelNotFoundError
from engine.model.config import ModelConfig
from engine.weights.config_reader import config_from_dict
from engine.weights.json_fields import read_json_object
from engine.weights.names import TensorSpec, expected_tensors
from engine.weights.quantization import StoredFormat, read_formats
from engine.weights.safetensors_file import SafetensorsFiles
from engine.weights.safetensors_header import TensorInfo
from engine.weights.shards import read_tensors
from engine.weights.validation import check_count, check_tensors


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the folder holds. `specs` are the tensors that the model needs, `tensors` all that the files store.

    `formats` is how the tensors of a folder that `dsv3chat convert` wrote are quantized, empty for an original.
    """

    path: Path
    name: str
    config: ModelConfig
    specs: Mapping[str, TensorSpec]
    tensors: Mapping[str, TensorInfo]
    generation_config: Mapping[str, object]
    notes: tuple[str, ...]
    formats: Mapping[str, StoredFormat] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the JSON files and the headers of the shards, and check that everything fits.

        A checkpoint of DeepSeek-V3's size, 91,000 tensors in 163 shards, takes seconds. Raises ModelNotFoundError,
        UnsupportedModelError and CheckpointError.
        """
        path = folder.expanduser().absolute()
        if not path.is_dir():
            raise ModelNotFoundError(
                f"{path}: no such folder; expected one with config.json and .safetensors files"
            )
        config_path, generation_path = path / "config.json", path / "generation_config.json"
        if not config_path.is_file():
            raise ModelNotFoundError(
                f"{path}: holds no config.json; expected the folder of a Hugging Face checkpoint"
            )
        raw = read_json_object(config_path)
        generation_config = read_json_object(generation_path) if generation_path.is_file() else {}
        config = config_from_dict(raw, generation_config, str(config_path))
        tensors = read_tensors(path)
        check_count(config, len(tensors), str(path))
        specs = expected_tensors(config)
        formats = read_formats(raw, specs, str(config_path))
        notes = check_tensors(config, specs, tensors, str(path), formats)
        return cls(path, _display_name(path), config, specs, tensors, generation_config, notes, formats)

    @property
    def converted(self) -> bool:
        """Whether `dsv3chat convert` wrote it in formats of its own."""
        return bool(self.formats)

    @property
    def num_parameters(self) -> int:
        """Weights of the model: without block scales and MTP layers; a tied head counts once."""
        return sum(math.prod(spec.shape) for spec in self.specs.values())

    def open_files(self) -> SafetensorsFiles:
        """The shards, for reading many tensors; to be used in a `with`."""
        return SafetensorsFiles(self.path, self.tensors)

    def read(self, name: str) -> torch.Tensor:
        """A copy of one tensor as it is stored. Raises KeyError for a name that `tensors` lacks."""
        with self.open_files() as files:
            return files.map(name).clone()


def _display_name(path: Path) -> str:
    """The folder's name; for a snapshot in the Hugging Face cache, the hub id that its folders spell."""
    owner = path.parent.parent.name
    if path.parent.name == "snapshots" and owner.startswith("models--"):
        return owner.removeprefix("models--").replace("--", "/")
    return path.name
