"""The published shapes of the models that profiles name, so that a plan needs no download. Knows no files.

The numbers are those of each model's own config.json; what a folder or a cached snapshot says stands above them.
"""

from __future__ import annotations

from collections.abc import Mapping

_COMMON: dict[str, object] = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "moe_intermediate_size": 2048,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
_FP8: dict[str, object] = {
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
}
_V3 = _COMMON | _FP8 | {
    "vocab_size": 129280,
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "q_lora_rank": 1536,
    "intermediate_size": 18432,
    "n_routed_experts": 256,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "n_group": 8,
    "topk_group": 4,
    "routed_scaling_factor": 2.5,
    "max_position_embeddings": 163840,
    "rope_theta": 10000,
    "num_nextn_predict_layers": 1,
}  # fmt: skip
_MOONLIGHT = _COMMON | {
    "vocab_size": 163840,
    "hidden_size": 2048,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "q_lora_rank": None,
    "intermediate_size": 11264,
    "moe_intermediate_size": 1408,
    "n_shared_experts": 2,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 2.446,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8192,
    "rope_theta": 50000,
}
_KIMI_K2 = _COMMON | _FP8 | {
    "vocab_size": 163840,
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 64,
    "q_lora_rank": 1536,
    "intermediate_size": 18432,
    "n_routed_experts": 384,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 2.827,
    "max_position_embeddings": 131072,
    "rope_theta": 50000,
}  # fmt: skip

KNOWN_CONFIGS: Mapping[str, Mapping[str, object]] = {
    "deepseek-ai/DeepSeek-V3": _V3,
    "deepseek-ai/DeepSeek-V3-0324": _V3,
    "deepseek-ai/DeepSeek-V3.1": _V3,
    "deepseek-ai/DeepSeek-R1": _V3,
    "moonshotai/Moonlight-16B-A3B": _MOONLIGHT,
    "moonshotai/Moonlight-16B-A3B-Instruct": _MOONLIGHT,
    "moonshotai/Kimi-K2-Instruct": _KIMI_K2,
}
