"""Rotary frequencies and scales against transformers, and against DeepSeek-V3's known figure."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from engine.model.rope import inverse_frequencies, rotation_amplitude, softmax_scale
from engine.weights.config_reader import config_from_dict
from tests.engine.checkpoints import random_config

YARNS = [
    {},
    {"mscale": 0.707, "mscale_all_dim": 0.707},
    {"mscale": 1.0, "mscale_all_dim": 0.707},
    {"mscale": 1.0, "mscale_all_dim": 0.0},
    {"factor": 40.0, "original_max_position_embeddings": 4096},
    {"factor": 1.0},
    {"beta_fast": 4, "beta_slow": 4},
]


@pytest.mark.parametrize("yarn", YARNS)
@pytest.mark.parametrize("rope", [8, 64])
def test_yarn_frequencies_and_scales_are_those_of_transformers(yarn, rope):
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
        DeepseekV3RotaryEmbedding,
        yarn_apply_mscale,
    )

    raw = random_config(yarn=yarn or True, qk_rope_head_dim=rope)
    config = config_from_dict(raw, {}, "config.json")
    theirs = DeepseekV3Config(
        **{k: raw[k] for k in ("rope_theta", "rope_scaling", "qk_rope_head_dim", "qk_nope_head_dim")}
    )
    embedding = DeepseekV3RotaryEmbedding(theirs)
    assert torch.equal(inverse_frequencies(config), embedding.inv_freq)
    assert rotation_amplitude(config) == pytest.approx(embedding.attention_scaling)
    width = config.qk_nope_head_dim + rope
    assert softmax_scale(config) == pytest.approx(yarn_apply_mscale(theirs.rope_parameters, width**-0.5))


def test_deepseek_v3_scales_its_softmax_by_1_87():
    config = config_from_dict(random_config(yarn={"factor": 40.0}), {}, "config.json")
    plain = dataclasses.replace(config, yarn=None)
    assert softmax_scale(config) / softmax_scale(plain) == pytest.approx(1.87, abs=0.005)
    assert rotation_amplitude(plain) == 1.0
