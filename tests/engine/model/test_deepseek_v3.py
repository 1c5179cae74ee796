"""The model against transformers' DeepseekV3ForCausalLM: log-probabilities, float32, random small checkpoints."""

from __future__ import annotations

import pytest
import torch

from engine.kernels.eager import EagerKernels
from engine.kernels.reference import ReferenceKernels
from tests.engine.checkpoints import random_config
from tests.engine.model import steps

TOLERANCE = 1e-4  # of a log-probability; what float32 sums in another order give here is below 1e-5

CONFIGS = {
    "q_lora, groups, one dense layer": random_config(),
    "no q_lora, one group": random_config(q_lora_rank=None, n_group=1, topk_group=1),
    "every group kept, gates not normalised": random_config(topk_group=4, norm_topk_prob=False),
    "all layers MoE, tied": random_config(first_k_dense_replace=0, tied=True),
    "every layer dense": random_config(first_k_dense_replace=3),
    "every second layer MoE": random_config(first_k_dense_replace=0, moe_layer_freq=2),
    "YaRN 1.0, 1.0": random_config(yarn=True),
    "YaRN 0.707, 0.707": random_config(yarn={"mscale": 0.707, "mscale_all_dim": 0.707}),
    "YaRN 1.0, 0.707": random_config(yarn={"mscale": 1.0, "mscale_all_dim": 0.707}),
    "YaRN without mscale_all_dim": random_config(yarn={"mscale": 1.0, "mscale_all_dim": 0.0}),
    "YaRN, FP8 blocks cut at both edges, no q_lora": random_config(
        yarn=True, fp8_block=(24, 40), q_lora_rank=None
    ),
    "FP8 blocks larger than a matrix": random_config(fp8_block=(128, 128), tied=True),
    "many heads, wide values, odd sizes": random_config(
        num_attention_heads=5,
        num_key_value_heads=5,
        qk_nope_head_dim=9,
        v_head_dim=21,
        kv_lora_rank=27,
        qk_rope_head_dim=6,
        rms_norm_eps=1e-3,
    ),
}


@pytest.fixture(scope="module", params=CONFIGS.values(), ids=CONFIGS.keys())
def pair(request):
    return steps.build(request.param, EagerKernels(torch.float32))


def test_whole_prompts_equal_transformers(pair):
    """1, 7, 64 and 700 tokens; with 700, positions 1, 16, 63 and 699, where a wrong YaRN shows, are among the rows."""
    model, oracle = pair
    for length in (1, 7, 64, 700):
        ids = steps.random_ids(length, model.config.vocab_size, seed=length)
        cache = steps.poisoned_cache(model, 50)
        got = steps.in_chunks(model, cache, ids, steps.shuffled_blocks(50), size=length)
        assert steps.difference(got, steps.expected(oracle, ids)) < TOLERANCE


def test_chunks_equal_the_whole(pair):
    model, oracle = pair
    for length, size in ((64, 1), (200, 16), (700, 256)):
        ids = steps.random_ids(length, model.config.vocab_size, seed=size)
        cache = steps.poisoned_cache(model, 50)
        got = steps.in_chunks(model, cache, ids, steps.shuffled_blocks(50, seed=size), size)
        assert steps.difference(got, steps.expected(oracle, ids)) < TOLERANCE


def test_requests_in_one_step_equal_each_alone(pair):
    """A prompt of 61, a chunk of 30 after 40 tokens, a decode step after 99, a prompt of one, on shuffled pages."""
    model, oracle = pair
    blocks = steps.shuffled_blocks(40)
    cache = steps.poisoned_cache(model, 40)
    requests = []
    for number, (done, length) in enumerate(((0, 61), (40, 30), (99, 1), (0, 1))):
        ids = steps.random_ids(done + length, model.config.vocab_size, seed=number)
        pages = blocks[number * 10 : number * 10 + 10]
        requests.append((ids, done, pages))
        if done:
            steps.in_chunks(model, cache, ids[:done], pages, size=done)
    step = steps.batch([(ids[done:], done, pages) for ids, done, pages in requests])
    got = torch.log_softmax(model.forward(step, cache), dim=1)
    wanted = torch.cat([steps.expected(oracle, ids)[done:] for ids, done, _ in requests])
    assert steps.difference(got, wanted) < TOLERANCE


