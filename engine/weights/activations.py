"""Memory that a step takes beside weights and cache, as an estimate. Knows no device and no machine."""

from __future__ import annotations

from engine.model.config import ModelConfig
from engine.profile.values import Profile


def activation_bytes(config: ModelConfig, profile: Profile) -> int:
    """A step's largest temporaries, about, in float32: for each of chunk_size rows the residual and its norm, queries,
    keys and values of every head, the widest MLP and the chosen experts; for each request a row of logits."""
    heads = config.num_attention_heads * (
        2 * (config.qk_nope_head_dim + config.qk_rope_head_dim) + 2 * config.v_head_dim
    )
    experts = config.num_experts_per_tok * (config.moe_intermediate_size * 2 + config.hidden_size)
    row = 4 * config.hidden_size + heads + max(2 * config.intermediate_size, experts)
    return 4 * (profile.chunk_size * row + 2 * profile.max_batch_size * config.vocab_size)
