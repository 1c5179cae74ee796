"""The shape of a DeepseekV3ForCausalLM, read from config.json. Knows no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class YarnScaling:
    """YaRN (arXiv 2309.00071) as DeepSeek uses it; the softmax scale carries mscale_all_dim squared."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float = 1.0
    mscale_all_dim: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Names follow config.json; `engine.weights.config_reader` fills it and refuses what is missing or not built."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    intermediate_size: int
    moe_intermediate_size: int
    n_routed_experts: int  # 0 or first_k_dense_replace >= layers: every layer is dense
    num_experts_per_tok: int
    n_shared_experts: int
    first_k_dense_replace: int
    moe_layer_freq: int
    n_group: int
    topk_group: int
    routed_scaling_factor: float
    norm_topk_prob: bool
    rms_norm_eps: float
    max_position_embeddings: int
    rope_theta: float
    yarn: YarnScaling | None
    tie_word_embeddings: bool
    num_nextn_predict_layers: int  # MTP layers, which the loader leaves out and names
    weight_block_size: tuple[int, int] | None  # block FP8 where set
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    metadata: Mapping[str, object] = field(default_factory=dict)  # config.json's "dsv3chat" object

    def is_moe_layer(self, layer: int) -> bool:
        """Layer `layer` (0-based) holds routed experts."""
        return (
            self.n_routed_experts > 0
            and layer >= self.first_k_dense_replace
            and layer % self.moe_layer_freq == 0
        )

    @property
    def latent_dim(self) -> int:
        """Values of the cache per token and layer: kv_lora_rank + qk_rope_head_dim."""
        return self.kv_lora_rank + self.qk_rope_head_dim