def test_shared_pages_equal_computing_them_again(pair):
    """A prefix hit: the second request takes the first three pages of the first and computes only what is new."""
    model, oracle = pair
    cache = steps.poisoned_cache(model, 40)
    blocks = steps.shuffled_blocks(40)
    first = steps.random_ids(70, model.config.vocab_size)
    steps.in_chunks(model, cache, first, blocks[:5], size=70)
    shared = 3 * steps.BLOCK_SIZE
    second = first[:shared] + steps.random_ids(40, model.config.vocab_size, seed=1)
    got = steps.in_chunks(model, cache, second, blocks[:3] + blocks[20:30], size=23, start=shared)
    assert steps.difference(got, steps.expected(oracle, second)[shared:]) < TOLERANCE


def test_only_the_wanted_rows_come_back(pair):
    model, _ = pair
    ids = steps.random_ids(20, model.config.vocab_size)
    chunk = (ids, 0, (4, 1))
    every = model.forward(steps.batch([chunk]), steps.poisoned_cache(model, 5))
    some = model.forward(steps.batch([chunk], logit_rows=(19, 3)), steps.poisoned_cache(model, 5))
    none = model.forward(steps.batch([chunk], logit_rows=()), steps.poisoned_cache(model, 5))
    torch.testing.assert_close(some, every[[19, 3]], rtol=0, atol=1e-4)
    assert some.dtype is torch.float32
    assert none.shape == (0, model.config.vocab_size)


def test_reference_kernels_give_the_same_model():
    config = random_config(yarn=True, fp8_block=(24, 40))
    model, oracle = steps.build(config, ReferenceKernels())
    ids = steps.random_ids(33, 160)
    got = steps.in_chunks(model, steps.poisoned_cache(model, 5), ids, (4, 0, 3), size=20)
    assert steps.difference(got, steps.expected(oracle, ids)) < TOLERANCE


def test_bfloat16_stays_near_float32():
    """Logits of size 8 spread over about 30 roundings of 2^-9 relative, and now and then another expert: 0.06 on average
    here. Weights without their scale, a wrong rotation or a lost row are 1 and more."""
    model, oracle = steps.build(random_config(yarn=True), EagerKernels(torch.bfloat16))
    ids = steps.random_ids(300, 160)
    cache = steps.poisoned_cache(model, 20, torch.bfloat16)
    got = steps.in_chunks(model, cache, ids, steps.shuffled_blocks(20), size=100)
    error = (got - steps.expected(oracle, ids)).abs()
    assert float(error.mean()) < 0.12


def test_decoding_four_requests_gives_each_the_logits_it_has_alone():
    """Bit for bit, bf16: the text of a seed does not depend on who else is decoding."""
    model, _ = steps.build(random_config(), EagerKernels(torch.bfloat16))
    cache = steps.poisoned_cache(model, 40, torch.bfloat16)
    blocks = steps.shuffled_blocks(40)
    chunks = []
    for number, length in enumerate((5, 40, 17, 100)):
        ids = steps.random_ids(length + 1, 160, seed=number)
        pages = blocks[number * 10 : number * 10 + 10]
        steps.in_chunks(model, cache, ids[:length], pages, size=length)
        chunks.append((ids[length:], length, pages))
    together = model.forward(steps.batch(chunks), cache)
    for number, chunk in enumerate(chunks):
        assert torch.equal(together[number], model.forward(steps.batch([chunk]), cache)[0])


def test_probe_sees_every_layer_and_finds_the_one_that_breaks():
    model, _ = steps.build(random_config(), EagerKernels(torch.float32))
    model._parameters.layers[1].input_norm.fill_(torch.inf)
    seen = {}
    cache = steps.poisoned_cache(model, 5)
    model.forward(
        steps.batch([([3, 4], 0, (2,))]), cache, lambda layer, x: seen.__setitem__(layer, x.isfinite().all())
    )
    assert [bool(seen[layer]) for layer in range(3)] == [True, False, False]
