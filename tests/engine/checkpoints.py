"""Small random DeepSeek-V3 checkpoints as files, and transformers' model of the same weights as the oracle.

Knows nothing of the engine: the FP8 blocks are made and undone here by the plain definition.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

YARN = {
    "type": "yarn",
    "factor": 8.0,
    "original_max_position_embeddings": 128,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
FP8_MAX = 448.0


def random_config(
    *,
    yarn: bool | dict[str, Any] = False,
    fp8_block: tuple[int, int] | None = None,
    tied: bool = False,
    mtp: int = 0,
    **overrides: Any,
) -> dict[str, Any]:
    """A config.json of about 100k parameters. `overrides` are keys of config.json; None is written as null.

    `yarn=True` takes YARN, a dict changes keys of it (`{"mscale": 0.707, "mscale_all_dim": 0.707}`); `fp8_block` adds a
    quantization_config; `mtp` is the number of MTP layers.
    """
    config: dict[str, Any] = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "vocab_size": 160,
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": 24,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "intermediate_size": 96,
        "moe_intermediate_size": 40,
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_shared_experts": 2,
        "first_k_dense_replace": 1,
        "moe_layer_freq": 1,
        "n_group": 4,
        "topk_group": 2,
        "routed_scaling_factor": 2.5,
        "norm_topk_prob": True,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
        "num_nextn_predict_layers": mtp,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 1024,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "hidden_act": "silu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "bfloat16",
    }
    if yarn:
        config["rope_scaling"] = YARN | (yarn if isinstance(yarn, dict) else {})
    if fp8_block is not None:
        config["quantization_config"] = {
            "activation_scheme": "dynamic",
            "fmt": "e4m3",
            "quant_method": "fp8",
            "weight_block_size": list(fp8_block),
        }
    return config | overrides


def _is_moe(config: dict[str, Any], layer: int) -> bool:
    return (
        config["n_routed_experts"] > 0
        and layer >= config["first_k_dense_replace"]
        and layer % config["moe_layer_freq"] == 0
    )


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint by its Hugging Face name, MTP layers included, FP8 scales left out."""
    c = config
    hidden, heads, rank = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, v_dim = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (c["vocab_size"], hidden)}

    def mlp(prefix: str, width: int) -> None:
        shapes[f"{prefix}.gate_proj.weight"] = (width, hidden)
        shapes[f"{prefix}.up_proj.weight"] = (width, hidden)
        shapes[f"{prefix}.down_proj.weight"] = (hidden, width)

    for i in range(c["num_hidden_layers"] + c["num_nextn_predict_layers"]):
        layer = f"model.layers.{i}"
        attention = f"{layer}.self_attn"
        if i >= c["num_hidden_layers"]:
            shapes[f"{layer}.embed_tokens.weight"] = (c["vocab_size"], hidden)
            shapes[f"{layer}.enorm.weight"] = (hidden,)
            shapes[f"{layer}.hnorm.weight"] = (hidden,)
            shapes[f"{layer}.eh_proj.weight"] = (hidden, 2 * hidden)
            shapes[f"{layer}.shared_head.norm.weight"] = (hidden,)
            shapes[f"{layer}.shared_head.head.weight"] = (c["vocab_size"], hidden)
        shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
        if c["q_lora_rank"] is None:
            shapes[f"{attention}.q_proj.weight"] = (heads * (nope + rope), hidden)
        else:
            shapes[f"{attention}.q_a_proj.weight"] = (c["q_lora_rank"], hidden)
            shapes[f"{attention}.q_a_layernorm.weight"] = (c["q_lora_rank"],)
            shapes[f"{attention}.q_b_proj.weight"] = (heads * (nope + rope), c["q_lora_rank"])
        shapes[f"{attention}.kv_a_proj_with_mqa.weight"] = (rank + rope, hidden)
        shapes[f"{attention}.kv_a_layernorm.weight"] = (rank,)
        shapes[f"{attention}.kv_b_proj.weight"] = (heads * (nope + v_dim), rank)
        shapes[f"{attention}.o_proj.weight"] = (hidden, heads * v_dim)
        if not _is_moe(c, i):
            mlp(f"{layer}.mlp", c["intermediate_size"])
            continue
        shapes[f"{layer}.mlp.gate.weight"] = (c["n_routed_experts"], hidden)
        shapes[f"{layer}.mlp.gate.e_score_correction_bias"] = (c["n_routed_experts"],)
        for e in range(c["n_routed_experts"]):
            mlp(f"{layer}.mlp.experts.{e}", c["moe_intermediate_size"])
        if c["n_shared_experts"]:
            mlp(f"{layer}.mlp.shared_experts", c["moe_intermediate_size"] * c["n_shared_experts"])
    shapes["model.norm.weight"] = (hidden,)
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (c["vocab_size"], hidden)
    return shapes


