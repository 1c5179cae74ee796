"""Writes a model of random weights as GGUF, as llama.cpp takes DeepSeek-V3's architecture ("deepseek2"). No engine in it.

Matrices have the types that llama.cpp's own quantization gives them: for Q4_0 and Q4_K_M the head in Q6_K, for Q4_K_M the down
projections of some layers in Q6_K; where blocks of 256 do not divide a row, Q5_0 in place of Q4_K and Q8_0 in place of
Q6_K. Bytes are random, scales such that a value has the variance 1 / columns.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

RECIPES = {"Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15}  # llama.cpp's number of the file's type
_ALIGNMENT = 32
_TILE_BYTES = 4 << 20


@dataclass(frozen=True)
class Type:
    """A ggml type: values and bytes of a block, and where its 16-bit scales are, relative to the value's deviation."""

    code: int
    values: int
    nbytes: int
    scales: tuple[tuple[int, float], ...] = ()


# deviation of a uniform code: 4 bit 4.6, 5 bit 9.2, 6 bit 18.5, 8 bit 74; of k-quants also times the mean 6-bit scale, 31.5
TYPES = {
    "F32": Type(0, 1, 4),
    "Q4_0": Type(2, 32, 18, ((0, 1 / 4.6),)),
    "Q5_0": Type(6, 32, 22, ((0, 1 / 9.2),)),
    "Q8_0": Type(8, 32, 34, ((0, 1 / 74),)),
    "Q4_K": Type(12, 256, 144, ((0, 1 / (4.6 * 31.5)), (2, 7.5 / (4.6 * 31.5)))),
    "Q6_K": Type(14, 256, 210, ((208, 1 / (18.5 * 74)),)),
}
_WITHOUT_LONG_ROWS = {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}


@dataclass(frozen=True)
class Tensor:
    name: str
    dims: tuple[int, ...]  # the fastest first
    type: str

    @property
    def nbytes(self) -> int:
        kind, count = TYPES[self.type], int(np.prod(self.dims, dtype=np.int64))
        return count // kind.values * kind.nbytes


def write_gguf(path: Path, config: Mapping[str, Any], recipe: str) -> dict[str, int]:
    """`config`: of config.json. Returns the bytes by type."""
    tensors = list(_tensors(config, recipe))
    by_type: dict[str, int] = {}
    for tensor in tensors:
        by_type[tensor.type] = by_type.get(tensor.type, 0) + tensor.nbytes
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        keys = list(_keys(config, recipe))
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)))
        for key, value in keys:
            file.write(_text(key) + _value(value))
        offset = 0
        for tensor in tensors:
            file.write(_text(tensor.name) + struct.pack("<I", len(tensor.dims)))
            file.write(struct.pack(f"<{len(tensor.dims)}Q", *tensor.dims))
            file.write(struct.pack("<IQ", TYPES[tensor.type].code, offset))
            offset += _aligned(tensor.nbytes)
        file.write(b"\0" * (_aligned(file.tell()) - file.tell()))
        for tensor in tensors:
            _write_values(file, tensor)
    partial.rename(path)
    return by_type


def _keys(config: Mapping[str, Any], recipe: str) -> Iterator[tuple[str, Any]]:
    c = config
    yield "general.architecture", "deepseek2"
    yield "general.name", "random"
    yield "general.file_type", RECIPES[recipe]
    yield "tokenizer.ggml.model", "no_vocab"
    rope, rank = c["qk_rope_head_dim"], c["kv_lora_rank"]
    for key, value in {
        "vocab_size": c["vocab_size"],
        "context_length": c["max_position_embeddings"],
        "embedding_length": c["hidden_size"],
        "block_count": c["num_hidden_layers"],
        "feed_forward_length": c["intermediate_size"],
        "leading_dense_block_count": c["first_k_dense_replace"],
        "attention.head_count": c["num_attention_heads"],
        "attention.head_count_kv": 1,
        "attention.layer_norm_rms_epsilon": float(c["rms_norm_eps"]),
        "attention.q_lora_rank": c["q_lora_rank"] or 0,
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + rope,
        "attention.value_length": rank,
        "attention.key_length_mla": c["qk_nope_head_dim"] + rope,
        "attention.value_length_mla": c["v_head_dim"],
        "rope.dimension_count": rope,
        "rope.freq_base": float(c["rope_theta"]),
        "expert_count": c["n_routed_experts"],
        "expert_used_count": c["num_experts_per_tok"],
        "expert_shared_count": c["n_shared_experts"],
        "expert_feed_forward_length": c["moe_intermediate_size"],
        "expert_weights_scale": float(c["routed_scaling_factor"]),
        "expert_weights_norm": bool(c["norm_topk_prob"]),
        "expert_gating_func": 2,  # sigmoid
        "expert_group_count": c["n_group"],
        "expert_group_used_count": c["topk_group"],
    }.items():
        yield f"deepseek2.{key}", value


