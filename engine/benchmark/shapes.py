"""The shapes of the layers whose kernels are measured: nano, Moonlight-16B-A3B, DeepSeek-V3. Knows no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerShape:
    """A layer of experts, by the names of config.json's keys."""

    hidden: int
    heads: int
    nope: int
    rope: int
    v: int
    rank: int
    expert_width: int
    num_experts: int
    top_k: int


SHAPES: Mapping[str, LayerShape] = {
    "nano": LayerShape(576, 9, 32, 96, 64, 384, 64, 16, 6),
    "moonlight": LayerShape(2048, 16, 128, 64, 128, 512, 1408, 64, 6),
    "deepseek": LayerShape(7168, 128, 128, 64, 128, 512, 2048, 256, 8),
}