def _draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Norms in 0.5..1.5, biases up to 0.5 in size, matrices of unit gain: activations and gates stay in range."""
    if name.endswith("norm.weight"):
        return 0.5 + torch.rand(shape, generator=generator)
    if name.endswith("e_score_correction_bias"):
        return torch.rand(shape, generator=generator) - 0.5
    gain = 2.0 if name.endswith(("embed_tokens.weight", "head.weight", "mlp.gate.weight")) else 1.0
    return torch.randn(shape, generator=generator) * (gain / math.sqrt(shape[-1]))


def quantize_blocks(weight: torch.Tensor, block: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(e4m3 values, float32 scale per block) by the definition, one block at a time; edge blocks are cut."""
    rows, columns = weight.shape
    values = torch.empty(rows, columns, dtype=torch.float8_e4m3fn)
    scale = torch.empty(math.ceil(rows / block[0]), math.ceil(columns / block[1]))
    for r in range(scale.shape[0]):
        for c in range(scale.shape[1]):
            part = (slice(r * block[0], (r + 1) * block[0]), slice(c * block[1], (c + 1) * block[1]))
            scale[r, c] = weight[part].abs().max().clamp(min=1e-12) / FP8_MAX
            values[part] = (weight[part] / scale[r, c]).to(torch.float8_e4m3fn)
    return values, scale


def dequantize_blocks(values: torch.Tensor, scale: torch.Tensor, block: tuple[int, int]) -> torch.Tensor:
    """Float32 values by the definition: each value times the scale of its block."""
    rows = torch.arange(values.shape[0]) // block[0]
    columns = torch.arange(values.shape[1]) // block[1]
    return values.float() * scale[rows][:, columns]


def random_tensors(
    config: dict[str, Any], seed: int = 0, dtype: torch.dtype = torch.bfloat16, fp8: bool | None = None
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """(tensors as a checkpoint stores them, their float32 values by name). `fp8=None`: as quantization_config says.

    With FP8 every projection is blocks with `weight_scale_inv`; embeddings, heads, norms and routers are not.
    The router's bias is float32 always.
    """
    generator = torch.Generator().manual_seed(seed)
    quantization = config.get("quantization_config")
    fp8 = quantization is not None if fp8 is None else fp8
    stored: dict[str, torch.Tensor] = {}
    values: dict[str, torch.Tensor] = {}
    for name, shape in tensor_shapes(config).items():
        weight = _draw(name, shape, generator)
        if fp8 and name.endswith(("_proj.weight", "_mqa.weight")):
            block = tuple(quantization["weight_block_size"])
            stored[name], scale = quantize_blocks(weight, block)
            stored[f"{name}_scale_inv"] = scale
            values[name] = dequantize_blocks(stored[name], scale, block)
        else:
            stored[name] = weight.float() if name.endswith("e_score_correction_bias") else weight.to(dtype)
            values[name] = stored[name].float()
    return stored, values


def write_tensors(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 1) -> None:
    """One model.safetensors, or `shards` files with an index, split in the order of the names."""
    folder.mkdir(parents=True, exist_ok=True)
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = list(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = names[shard * len(names) // shards : (shard + 1) * len(names) // shards]
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_checkpoint(
    folder: Path,
    config: dict[str, Any],
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    fp8: bool | None = None,
    shards: int = 1,
) -> dict[str, torch.Tensor]:
    """Write config.json and the shards; return the float32 values of the stored weights by Hugging Face name."""
    stored, values = random_tensors(config, seed, dtype, fp8)
    write_tensors(folder, stored, shards)
    (folder / "config.json").write_text(json.dumps(config))
    return values


def transformers_model(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> Any:
    """DeepseekV3ForCausalLM in float32, eval, eager attention, with `weights`; MTP layers are dropped.

    transformers has no moe_layer_freq: the layers that it would make MoE against the config get a dense MLP here.
    """
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MLP

    foreign = {"quantization_config", "torch_dtype", "architectures", "model_type", "moe_layer_freq"}
    foreign |= {"scoring_func", "topk_method", "num_nextn_predict_layers", "dsv3chat"}
    kept = {key: value for key, value in config.items() if key not in foreign}
    hf_config = DeepseekV3Config(**kept, num_nextn_predict_layers=0, attn_implementation="eager")
    model = DeepseekV3ForCausalLM(hf_config).float().eval()
    layers = config["num_hidden_layers"]
    state = {name: w for name, w in weights.items() if not _layer_of(name) >= layers}
    for i in range(layers):
        mlp = f"model.layers.{i}.mlp"
        if not _is_moe(config, i):
            model.model.layers[i].mlp = DeepseekV3MLP(hf_config).eval()
            continue
        experts = range(config["n_routed_experts"])
        gate, up, down = (
            torch.stack([state.pop(f"{mlp}.experts.{e}.{kind}_proj.weight") for e in experts])
            for kind in ("gate", "up", "down")
        )
        state[f"{mlp}.experts.gate_up_proj"] = torch.cat((gate, up), dim=1)
        state[f"{mlp}.experts.down_proj"] = down
        if not config["n_shared_experts"]:  # transformers makes shared experts of width 0
            width_0 = torch.empty(0, config["hidden_size"])
            for kind, weight in (("gate", width_0), ("up", width_0), ("down", width_0.T)):
                state[f"{mlp}.shared_experts.{kind}_proj.weight"] = weight
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, strict=True)
    return model


def _layer_of(name: str) -> int:
    """The layer's index in a tensor name, -1 outside the layers."""
    parts = name.split(".")
    return int(parts[2]) if parts[:2] == ["model", "layers"] else -1
