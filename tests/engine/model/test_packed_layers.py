"""The model on native kernels and packed bf16 weights against the reference kernels on the same weights in rows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.kernels import native
from engine.kernels.reference import ReferenceKernels
from engine.model.deepseek_v3 import DeepseekV3
from engine.model.packed_layers import PackedLayers
from engine.profile.values import Profile, Rule
from engine.weights.checkpoint import Checkpoint
from engine.weights.loader import held_bytes, load
from engine.weights.placement import place
from tests.engine.checkpoints import random_config, write_checkpoint
from tests.engine.model import steps

TOLERANCE = 1e-4  # of a log-probability, as against transformers: the same sums in another order

CONFIGS = {
    "q_lora, groups, one dense layer": random_config(),
    "no q_lora, one group, tied": random_config(q_lora_rank=None, n_group=1, topk_group=1, tied=True),
    "YaRN, FP8 blocks": random_config(yarn=True, fp8_block=(24, 40), q_lora_rank=None),
    "every layer dense": random_config(first_k_dense_replace=3),
    "odd sizes": random_config(
        num_attention_heads=5,
        num_key_value_heads=5,
        qk_nope_head_dim=9,
        v_head_dim=21,
        kv_lora_rank=27,
        qk_rope_head_dim=6,
        rms_norm_eps=1e-3,
    ),
}
BF16 = Profile(precision="bf16")


def models(folder: Path, config: dict[str, object], profile: Profile = BF16) -> tuple[DeepseekV3, DeepseekV3]:
    write_checkpoint(folder, config, seed=1)
    checkpoint = Checkpoint.open(folder)
    placement = place(checkpoint, profile)
    kernels = native.NativeKernels(2, exact=True)
    packed = load(checkpoint, placement, packer=kernels.packer)
    plain = load(checkpoint, placement)
    return (
        DeepseekV3(checkpoint.config, packed.parameters, kernels),
        DeepseekV3(checkpoint.config, plain.parameters, ReferenceKernels()),
    )


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS.keys())
def pair(request, tmp_path_factory):
    return models(tmp_path_factory.mktemp("packed"), request.param)


@pytest.mark.parametrize(("length", "size"), [(1, 1), (7, 7), (64, 1), (64, 16), (300, 128)])
def test_logits_equal_the_reference_whole_and_in_chunks(pair, length, size):
    packed, plain = pair
    ids = steps.random_ids(length, plain.config.vocab_size, seed=length)
    blocks = steps.shuffled_blocks(20)
    wanted = steps.in_chunks(plain, steps.poisoned_cache(plain, 20), ids, blocks, size=length)
    got = steps.in_chunks(packed, steps.poisoned_cache(packed, 20), ids, blocks, size)
    assert steps.difference(got, wanted) < TOLERANCE


def test_both_write_the_same_cache(pair):
    plain = pair[1]
    ids, blocks = steps.random_ids(40, plain.config.vocab_size), steps.shuffled_blocks(20)
    caches = [steps.poisoned_cache(plain, 20) for _ in range(2)]
    for model, cache in zip(pair, caches, strict=True):
        steps.in_chunks(model, cache, ids, blocks, size=40)
    for layer in range(plain.config.num_hidden_layers):
        got, wanted = caches[0][layer], caches[1][layer]
        assert torch.equal(got.isnan(), wanted.isnan())
        torch.testing.assert_close(got.nan_to_num(), wanted.nan_to_num(), rtol=0, atol=1e-4)


def test_a_decode_step_beside_a_prompt_equals_the_same_step_alone(pair):
    """Bit by bit: same seed, same text, whatever else is in the batch."""
    packed, _ = pair
    vocab, blocks = packed.config.vocab_size, steps.shuffled_blocks(40)
    ids, prompt = steps.random_ids(51, vocab, seed=1), steps.random_ids(130, vocab, seed=2)
    alone, together = (steps.poisoned_cache(packed, 40, torch.bfloat16) for _ in range(2))
    for cache in (alone, together):
        steps.in_chunks(packed, cache, ids[:50], blocks[:10], size=50)
    one = packed.forward(steps.batch([(ids[50:], 50, blocks[:10])]), alone)
    chunks = [(prompt, 0, blocks[10:30]), (ids[50:], 50, blocks[:10])]
    both = packed.forward(steps.batch(chunks), together)
    assert torch.equal(both[-1], one[0])


def test_the_probe_sees_every_layer(pair):
    plain = pair[1]
    ids, blocks = steps.random_ids(5, plain.config.vocab_size), steps.shuffled_blocks(20)
    seen: list[list[torch.Tensor]] = [[], []]
    for model, states in zip(pair, seen, strict=True):
        batch = steps.batch([(ids, 0, blocks)])
        model.forward(
            batch, steps.poisoned_cache(plain, 20), lambda _, x, into=states: into.append(x.clone())
        )
    assert len(seen[0]) == plain.config.num_hidden_layers
    for got, wanted in zip(*seen, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


def test_layers_of_another_format_run_beside_packed_ones(tmp_path):
    profile = Profile(precision="bf16", rules=(Rule("model.layers.1.mlp", precision="fp32"),))
    packed, plain = models(tmp_path, random_config(), profile)
    kinds = [isinstance(layer, PackedLayers) for layer in packed._layers]
    assert kinds == [True, False, True]
    ids, blocks = steps.random_ids(40, plain.config.vocab_size), steps.shuffled_blocks(20)
    outputs = [steps.in_chunks(m, steps.poisoned_cache(m, 20), ids, blocks, size=16) for m in (packed, plain)]
    assert steps.difference(*outputs) < TOLERANCE


def test_packing_keeps_one_copy(tmp_path):
    """Sizes that sixteen divides take not a byte more; no row-major copy stays."""
    config = random_config(
        hidden_size=64, intermediate_size=96, moe_intermediate_size=32, qk_nope_head_dim=16, v_head_dim=16,
        kv_lora_rank=32, qk_rope_head_dim=16, q_lora_rank=None, vocab_size=160,
    )  # fmt: skip
    write_checkpoint(tmp_path, config, seed=1)
    checkpoint = Checkpoint.open(tmp_path)
    placement = place(checkpoint, BF16)
    packed = load(checkpoint, placement, packer=native.NativePacker())
    assert held_bytes(packed.parameters) == {"ram": placement.total_bytes}