def _tensors(config: Mapping[str, Any], recipe: str) -> Iterator[Tensor]:
    c, layers = config, config["num_hidden_layers"]
    hidden, heads, rank = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]

    def matrix(name: str, *dims: int, layer: int = 0) -> Tensor:
        return Tensor(
            f"{name}.weight", dims, _type_of(name, dims[0], recipe, layer, layers, c["tie_word_embeddings"])
        )

    def vector(name: str, *dims: int) -> Tensor:
        return Tensor(name, dims, "F32")

    yield matrix("token_embd", hidden, c["vocab_size"])
    yield vector("output_norm.weight", hidden)
    if not c["tie_word_embeddings"]:
        yield matrix("output", hidden, c["vocab_size"])
    for i in range(layers):
        at = f"blk.{i}."
        yield vector(at + "attn_norm.weight", hidden)
        yield vector(at + "attn_kv_a_norm.weight", rank)
        yield vector(at + "ffn_norm.weight", hidden)
        query = heads * (nope + rope)
        if c["q_lora_rank"]:
            yield vector(at + "attn_q_a_norm.weight", c["q_lora_rank"])
            yield matrix(at + "attn_q_a", hidden, c["q_lora_rank"])
            yield matrix(at + "attn_q_b", c["q_lora_rank"], query)
        else:
            yield matrix(at + "attn_q", hidden, query)
        yield matrix(at + "attn_kv_a_mqa", hidden, rank + rope)
        yield matrix(at + "attn_k_b", nope, rank, heads)
        yield matrix(at + "attn_v_b", rank, v, heads)
        yield matrix(at + "attn_output", heads * v, hidden)
        if i < c["first_k_dense_replace"]:
            parts = [("", c["intermediate_size"], ())]
        else:
            experts = c["n_routed_experts"]
            yield vector(at + "ffn_gate_inp.weight", hidden, experts)
            yield vector(at + "exp_probs_b.bias", experts)
            width = c["moe_intermediate_size"]
            parts = [("_exps", width, (experts,)), ("_shexp", width * c["n_shared_experts"], ())]
        for suffix, width, count in parts:
            yield matrix(f"{at}ffn_gate{suffix}", hidden, width, *count, layer=i)
            yield matrix(f"{at}ffn_up{suffix}", hidden, width, *count, layer=i)
            yield matrix(f"{at}ffn_down{suffix}", width, hidden, *count, layer=i)


def _type_of(name: str, columns: int, recipe: str, layer: int, layers: int, tied: bool) -> str:
    is_head = name == "output" or (tied and name == "token_embd")
    more_bits = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    if recipe == "Q8_0":
        wanted = "Q8_0"
    elif is_head or (recipe == "Q4_K_M" and "ffn_down" in name and more_bits):
        wanted = "Q6_K"
    else:
        wanted = "Q4_0" if recipe == "Q4_0" else "Q4_K"
    return _WITHOUT_LONG_ROWS.get(wanted, wanted) if columns % TYPES[wanted].values else wanted


def _write_values(file: BinaryIO, tensor: Tensor) -> None:
    random = np.random.default_rng(0)
    if tensor.type == "F32":
        values = np.ones(tensor.dims[0], dtype=np.float32)
        if len(tensor.dims) > 1:
            values = (random.standard_normal(tensor.dims[::-1]) * tensor.dims[0] ** -0.5).astype(np.float32)
        elif tensor.name.endswith("bias"):
            values = (random.standard_normal(tensor.dims[0]) * 0.01).astype(np.float32)
        tile = values.tobytes()
    else:
        kind = TYPES[tensor.type]
        blocks = random.integers(0, 256, (_TILE_BYTES // kind.nbytes, kind.nbytes), dtype=np.uint8)
        for at, factor in kind.scales:
            scale = np.float16(factor * tensor.dims[0] ** -0.5)
            blocks[:, at : at + 2] = np.frombuffer(scale.tobytes(), dtype=np.uint8)
        tile = blocks.tobytes()
    left = tensor.nbytes
    while left:
        left -= file.write(tile[: min(left, len(tile))])
    file.write(b"\0" * (_aligned(tensor.nbytes) - tensor.nbytes))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _value(value: bool | int | float | str) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    return struct.pack("<I", 8) + _text(value)
