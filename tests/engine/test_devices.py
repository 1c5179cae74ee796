"""A model over several devices, without one: the CPU stands in for cuda:0, with a GPU's kernels and another arithmetic.

What a stand-in cannot show, a tensor left on the wrong device, shows here as activations of the wrong dtype: the two sides
compute in different ones, and every operation looks.
"""

from __future__ import annotations

from dataclasses import replace
from functools import wraps

import pytest
import torch

from engine import Engine, PlacementError, Profile, Rule
from engine.kernels.cuda import CudaKernels
from engine.kernels.eager import EagerKernels
from engine.model.deepseek_v3 import DeepseekV3
from engine.quant.matrix import Layout
from engine.runtime import gpus
from engine.weights.checkpoint import Checkpoint
from engine.weights.devices import places_of
from engine.weights.keeping import named_parts
from engine.weights.loader import load
from engine.weights.placement import place
from tests.engine.checkpoints import random_config, write_checkpoint
from tests.engine.model import steps

EXPERTS = "model.layers.*.mlp.experts"
PROFILE = Profile(cache_lens=1024, max_batch_size=2, chunk_size=48, max_new_tokens=256)
CPU = torch.device("cpu")
CASES = {
    "all of it": ((Rule("model", device="cuda:0"), Rule("lm_head", device="cuda:0")), 0),
    "routed experts here": ((Rule(EXPERTS, device="cpu"), Rule("model", device="cuda:0")), 2 * 2 + 1),
    "routed experts there": ((Rule(EXPERTS, device="cuda:0"),), 2 * 2),
    "the layer in the middle there": ((Rule("model.layers.1", device="cuda:0"),), 2),
    "two layers there": ((Rule("model.layers.0-1", device="cuda:0"),), 2),
    "shared and dense there": (
        (
            Rule("model.layers.*.mlp.shared_experts", device="cuda:0"),
            Rule("model.layers.0.mlp", device="cuda:0"),
        ),
        3 * 2,
    ),
    "all of the MLP there": ((Rule("model.layers.1-2.mlp", device="cuda:0"),), 2 * 2),
}
"""Rules, and how often activations cross in a step of three layers, of which the first is dense."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    write_checkpoint(path, random_config(fp8_block=(32, 48)), seed=5)
    return path


@pytest.fixture
def stand_in(monkeypatch):
    """cuda:0 is there; it is the CPU, with 1 GiB."""
    monkeypatch.setattr(gpus, "memory_of", lambda device: CPU)
    monkeypatch.setattr(gpus, "why_missing", lambda device: "" if device == "cuda:0" else "there is one")
    monkeypatch.setattr(gpus, "free_bytes", lambda device: 1 << 30)


def strict(kernels: EagerKernels, crossed: list[tuple[int, ...]]) -> EagerKernels:
    """The same, asserting that activations come in its dtype, and noting what is handed over in the other's."""
    for name in ("rms_norm", "linear", "mlp", "experts", "route", "add", "head", "take_rows"):
        operation = getattr(kernels, name)

        @wraps(operation)
        def checked(x, *rest, operation=operation):
            assert x.dtype is kernels.compute, (operation.__name__, x.dtype)
            return operation(x, *rest)

        setattr(kernels, name, checked)

    def receive(x):
        if x.dim() == 2 and x.dtype in (torch.float32, torch.bfloat16) and x.dtype is not kernels.compute:
            crossed.append(tuple(x.shape))
        return x

    kernels.receive = receive
    return kernels


@pytest.mark.parametrize("case", CASES)
def test_activations_cross_once_per_boundary_in_the_arithmetic_of_the_other_side(folder, case):
    rules, expected = CASES[case]
    checkpoint = Checkpoint.open(folder)
    placement = place(checkpoint, replace(PROFILE, rules=rules))
    crossed: list[tuple[int, ...]] = []
    kernels = {
        "cpu": strict(EagerKernels(torch.float32), crossed),
        "cuda:0": strict(CudaKernels(torch.bfloat16, CPU, 2000), crossed),
    }
    parameters = load(checkpoint, placement, memory_of=lambda device: CPU).parameters
    model = DeepseekV3(checkpoint.config, parameters, places_of(placement, checkpoint.config, kernels))
    ids = steps.random_ids(20, 160)
    got = model.forward(steps.batch([(ids, 0, (4, 1))]), steps.poisoned_cache(model, 5))
    activations = [shape for shape in crossed if shape == (20, 64)]
    assert len(activations) == expected
    plain = DeepseekV3(checkpoint.config, parameters, EagerKernels(torch.float32))
    wanted = plain.forward(steps.batch([(ids, 0, (4, 1))]), steps.poisoned_cache(plain, 5))
    assert float((got - wanted).abs().mean()) < 0.12  # bf16 here and there: see tests/engine/model


