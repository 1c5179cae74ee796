"""What a checkpoint needs in memory under a profile, from its headers alone. Imports no tensor library and reads no weights.

An estimate for `doctor`: every matrix counts in the profile's default precision, rules are not looked at. The engine
itself computes the exact sum before it loads.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine import Profile

_BYTES = {"fp32": 4, "bf16": 2, "fp8": 1}  # of one value; anything else is taken as stored
_CACHE_BYTES = {"fp32": 4, "bf16": 2, "fp8": 1, "float32": 4, "bfloat16": 2}
_LAYER = re.compile(r"model\.layers\.(\d+)\.")
_MOST_HEADER_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of RAM, about."""

    weights_bytes: int
    cache_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes


def footprint(folder: Path, profile: Profile) -> Footprint | None:
    """None when the folder's files do not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        num_layers = int(config["num_hidden_layers"])
        latent = int(config["kv_lora_rank"]) + int(config["qk_rope_head_dim"])
        files = sorted(folder.glob("*.safetensors"))
        weights = sum(_weights_bytes(_header(file), profile, num_layers) for file in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not files:
        return None
    kind = profile.compute if profile.kv_precision == "auto" else profile.kv_precision
    return Footprint(weights, num_layers * profile.cache_lens * latent * _CACHE_BYTES[kind])


def _header(file: Path) -> dict[str, Any]:
    """The header of a safetensors file: eight bytes of length, then JSON."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _MOST_HEADER_BYTES:
            raise ValueError(f"{file}: no safetensors header")
        header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError(f"{file}: no safetensors header")
    return header


def _weights_bytes(header: dict[str, Any], profile: Profile, num_layers: int) -> int:
    total = 0
    for name, entry in header.items():
        layer = _LAYER.match(name)
        if name == "__metadata__" or (
            layer and int(layer[1]) >= num_layers
        ):  # a layer for speculation is left out
            continue
        begin, end = entry["data_offsets"]
        width = _BYTES.get(profile.precision)
        if width is None:
            total += int(end) - int(begin)
        elif not name.endswith("_scale_inv"):
            total += math.prod(map(int, entry["shape"])) * width
    return total
