"""From files to log-probabilities: every option of the architecture and of the files, against transformers in float32."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine import Engine, Profile
from tests.engine.checkpoints import random_config, transformers_model, write_checkpoint

PROFILE = Profile(cache_lens=2048, max_batch_size=4, chunk_size=48, max_new_tokens=256)
LENGTHS = (1, 7, 64, 200)

CASES = {
    "bf16, q_lora, groups": ({}, {}),
    "fp32, no q_lora, one group, all experts": (
        {"q_lora_rank": None, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 8},
        {"dtype": torch.float32},
    ),
    "fp16, three shards, tied head": ({"tied": True}, {"dtype": torch.float16, "shards": 3}),
    "fp8 blocks cut at the edges": ({"fp8_block": (32, 48)}, {"fp8": True}),
    "fp8 blocks of 128, YaRN": ({"fp8_block": (128, 128), "yarn": True}, {"fp8": True, "shards": 2}),
    "YaRN with mscale 0.707, every layer dense": (
        {"yarn": {"mscale": 0.707, "mscale_all_dim": 0.707}, "first_k_dense_replace": 3},
        {},
    ),
    "MTP layer left out, gates not normalised": ({"mtp": 1, "norm_topk_prob": False}, {}),
    "experts from the first layer on": ({"first_k_dense_replace": 0, "routed_scaling_factor": 2.5}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_score_equals_transformers(case, tmp_path):
    config_options, file_options = CASES[case]
    config = random_config(**config_options)
    model = transformers_model(config, write_checkpoint(tmp_path, config, seed=5, **file_options))
    with Engine.open(tmp_path, PROFILE) as engine:
        for length in LENGTHS:
            ids = torch.randint(0, 160, (length,), generator=torch.Generator().manual_seed(length)).tolist()
            with torch.inference_mode():
                expected = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), dim=1)
            score = engine.score(ids)
            picked = expected[range(length - 1), ids[1:]]
            assert torch.allclose(torch.tensor(score.logprobs), picked, rtol=0, atol=1e-4)
            assert list(score.argmax) == expected.argmax(dim=1).tolist()


def test_widening_fp8_at_load_changes_no_more_than_its_rounding(tmp_path):
    config = random_config(fp8_block=(32, 32))
    write_checkpoint(tmp_path, config, seed=5, fp8=True)
    ids = torch.randint(0, 160, (64,), generator=torch.Generator().manual_seed(1)).tolist()
    logprobs = {}
    for precision in ("native", "fp32", "bf16"):
        with Engine.open(tmp_path, replace(PROFILE, precision=precision)) as engine:
            logprobs[precision] = torch.tensor(engine.score(ids).logprobs)
    # float32 holds value times scale just as the kernel forms it
    assert torch.allclose(logprobs["fp32"], logprobs["native"], rtol=0, atol=1e-5)
    # bf16 rounds every weight by up to 2^-9; the median, since a rounding can send a token to another expert
    moved = (logprobs["bf16"] - logprobs["native"]).abs()
    assert 0 < float(moved.median()) < 0.05
