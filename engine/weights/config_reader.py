"""config.json -> ModelConfig: refuses by name what is missing, contradicts itself, or is not built. Knows no tensors."""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import CheckpointError, UnsupportedModelError
from engine.model.config import ModelConfig, YarnScaling
from engine.weights.json_fields import Fields
from engine.weights.quantization import weight_block_size

ARCHITECTURE = "DeepseekV3ForCausalLM"

# Keys that change the arithmetic, with the one value that the engine computes. Absent or null counts as that value.
_ONLY_BUILT: tuple[tuple[str, object], ...] = (
    ("scoring_func", "sigmoid"),
    ("topk_method", "noaux_tc"),
    ("hidden_act", "silu"),
    ("attention_bias", False),
    ("mlp_bias", False),
    ("rope_interleave", True),
)
_YARN_KEYS = frozenset(
    {
        "type",
        "rope_type",
        "rope_theta",
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
    }
)
_NEUTRAL_ROPE_VALUES: dict[str, object] = {"partial_rotary_factor": 1.0, "truncate": True}


def config_from_dict(
    raw: Mapping[str, object],
    generation_config: Mapping[str, object] | None = None,
    where: str = "config.json",
) -> ModelConfig:
    """The model's shape. `where` begins every message. eos ids: generation_config's, then the config's own.

    Raises UnsupportedModelError for another architecture or an option that is not built, CheckpointError for a value
    that is missing, of the wrong type, or contradicts another.
    """
    fields = Fields(raw, where)
    _check_architecture(fields)
    _check_options(fields)
    layers = fields.integer("num_hidden_layers", 1)
    experts = fields.integer("n_routed_experts", 0, default=0)
    first_dense = fields.integer("first_k_dense_replace", 0, default=0)
    routed = experts > 0 and first_dense < layers
    rope_theta, yarn = _rope(fields)
    config = ModelConfig(
        vocab_size=fields.integer("vocab_size", 1),
        hidden_size=fields.integer("hidden_size", 1),
        num_hidden_layers=layers,
        num_attention_heads=fields.integer("num_attention_heads", 1),
        q_lora_rank=fields.integer("q_lora_rank", 1) if fields.has("q_lora_rank") else None,
        kv_lora_rank=fields.integer("kv_lora_rank", 1),
        qk_nope_head_dim=fields.integer("qk_nope_head_dim", 1),
        qk_rope_head_dim=fields.integer("qk_rope_head_dim", 2),
        v_head_dim=fields.integer("v_head_dim", 1),
        intermediate_size=fields.integer("intermediate_size", 1),
        # A dense model needs none of the next; where experts are routed, nothing about them is guessed.
        moe_intermediate_size=fields.integer("moe_intermediate_size", 1, default=None if routed else 1),
        n_routed_experts=experts,
        num_experts_per_tok=fields.integer("num_experts_per_tok", 1, default=None if routed else 1),
        n_shared_experts=fields.integer("n_shared_experts", 0, default=0),
        first_k_dense_replace=first_dense,
        moe_layer_freq=fields.integer("moe_layer_freq", 1, default=1),
        n_group=fields.integer("n_group", 1, default=None if routed else 1),
        topk_group=fields.integer("topk_group", 1, default=None if routed else 1),
        routed_scaling_factor=fields.number("routed_scaling_factor", default=None if routed else 1.0),
        norm_topk_prob=fields.flag("norm_topk_prob", default=True),
        rms_norm_eps=fields.number("rms_norm_eps"),
        max_position_embeddings=fields.integer("max_position_embeddings", 1),
        rope_theta=rope_theta,
        yarn=yarn,
        tie_word_embeddings=fields.flag("tie_word_embeddings", default=False),
        num_nextn_predict_layers=fields.integer("num_nextn_predict_layers", 0, default=0),
        weight_block_size=weight_block_size(fields),
        bos_token_id=fields.integer("bos_token_id", 0) if fields.has("bos_token_id") else None,
        eos_token_ids=_eos_token_ids(fields, generation_config or {}),
        metadata=_metadata(fields),
    )
    _check_consistency(fields, config, routed)
    return config


def _check_architecture(fields: Fields) -> None:
    found = fields.values.get("architectures")
    if found == [ARCHITECTURE]:
        return
    if not isinstance(found, list) or not found:
        raise UnsupportedModelError(
            f"{fields.where}: architectures is {found!r}, so what the model is cannot be told; expected ['{ARCHITECTURE}']"
        )
    raise UnsupportedModelError(
        f"{fields.where}: this is a {', '.join(str(name)[:60] for name in found[:4])}; the engine runs {ARCHITECTURE} "
        "(DeepSeek-V3, V3-0324, V3.1, R1, Kimi-K2, Moonlight)"
    )


