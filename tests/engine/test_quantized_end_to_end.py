"""Quantized at load, scored by the engine: the same as float32 on the same dequantized weights, for every format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import Engine, Profile
from engine.kernels.eager import EagerKernels
from engine.kernels.reference import ReferenceKernels, dequantized
from engine.model.cache import LatentCache
from engine.model.deepseek_v3 import DeepseekV3
from engine.profile import find_profile, read_profile
from engine.profile.values import Rule
from engine.quant.matrix import Format, Matrix, MatrixStack
from engine.weights.checkpoint import Checkpoint
from engine.weights.loader import load
from engine.weights.placement import place
from tests.engine.checkpoints import random_config, transformers_model, write_checkpoint
from tests.engine.model import steps
from tests.engine.weights.test_loader import by_name

PROFILE = Profile(cache_lens=1024, max_batch_size=2, chunk_size=48, max_new_tokens=256)
TOLERANCE = 1e-3  # of a log-probability: float32's rounding, in another order of sums
EXPERTS = "model.layers.*.mlp.experts"
EMBEDDING = "model.embed_tokens"

CASES: dict[str, tuple[dict[str, Any], Profile]] = {
    "fp8 from bf16": ({}, replace(PROFILE, precision="fp8")),
    "int8 in groups of 32, from fp8 blocks": (
        {"fp8_block": (32, 48)},
        replace(PROFILE, precision="int8", group_size=32),
    ),
    "int4": ({"q_lora_rank": None}, replace(PROFILE, precision="int4")),
    "int4 in groups of 32 that divide no width, from fp8 blocks": (
        {"fp8_block": (32, 48), "moe_intermediate_size": 44, "hidden_size": 76, "kv_lora_rank": 33},
        replace(PROFILE, precision="int4", group_size=32),
    ),
    "a tied head in int4": (
        {"tied": True},
        replace(PROFILE, rules=(Rule(EMBEDDING, precision="int4"), Rule("model", precision="int8"))),
    ),
    "embedding in fp8, head in int4": (
        {},
        replace(PROFILE, rules=(Rule(EMBEDDING, precision="fp8"), Rule("lm_head", precision="int4"))),
    ),
    "attention fp8, experts int4, one layer bf16": (
        {"fp8_block": (32, 32)},
        replace(
            PROFILE,
            precision="int8",
            rules=(
                Rule("model.layers.2", precision="bf16"),
                Rule("model.layers.*.self_attn", precision="fp8"),
                Rule(EXPERTS, precision="int4", group_size=32),
            ),
        ),
    ),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Matrices of some kilobytes: a second torch thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("case", CASES)
def test_score_equals_float32_on_the_dequantized_weights(case: str, tmp_path: Path) -> None:
    options, profile = CASES[case]
    config = random_config(**options)
    stored = write_checkpoint(tmp_path, config, seed=7)
    checkpoint = Checkpoint.open(tmp_path)
    loaded = by_name(load(checkpoint, place(checkpoint, profile)).parameters, config["tie_word_embeddings"])
    weights = {
        name: dequantized(value) if isinstance(value, Matrix) else value for name, value in loaded.items()
    }
    assert any(not torch.equal(weights[name], stored[name]) for name in weights)  # something was quantized
    oracle = transformers_model(config, weights)
    with Engine.open(tmp_path, profile) as engine:
        for length in (2, 120):
            ids = steps.random_ids(length, 160, seed=length)
            score = engine.score(ids)
            expected = steps.expected(oracle, ids)
            picked = expected[range(length - 1), ids[1:]]
            assert steps.difference(torch.tensor(score.logprobs), picked) < TOLERANCE
            assert list(score.argmax) == expected.argmax(dim=1).tolist()


def widened(value: Any) -> Any:
    """A parameter tree whose matrices are float32."""
    if isinstance(value, Matrix):
        return Matrix(Format.FP32, dequantized(value))
    if isinstance(value, MatrixStack):
        return MatrixStack(Format.FP32, torch.stack([dequantized(value[i]) for i in range(len(value))]))
    if isinstance(value, tuple):
        return tuple(widened(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: widened(getattr(value, field.name)) for field in fields(value)})
    return value


def test_nano_mixed_equals_nano_widened(nano_dir: Path) -> None:
    """Attention fp8, experts int4, the rest int8, norms float32: four formats of one model, their seams included."""
    profile = replace(
        read_profile(find_profile("nano-mixed")),
        cache_lens=4096,
        compute="float32",
        kv_precision="fp32",
        fit="rtn",
    )
    checkpoint = Checkpoint.open(nano_dir)
    placement = place(checkpoint, profile)
    found = {placed.format for placed in placement.tensors.values()}
    assert found == {Format.FP8, Format.INT4, Format.INT8, Format.FP32}
    wide = widened(load(checkpoint, placement).parameters)
    model = DeepseekV3(checkpoint.config, wide, EagerKernels(torch.float32))
    ids = steps.random_ids(40, 49152, seed=1)
    expected = steps.in_chunks(model, steps.poisoned_cache(model, 3), ids, [2, 0, 1], 40)
    with Engine.open(nano_dir, profile) as engine:
        score = engine.score(ids)
    assert steps.difference(torch.tensor(score.logprobs), expected[range(39), ids[1:]]) < TOLERANCE


def test_a_cache_in_fp8_costs_its_rounding_and_no_more(tmp_path: Path) -> None:
    config = random_config()
    oracle = transformers_model(config, write_checkpoint(tmp_path, config, seed=7))
    ids = steps.random_ids(60, 160, seed=3)
    exact = steps.expected(oracle, ids)[range(59), ids[1:]]
    with Engine.open(tmp_path, replace(PROFILE, kv_precision="fp8")) as engine:
        assert engine.stats().kv_bytes == 3 * 1024 * (32 + 8 + 2)
        got = torch.tensor(engine.score(ids).logprobs)
    moved = (got - exact).abs()
    assert (
        0 < float(moved.median()) < 0.2
    )  # a random model's values each err by up to 1/16; nano loses 1 % of perplexity
    reference = reference_in_fp8(tmp_path, ids)
    # a value on the border between two codes may fall either way, and attention's own codes err by a hundredth of e4m3's
    assert float((got - reference).abs().median()) < float(moved.median()) / 5
    assert float((got - reference).abs().max()) < float(moved.max())


def reference_in_fp8(folder: Path, ids: list[int]) -> torch.Tensor:
    """Log-probabilities of ids[1:] by the reference kernels over a cache in fp8 whose unwritten rows are not finite."""
    checkpoint = Checkpoint.open(folder)
    parameters = load(checkpoint, place(checkpoint, PROFILE)).parameters
    model = DeepseekV3(checkpoint.config, parameters, ReferenceKernels())
    cache = LatentCache(model.config.num_hidden_layers, 4, 16, model.config.latent_dim, torch.float8_e4m3fn)
    for pages in cache.pages:
        pages.fill_(0xFF)
    return steps.in_chunks(model, cache, ids, [2, 0, 1, 3], 48)[range(len(ids) - 1), ids[1:]]
