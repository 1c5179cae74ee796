"""A converted folder of random values at a real model's shape, without ever having the original.

    python tests/bench/make_random_checkpoint.py OUT [--profile P] [--layers N]

The shape is Moonlight-16B-A3B's; the formats are the profile's (default: int4 throughout, which makes 9.2 GB). The original is a
file of holes, which takes no room and of which only the header is read; the shards are what `dsv3chat convert` would
write of it, with other values. As fast as the disk writes.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.convert.plan import Item, Part, Shard, config_of, make_plan
from engine.model.config import ModelConfig
from engine.profile import Profile, Rule, find_profile, read_profile
from engine.weights.checkpoint import Checkpoint
from engine.weights.config_reader import config_from_dict
from engine.weights.names import expected_tensors
from engine.weights.shards import INDEX

MOONLIGHT = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "vocab_size": 163840,
    "hidden_size": 2048,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "q_lora_rank": None,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "intermediate_size": 11264,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "num_experts_per_tok": 6,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 2.446,
    "norm_topk_prob": True,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "num_nextn_predict_layers": 0,
    "rms_norm_eps": 1e-05,
    "max_position_embeddings": 8192,
    "rope_theta": 50000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
}
INT4 = Profile(name="int4", precision="int4", rules=(Rule("model.embed_tokens", precision="bf16"),))
_SHARD_BYTES = 2_000_000_000
_POOL = 1 << 24  # random values that everything is cut from


def make(out: Path, profile: Profile, layers: int) -> None:
    """Write the folder. `layers` below 27 makes it smaller."""
    raw = MOONLIGHT | {"num_hidden_layers": layers}
    out.mkdir(parents=True)
    values = _Values(np.random.default_rng(0))
    with tempfile.TemporaryDirectory(dir=out) as holes:
        source = Path(holes)
        _write_holes(source, raw, config_from_dict(raw))
        plan = make_plan(Checkpoint.open(source), profile, _SHARD_BYTES)
        for shard in plan.shards:
            _write_shard(out / shard.name, shard, values)
            print(f"{shard.name}: {shard.nbytes / 1e9:.2f} GB", flush=True)
        (out / "config.json").write_text(json.dumps(config_of(plan, raw), indent=2))
        names = {
            part.name: shard.name for shard in plan.shards for item in shard.items for part in item.parts
        }
        (out / INDEX).write_text(json.dumps({"metadata": {"total_size": plan.nbytes}, "weight_map": names}))


def _write_holes(folder: Path, raw: dict[str, object], config: ModelConfig) -> None:
    header, end = {}, 0
    for name, spec in expected_tensors(config).items():
        nbytes = 2 * math.prod(spec.shape)
        header[name] = {"dtype": "BF16", "shape": list(spec.shape), "data_offsets": [end, end + nbytes]}
        end += nbytes
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    (folder / "config.json").write_text(json.dumps(raw))


def _write_shard(path: Path, shard: Shard, values: _Values) -> None:
    with path.open("wb") as file:
        file.write(shard.header)
        file.truncate(shard.nbytes)
        for item in shard.items:
            for index, part in enumerate(item.parts):
                file.seek(part.offset)
                values.write(file, item, part, index)


class _Values:
    """Random codes, scales of which they make weights of about 0.02, zero points in the middle; norms of 1."""

    def __init__(self, generator: np.random.Generator) -> None:
        codes = generator.integers(0, 256, _POOL, dtype=np.uint8)
        normal = (generator.standard_normal(_POOL) * 0.02).astype(np.float32)
        self._pools = {
            "codes": codes,
            "float": _bfloat16(normal),
            "norm": _bfloat16(np.ones(1 << 16, np.float32)),
            "scale": _bfloat16(np.full(_POOL, 0.02 / 4.6, np.float32)),
            "zero": np.full(_POOL, 7.5, np.float16),
        }
        self._generator = generator

    def write(self, file, item: Item, part: Part, index: int) -> None:  # type: ignore[no-untyped-def]
        if index:
            kind = ("scale", "zero")[index - 1]
        elif len(item.shape) == 1:
            kind = "norm"
        else:
            kind = "float" if part.dtype == "BF16" else "codes"
        pool = self._pools[kind].view(np.uint8)
        left = part.nbytes
        while left:
            start = 2 * int(self._generator.integers(0, len(pool) // 4))
            piece = pool[start : start + left]
            file.write(memoryview(piece))
            left -= len(piece)


def _bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper halves of float32, which are bfloat16."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--profile", help="name or file; default: int4, the embedding bf16")
    parser.add_argument("--layers", type=int, default=MOONLIGHT["num_hidden_layers"])
    given = parser.parse_args()
    make(
        given.out, INT4 if given.profile is None else read_profile(find_profile(given.profile)), given.layers
    )
