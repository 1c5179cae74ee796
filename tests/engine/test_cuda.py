"""On a real GPU: a profile with cuda:0 answers as on the CPU, holds what the plan says, and gives it back.

Without a GPU this file has nothing to say; tests/engine/test_devices.py holds the same logic to two devices of the CPU.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine import Engine, PlacementError, Profile, Rule
from engine.kernels.cuda import CudaKernels
from engine.kernels.protocol import PagedKeys, Routing
from engine.kernels.reference import ReferenceKernels, dequantized
from engine.quant.formats import quantize
from engine.quant.matrix import Format, Matrix, MatrixStack
from engine.weights.keeping import named_parts
from tests.engine.checkpoints import random_config, write_checkpoint
from tests.engine.model import steps

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")

EXPERTS = "model.layers.*.mlp.experts"
PROFILE = Profile(cache_lens=1024, max_batch_size=2, chunk_size=48, max_new_tokens=256)
GPU = replace(PROFILE, name="gpu", device="cuda:0")
REFERENCE = ReferenceKernels()
FORMATS = [Format.FP32, Format.BF16, Format.FP8, Format.INT8, Format.INT4]


def on_gpu(matrix: Matrix | MatrixStack):
    parts = {name: getattr(matrix, name) for name in ("data", "scale", "zero")}
    return replace(matrix, **{name: part if part is None else part.cuda() for name, part in parts.items()})


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("num_rows", [1, 5, 200])
def test_products_in_float32_are_float32(fmt: Format, num_rows: int) -> None:
    """TF32 would err by 2^-11 a factor, a hundred times this. Tiles of 1000 values: a matrix is many of them."""
    matrix, x = quantize(randn(150, 136), fmt, (64, 48)), randn(num_rows, 136, seed=1)
    kernels = CudaKernels(torch.float32, torch.device("cuda:0"), 1000)
    wide = dequantized(matrix).double()
    expected, size = x.double() @ wide.T, x.double().abs() @ wide.abs().T
    for got in (kernels.linear(x.cuda(), on_gpu(matrix)), kernels.head(x.cuda(), on_gpu(matrix))):
        assert ((got.cpu() - expected).abs() <= 4e-6 * size).all()


@pytest.mark.parametrize("fmt", FORMATS)
def test_products_in_bf16_round_each_factor_and_the_result_once(fmt: Format) -> None:
    matrix, x = quantize(randn(150, 136), fmt, (64, 48)), randn(7, 136, seed=1).bfloat16()
    kernels = CudaKernels(torch.bfloat16, torch.device("cuda:0"), 1000)
    wide = dequantized(matrix).double()
    expected, size = x.double() @ wide.T, x.double().abs() @ wide.abs().T
    got = kernels.linear(x.cuda(), on_gpu(matrix))
    assert got.dtype is torch.bfloat16
    assert ((got.cpu() - expected).abs() <= 2**-8 * size).all()
    assert ((kernels.head(x.cuda(), on_gpu(matrix)).cpu() - expected).abs() <= 4e-6 * size).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize(("start", "rows"), [(0, 1), (300, 1), (250, 150)])
def test_attention_equals_the_reference(dtype: torch.dtype, start: int, rows: int, monkeypatch) -> None:
    """Both forms, over pages in any order; a few heads at a time."""
    heads, nope, rope, v, rank = 5, 16, 8, 12, 32
    monkeypatch.setattr(CudaKernels, "work_values", 60_000)
    kernels = CudaKernels(torch.float32, torch.device("cuda:0"))
    kv_b = quantize(randn(heads * (nope + v), rank), Format.INT8)
    length = start + rows
    ids = tuple(torch.randperm(30, generator=torch.Generator().manual_seed(3)).tolist())
    slots = torch.tensor([ids[p // 16] * 16 + p % 16 for p in range(length)])
    shape = (30, 16, rank + rope + (2 if dtype is torch.uint8 else 0))
    pages = torch.full(shape, 255 if dtype is torch.uint8 else torch.nan, dtype=dtype)
    c_kv, k_pe = randn(length, rank, seed=1), randn(length, rope, seed=2)
    there = pages.cuda()
    REFERENCE.write_latent(pages, slots, c_kv, k_pe)
    kernels.write_latent(there, slots.cuda(), c_kv.cuda(), k_pe.cuda())
    torch.testing.assert_close(there.cpu(), pages, equal_nan=True, rtol=0, atol=0)
    q = randn(rows, heads, nope, seed=4), randn(rows, heads, rope, seed=5)
    keys, keys_there = (PagedKeys.of(ids, start, length, 16, device) for device in (None, kernels.device))
    expected = REFERENCE.mla_absorbed(*q, pages, keys, kv_b, 0.2)
    for form in (kernels.mla_absorbed, kernels.mla_expanded):
        got = form(*(part.cuda() for part in q), there, keys_there, on_gpu(kv_b), 0.2)
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fmt", FORMATS[1:])
@pytest.mark.parametrize("num_rows", [1, 3, 60])
def test_routed_experts_equal_the_reference(fmt: Format, num_rows: int) -> None:
    routing = Routing(3, 4, 2, True, 2.5)
    kernels = CudaKernels(torch.float32, torch.device("cuda:0"))

    def stack(rows: int, columns: int, seed: int) -> MatrixStack:
        made = [quantize(randn(rows, columns, seed=seed + e), fmt) for e in range(8)]
        parts = {
            name: None if getattr(made[0], name) is None else torch.stack([getattr(m, name) for m in made])
            for name in ("data", "scale", "zero")
        }
        return MatrixStack(
            fmt,
            parts["data"],
            parts["scale"],
            packed_shape=made[0].packed_shape,
            zero=parts["zero"],
            group=made[0].group,
        )

    stacks = stack(40, 64, 10), stack(40, 64, 20), stack(64, 40, 30)
    x, router, bias = randn(num_rows, 64), randn(8, 64, seed=1) / 8, randn(8, seed=2) / 10
    ids, gates = REFERENCE.route(x, router, bias, routing)
    there = kernels.route(x.cuda(), router.cuda(), bias.cuda(), routing)
    order, order_there = ids.argsort(dim=1), there[0].argsort(dim=1)
    assert torch.equal(there[0].gather(1, order_there).cpu(), ids.gather(1, order))
    torch.testing.assert_close(
        there[1].gather(1, order_there).cpu(), gates.gather(1, order), rtol=1e-5, atol=1e-6
    )
    expected = REFERENCE.experts(x, ids, gates, *stacks)
    got = kernels.experts(x.cuda(), *there, *(on_gpu(s) for s in stacks))
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


CASES = {
    "all of it": (Rule("model", device="cuda:0"),),
    "attention, shared and dense there, routed experts here": (
        Rule(EXPERTS, device="cpu", precision="int4"),
        Rule("model", device="cuda:0", precision="int8"),
        Rule("lm_head", device="cuda:0"),
    ),
    "routed experts there, all else here": (Rule(EXPERTS, device="cuda:0", precision="int4"),),
    "layers in turn, head there": (Rule("model.layers.1", device="cuda:0", precision="fp8"), Rule("lm_head", device="cuda:0")),
    "dense MLP and shared experts there": (
        Rule("re:.*\\.mlp\\.(gate_proj|up_proj|down_proj)", device="cuda:0"),
        Rule("model.layers.*.mlp.shared_experts", device="cuda:0"),
    ),
    "a router there": (Rule("model.layers.*.mlp.gate", device="cuda:0"),),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    write_checkpoint(path, random_config(fp8_block=(32, 48)), seed=5)
    return path


@pytest.mark.parametrize("kv", ["fp32", "fp8"])
@pytest.mark.parametrize("case", CASES)
def test_a_placed_model_scores_as_the_same_weights_on_the_cpu(folder, case: str, kv: str) -> None:
    """float32 throughout, so the order of sums is all that differs; with an fp8 cache a value on the border of two codes may
    also fall either way, which must cost less than the codes themselves do."""
    placed = replace(PROFILE, rules=CASES[case], kv_precision=kv)
    here = replace(placed, rules=tuple(replace(rule, device=None) for rule in CASES[case]))
    ids = steps.random_ids(120, 160, seed=3)
    with Engine.open(folder, placed) as engine:
        got = engine.score(ids)
        tiers = engine.stats().weights_bytes
        for name, part in named_parts(engine._running.weights.parameters, engine._checkpoint.config):
            tensor = part if isinstance(part, torch.Tensor) else part.data
            assert str(tensor.device) == engine._running.design.placement.tensors[name].device
        assert tiers["cuda:0"] == engine._running.design.placement.bytes_by_tier["cuda:0"]
    with Engine.open(folder, here) as engine:
        expected = torch.tensor(engine.score(ids).logprobs)
    moved = (torch.tensor(got.logprobs) - expected).abs()
    if kv == "fp32":
        assert float(moved.max()) < 1e-3
        return
    with Engine.open(folder, replace(here, kv_precision="fp32")) as engine:
        cost = (torch.tensor(engine.score(ids).logprobs) - expected).abs()
    assert float(moved.mean()) < float(cost.mean())


def test_a_switch_to_the_gpu_and_back_gives_the_memory_back(folder) -> None:
    ids = steps.random_ids(60, 160, seed=3)
    with Engine.open(folder, PROFILE) as engine:
        engine.switch(GPU)
        engine.switch(PROFILE)
        before, first = torch.cuda.memory_reserved(), engine.score(ids)
        plan = engine.plan_switch(GPU)
        assert plan.read_bytes > plan.kept_bytes == 0
        engine.switch(GPU)
        assert torch.cuda.memory_allocated() > plan.read_bytes
        engine.score(ids)
        engine.switch(PROFILE)
        assert torch.cuda.memory_reserved() <= before + (2 << 20)
        assert engine.score(ids).logprobs == first.logprobs


def test_more_than_the_card_has_is_refused_before_anything_is_loaded(folder) -> None:
    before = torch.cuda.memory_allocated()
    with pytest.raises(PlacementError, match=r"of cuda:0 \(weights .*are free"):
        Engine.open(folder, replace(GPU, cache_lens=1 << 31))
    with pytest.raises(PlacementError, match="cuda:9, which is not there: torch sees"):
        Engine.open(folder, replace(GPU, device="cuda:9"))
    assert torch.cuda.memory_allocated() == before
