"""The recipe of nano: base and data to the tensors of a checkpoint, layer by layer. Knows no downloads and writes no files.

Each matrix is the closed form of the base's, plus what training changed (two bits a weight), rounded to FP8 blocks.
Norms and routers come as trained, the MTP layer as it is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open

from dsv3chat.nano.closed_form import (
    AttentionShape,
    BaseAttention,
    attention_as_mla,
    halves_from_neighbours,
    mlp_as_experts,
)
from dsv3chat.nano.delta import two_bit_change
from dsv3chat.nano.fp8 import block_fp8
from dsv3chat.nano.gguf import GgufFile

SHAPE = AttentionShape(hidden=576, heads=9, groups=3, head_dim=64, fast_pairs=16)
NUM_LAYERS = 30
NUM_EXPERTS = 16
_ROUTED = {"mlp.w1": "gate_proj", "mlp.w3": "up_proj", "mlp.w2": "down_proj"}
_NORMS = ("input_layernorm", "post_attention_layernorm", "self_attn.kv_a_layernorm")


class Data(Protocol):
    """nano.safetensors as safe_open gives it: tensors by name, read when asked for."""

    def keys(self) -> list[str]: ...
    def get_tensor(self, name: str) -> torch.Tensor: ...


def checkpoint_tensors(base_file: Path, data_file: Path) -> Iterator[dict[str, torch.Tensor]]:
    """The checkpoint's tensors: embedding and final norm, then each layer 0..29, then the MTP layer; 32 parts."""
    base = GgufFile(base_file)
    with safe_open(data_file, "pt") as data:
        yield {
            "model.embed_tokens.weight": _base(base, "token_embd").bfloat16(),
            "model.norm.weight": data.get_tensor("exact.norm.weight").bfloat16(),
        }
        names = set(data.keys())
        for layer in range(NUM_LAYERS):
            yield _layer(base, data, names, layer)
        yield {n.removeprefix("mtp."): data.get_tensor(n) for n in sorted(names) if n.startswith("mtp.")}


def _base(base: GgufFile, name: str) -> torch.Tensor:
    return torch.from_numpy(base.tensor(f"{name}.weight"))


def _layer(base: GgufFile, data: Data, names: set[str], layer: int) -> dict[str, torch.Tensor]:
    out: dict[str, torch.Tensor] = {}
    prefix = f"model.layers.{layer}"
    for part, start in (_attention(base, data, layer) | _mlp(base, data, names, layer)).items():
        key = f"delta.layers.{layer}.{part}"
        change = two_bit_change(data.get_tensor(f"{key}.codes"), data.get_tensor(f"{key}.scale"), start.shape)
        matrix = start.float() + change
        if part in _ROUTED:
            out |= _experts(f"{prefix}.mlp.experts", _ROUTED[part], matrix)
        else:
            out |= _named(f"{prefix}.{part}", *block_fp8(matrix))
    for norm in _NORMS:
        out[f"{prefix}.{norm}.weight"] = data.get_tensor(f"exact.layers.{layer}.{norm}.weight").bfloat16()
    if f"exact.layers.{layer}.mlp.gate" in names:
        for ours, theirs in (
            ("gate", "gate.weight"),
            ("e_score_correction_bias", "gate.e_score_correction_bias"),
        ):
            out[f"{prefix}.mlp.{theirs}"] = data.get_tensor(f"exact.layers.{layer}.mlp.{ours}").float()
    return out


def _attention(base: GgufFile, data: Data, layer: int) -> dict[str, torch.Tensor]:
    block = f"blk.{layer}"
    matrices = BaseAttention(
        norm=_base(base, f"{block}.attn_norm"),
        q=halves_from_neighbours(_base(base, f"{block}.attn_q"), SHAPE.heads),
        k=halves_from_neighbours(_base(base, f"{block}.attn_k"), SHAPE.groups),
        v=_base(base, f"{block}.attn_v"),
        o=_base(base, f"{block}.attn_output"),
    )
    spare = data.get_tensor(f"closed_form.layers.{layer}.spare")
    return attention_as_mla(matrices, SHAPE, spare, data.get_tensor(f"closed_form.layers.{layer}.rms"))


def _mlp(base: GgufFile, data: Data, names: set[str], layer: int) -> dict[str, torch.Tensor]:
    gate, up, down = (_base(base, f"blk.{layer}.ffn_{name}") for name in ("gate", "up", "down"))
    key = f"closed_form.layers.{layer}"
    if f"{key}.routed" not in names:  # a dense layer
        return {"mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": down}
    routed, shared = data.get_tensor(f"{key}.routed").long(), data.get_tensor(f"{key}.shared").long()
    return mlp_as_experts(gate, up, down, routed, shared)


def _experts(prefix: str, projection: str, matrix: torch.Tensor) -> dict[str, torch.Tensor]:
    """All routed experts' `projection`, each with blocks of its own."""
    dim = 1 if projection == "down_proj" else 0
    stacked = torch.stack(matrix.chunk(NUM_EXPERTS, dim))  # (experts, out, in)
    values, scales = block_fp8(stacked)
    out: dict[str, torch.Tensor] = {}
    for expert in range(NUM_EXPERTS):
        out |= _named(f"{prefix}.{expert}.{projection}", values[expert], scales[expert])
    return out


def _named(name: str, values: torch.Tensor, scales: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": values, f"{name}.weight_scale_inv": scales}
