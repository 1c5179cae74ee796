"""Which tensors a DeepseekV3ForCausalLM checkpoint holds: Hugging Face names, shapes, kinds. Knows no files and no formats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from engine.model.config import ModelConfig

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
NORM = "model.norm.weight"
SCALE_SUFFIX = "_scale_inv"
GROUP_SCALE_SUFFIX = "_scale"
ZERO_SUFFIX = "_zero"
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")

_HARMLESS_SUFFIXES = (".rotary_emb.inv_freq",)  # a buffer that older exporters stored; the engine computes it
_MTP_MARKS = (".eh_proj.weight", ".enorm.weight", ".hnorm.weight")


class Kind(Enum):
    """What a tensor is for. The value is how it is called towards a person."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    DENSE = "dense MLP"
    EXPERTS = "routed experts"
    SHARED = "shared experts"
    ROUTER = "router"
    NORM = "norm"
    HEAD = "head"

    @property
    def is_matrix(self) -> bool:
        """A matrix takes the format that the placement chooses; norms and routers are float32 in memory always."""
        return self not in (Kind.NORM, Kind.ROUTER)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that the config asks for. `layer` is None outside the layers."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    layer: int | None = None


def scale_name(name: str) -> str:
    """Where the block scales of an FP8 matrix are."""
    return name + SCALE_SUFFIX


def group_scale_name(name: str) -> str:
    """Where the scales of an int8 or int4 matrix are, one per group of a row."""
    return name + GROUP_SCALE_SUFFIX


def zero_name(name: str) -> str:
    """Where the zero points of an int4 matrix are."""
    return name + ZERO_SUFFIX


def layer_prefix(layer: int) -> str:
    return f"model.layers.{layer}"


def layer_of(name: str) -> int | None:
    """The layer's index in a tensor's name, None outside the layers."""
    parts = name.split(".", 3)
    is_layer = len(parts) == 4 and parts[0] == "model" and parts[1] == "layers" and parts[2].isdecimal()
    return int(parts[2]) if is_layer else None


def is_harmless(name: str) -> bool:
    """Known leftovers that no engine reads."""
    return name.endswith(_HARMLESS_SUFFIXES)


def is_mtp_mark(name: str) -> bool:
    """A tensor that only a multi-token-prediction layer has."""
    return name.endswith(_MTP_MARKS)


def expected_tensors(config: ModelConfig) -> dict[str, TensorSpec]:
    """Every tensor of the model by name, in the order of computation; FP8 scales and MTP layers are not among them."""
    return {spec.name: spec for spec in _specs(config)}


def _specs(config: ModelConfig) -> Iterator[TensorSpec]:
    hidden = config.hidden_size
    yield TensorSpec(EMBEDDING, (config.vocab_size, hidden), Kind.EMBEDDING)
    for layer in range(config.num_hidden_layers):
        prefix = layer_prefix(layer)
        yield TensorSpec(f"{prefix}.input_layernorm.weight", (hidden,), Kind.NORM, layer)
        yield from _attention(config, layer)
        yield TensorSpec(f"{prefix}.post_attention_layernorm.weight", (hidden,), Kind.NORM, layer)
        if config.is_moe_layer(layer):
            yield from _moe(config, layer)
        else:
            yield from _mlp(f"{prefix}.mlp", hidden, config.intermediate_size, Kind.DENSE, layer)
    yield TensorSpec(NORM, (hidden,), Kind.NORM)
    if not config.tie_word_embeddings:
        yield TensorSpec(HEAD, (config.vocab_size, hidden), Kind.HEAD)


def _attention(config: ModelConfig, layer: int) -> Iterator[TensorSpec]:
    prefix = f"{layer_prefix(layer)}.self_attn"
    hidden, heads = config.hidden_size, config.num_attention_heads
    query = heads * (config.qk_nope_head_dim + config.qk_rope_head_dim)
    if config.q_lora_rank is None:
        yield TensorSpec(f"{prefix}.q_proj.weight", (query, hidden), Kind.ATTENTION, layer)
    else:
        rank = config.q_lora_rank
        yield TensorSpec(f"{prefix}.q_a_proj.weight", (rank, hidden), Kind.ATTENTION, layer)
        yield TensorSpec(f"{prefix}.q_a_layernorm.weight", (rank,), Kind.NORM, layer)
        yield TensorSpec(f"{prefix}.q_b_proj.weight", (query, rank), Kind.ATTENTION, layer)
    yield TensorSpec(
        f"{prefix}.kv_a_proj_with_mqa.weight", (config.latent_dim, hidden), Kind.ATTENTION, layer
    )
    yield TensorSpec(f"{prefix}.kv_a_layernorm.weight", (config.kv_lora_rank,), Kind.NORM, layer)
    key_value = heads * (config.qk_nope_head_dim + config.v_head_dim)
    yield TensorSpec(f"{prefix}.kv_b_proj.weight", (key_value, config.kv_lora_rank), Kind.ATTENTION, layer)
    yield TensorSpec(f"{prefix}.o_proj.weight", (hidden, heads * config.v_head_dim), Kind.ATTENTION, layer)


def _moe(config: ModelConfig, layer: int) -> Iterator[TensorSpec]:
    prefix = f"{layer_prefix(layer)}.mlp"
    hidden, width, experts = config.hidden_size, config.moe_intermediate_size, config.n_routed_experts
    yield TensorSpec(f"{prefix}.gate.weight", (experts, hidden), Kind.ROUTER, layer)
    yield TensorSpec(f"{prefix}.gate.e_score_correction_bias", (experts,), Kind.ROUTER, layer)
    for expert in range(experts):
        yield from _mlp(f"{prefix}.experts.{expert}", hidden, width, Kind.EXPERTS, layer)
    if config.n_shared_experts:
        shared = width * config.n_shared_experts
        yield from _mlp(f"{prefix}.shared_experts", hidden, shared, Kind.SHARED, layer)


def _mlp(prefix: str, hidden: int, width: int, kind: Kind, layer: int) -> Iterator[TensorSpec]:
    yield TensorSpec(f"{prefix}.gate_proj.weight", (width, hidden), kind, layer)
    yield TensorSpec(f"{prefix}.up_proj.weight", (width, hidden), kind, layer)
    yield TensorSpec(f"{prefix}.down_proj.weight", (hidden, width), kind, layer)