def _check_options(fields: Fields) -> None:
    for key, built in _ONLY_BUILT:
        value = fields.values.get(key)
        if value is not None and value != built:
            raise UnsupportedModelError(
                f"{fields.where}: {key} is {value!r}; the engine computes {built!r} only"
            )


def _rope(fields: Fields) -> tuple[float, YarnScaling | None]:
    """(theta, scaling) from rope_theta and rope_scaling, or from transformers 5's rope_parameters; both must agree."""
    top = fields.number("rope_theta") if fields.has("rope_theta") else None
    found: dict[str, tuple[float | None, YarnScaling | None]] = {}
    for key in ("rope_scaling", "rope_parameters"):
        nested = fields.nested(key)
        if nested is not None:
            theta = nested.number("rope_theta") if nested.has("rope_theta") else top
            found[key] = theta, _scaling(nested)
    if len(found) == 2 and found["rope_scaling"] != found["rope_parameters"]:
        raise CheckpointError(f"{fields.where}: rope_scaling and rope_parameters contradict each other")
    theta, yarn = next(iter(found.values()), (top, None))
    if theta is None:
        raise fields.error("rope_theta", "a number above 0, here or in rope_parameters")
    if top is not None and theta != top:
        raise CheckpointError(f"{fields.where}: rope_theta is {top:g} and, for the scaling, {theta:g}")
    return theta, yarn


def _scaling(rope: Fields) -> YarnScaling | None:
    kinds = {kind for key in ("rope_type", "type") if (kind := rope.text(key)) is not None}
    if len(kinds) != 1:
        raise rope.error("rope_type", "one kind of scaling, here or as type")
    kind = kinds.pop()
    if kind not in ("default", "yarn"):
        raise UnsupportedModelError(f"{rope.where}: rope type {kind!r}; the engine computes default and yarn")
    for key, neutral in _NEUTRAL_ROPE_VALUES.items():
        if rope.has(key) and rope.values[key] != neutral:
            raise UnsupportedModelError(
                f"{rope.where}: {key} is {rope.values[key]!r}; the engine computes {neutral!r} only"
            )
    if kind == "default":
        return None
    unknown = sorted(
        key for key in rope.values if rope.has(key) and key not in _YARN_KEYS | _NEUTRAL_ROPE_VALUES.keys()
    )
    if unknown:
        raise UnsupportedModelError(f"{rope.where}: {', '.join(unknown)} is not built for yarn")
    mscale_all_dim = rope.values.get("mscale_all_dim")
    return YarnScaling(
        factor=rope.number("factor"),
        original_max_position_embeddings=rope.integer("original_max_position_embeddings", 1),
        beta_fast=rope.number("beta_fast", default=32.0),
        beta_slow=rope.number("beta_slow", default=1.0),
        mscale=rope.number("mscale", default=1.0),
        mscale_all_dim=0.0 if mscale_all_dim == 0 else rope.number("mscale_all_dim", default=0.0),
    )


def _eos_token_ids(fields: Fields, generation_config: Mapping[str, object]) -> tuple[int, ...]:
    generation = Fields(generation_config, "generation_config.json")
    return tuple(dict.fromkeys(generation.token_ids("eos_token_id") + fields.token_ids("eos_token_id")))


def _metadata(fields: Fields) -> dict[str, object]:
    own = fields.nested("dsv3chat")
    return {} if own is None else dict(own.values)


def _check_consistency(fields: Fields, config: ModelConfig, routed: bool) -> None:
    def refuse(problem: str) -> CheckpointError:
        return CheckpointError(f"{fields.where}: {problem}")

    heads = fields.values.get("num_key_value_heads")
    if heads is not None and heads != config.num_attention_heads:
        raise refuse(
            f"num_key_value_heads is {heads!r} and num_attention_heads {config.num_attention_heads}; latent attention "
            "has one key per head, expected the same number"
        )
    if config.qk_rope_head_dim % 2:
        raise refuse(f"qk_rope_head_dim is {config.qk_rope_head_dim}; rotary pairs need an even number")
    ids = [
        i for i in (config.bos_token_id, *config.eos_token_ids) if i is not None and i >= config.vocab_size
    ]
    if ids:
        raise refuse(f"bos or eos id {ids[0]} is not below vocab_size {config.vocab_size}")
    if not routed:
        return
    size, rest = divmod(config.n_routed_experts, config.n_group)
    if rest:
        raise refuse(f"n_group {config.n_group} does not divide n_routed_experts {config.n_routed_experts}")
    if size < 2:
        raise refuse(
            f"n_group {config.n_group} leaves {size} expert to a group, whose score is the sum of its two best"
        )
    if config.topk_group > config.n_group:
        raise refuse(f"topk_group {config.topk_group} is more than n_group {config.n_group}")
    if config.num_experts_per_tok > config.topk_group * size:
        raise refuse(
            f"num_experts_per_tok {config.num_experts_per_tok} is more than the {config.topk_group * size} experts of "
            f"topk_group {config.topk_group} groups"
        )