@pytest.mark.parametrize("case", CASES)
def test_a_placed_model_scores_as_the_same_weights_on_the_cpu(folder, stand_in, case):
    rules = CASES[case][0]
    ids = steps.random_ids(120, 160, seed=3)
    with Engine.open(folder, replace(PROFILE, rules=rules)) as engine:
        got = torch.tensor(engine.score(ids).logprobs)
    with Engine.open(folder, replace(PROFILE, rules=tuple(replace(r, device=None) for r in rules))) as engine:
        expected = torch.tensor(engine.score(ids).logprobs)
    assert steps.difference(got, expected) < 1e-3


def test_a_layer_that_is_shared_with_a_gpu_keeps_its_native_kernels(folder, stand_in):
    """Packed: all that is on the CPU, but kv_b, which only whole layers read packed."""
    rules = (
        Rule("model.layers.1.mlp.shared_experts", device="cuda:0"),
        Rule("model.layers.2.self_attn", device="cuda:0"),
    )
    with Engine.open(folder, replace(PROFILE, precision="bf16", rules=rules)) as engine:
        packs = engine._running.design.packer is not None
        parts = dict(named_parts(engine._running.weights.parameters, engine._checkpoint.config))
        layouts = {n: p.layout for n, p in parts.items() if not isinstance(p, torch.Tensor)}
    packed = {name for name, layout in layouts.items() if layout is not Layout.ROWS}
    if not packs:
        assert not packed
        return
    there = {n for n in layouts if "layers.1.mlp.shared" in n or "layers.2.self_attn" in n}
    rows = {"model.embed_tokens.weight", "model.layers.1.self_attn.kv_b_proj.weight"}
    assert packed == set(layouts) - there - rows


def test_a_gpu_that_is_not_there_is_refused_with_the_reason_and_the_size(folder):
    with pytest.raises(
        PlacementError,
        match=r"puts 0\.00 GiB of weights on cuda:99, which is not there: \w.*; take a profile",
    ):
        Engine.open(folder, replace(PROFILE, rules=(Rule("lm_head", device="cuda:99"),)))


@pytest.mark.parametrize("short", ["cuda:0", "cpu"])
def test_a_tier_that_is_too_small_is_refused_before_anything_is_loaded(folder, stand_in, monkeypatch, short):
    """Each on its own: the other has room."""
    loaded = []
    monkeypatch.setattr("engine.runtime.assembly.load", lambda *rest: loaded.append(rest))
    layer = Rule("model.layers.1", device="cuda:0" if short == "cuda:0" else "cpu")
    rest = Rule("model", device="cpu" if short == "cuda:0" else "cuda:0")
    large = replace(PROFILE, rules=(layer, rest), cache_lens=1 << 33)
    monkeypatch.setattr(gpus, "free_bytes", lambda device: 1 << (30 if short == "cuda:0" else 60))
    if short == "cuda:0":
        large = replace(large, cache_lens=1 << 23)  # 1.25 GiB a layer
    with pytest.raises(
        PlacementError, match=r"of cuda:0 \(weights 0\.0, cache" if short == "cuda:0" else "of RAM"
    ):
        Engine.open(folder, large)
    assert not loaded


def test_a_switch_counts_each_tier(folder, stand_in, monkeypatch):
    """From the CPU to a GPU that has no room for both the old and the new, and to one that has none at all."""
    there = replace(PROFILE, name="there", device="cuda:0")
    with Engine.open(folder, PROFILE) as engine:
        plan = engine.plan_switch(there)
        assert not plan.free_first
        assert plan.read_bytes > 0
        engine.switch(there)
        wider = replace(there, precision="fp32", name="wider")
        need = engine.plan_switch(wider)
        work = engine._running.design.work_by_tier["cuda:0"]
        exact = need.read_bytes + need.cache_bytes + work
        monkeypatch.setattr(gpus, "free_bytes", lambda device: exact - 1)
        assert engine.plan_switch(wider).free_first
        monkeypatch.setattr(gpus, "free_bytes", lambda device: 0)
        with pytest.raises(PlacementError, match="of cuda:0 beside what stays loaded"):
            engine.plan_switch(replace(wider, cache_lens=1 << 16))
        engine.score(steps.random_ids(20, 160))
