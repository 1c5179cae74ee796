"""Measures the CPU's kernels one by one, whatever serves, at the shapes of real layers. Knows no checkpoint.

Weights are random and lie in enough copies that a call finds none of its bytes in a cache; a call takes the next copy.
Bytes are what a call must read: the matrices (of experts those that the rows chose), and the latents that it attends to.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from engine.bandwidth import measure_ram
from engine.benchmark.shapes import SHAPES, LayerShape
from engine.benchmark.values import BenchmarkProgress, KernelBenchmark, KernelSpeed
from engine.hardware import probe_cpu
from engine.kernels.cpu import cpu_kernels
from engine.kernels.native import NativeKernels, NativeLayer
from engine.kernels.protocol import Kernels, LayerSizes, LayerWeights, PagedKeys
from engine.quant.matrix import Format, Matrix, MatrixStack
from engine.quant.packing import HeadShape, Packer
from engine.weights.random_parameters import RandomMatrices

_UNCACHED_BYTES = 256 << 20  # of the copies together: beyond any last-level cache that a share of a core has
_MAX_COPIES = 512
_MANY_ROWS = 128  # of a prefill's chunk
_DEPTHS = (512, 4096)
_PAGE_TOKENS = 16
_BLOCK = (128, 128)
_SECONDS = (0.1, 2.0)  # measure so long at least; stop there once there are enough calls

Report: TypeAlias = Callable[[BenchmarkProgress], None]


@dataclass(frozen=True, slots=True)
class _Call:
    """A kernel's call on copy `i`. `bounded`: by reading, so that a share of the bandwidth means something."""

    kernel: str
    rows: int
    copies: int
    nbytes: int
    flops: float
    run: Callable[[int], object]
    bounded: bool


def benchmark_kernels(
    shapes: Sequence[str],
    formats: Sequence[str],
    threads: int | None = None,
    runs: int = 9,
    *,
    on_progress: Report = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> KernelBenchmark:
    """`shapes` of SHAPES, `formats` by their names in a profile. When `cancelled` answers True, the result is what was
    measured until then. DeepSeek-V3's experts are as many as make the copies, not all 256."""
    cores = probe_cpu().usable_cores
    threads = threads or (cores if cores <= 2 else cores - 1)
    kernels, packer, _ = cpu_kernels(torch.bfloat16, threads)
    served = f"native {kernels.isa}" if isinstance(kernels, NativeKernels) else "torch"
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    rates: list[float] = []
    found: list[KernelSpeed] = []
    complete = True
    try:
        for name, fmt in ((name, fmt) for name in shapes for fmt in formats):
            if cancelled():
                break
            rates.append(measure_ram(threads).bytes_per_s)
            for call in _calls(kernels, packer, SHAPES[name], Format(fmt)):
                if cancelled():
                    complete = False
                    break
                on_progress(BenchmarkProgress(f"{name} {fmt}", f"{call.kernel}, {call.rows} rows"))
                found.append(_measured(call, name, fmt, runs, rates[-1]))
        complete = complete and not cancelled()
    finally:
        torch.set_num_threads(before)
    return KernelBenchmark(threads, served, statistics.median(rates or [0.0]), tuple(found), complete)


def _measured(call: _Call, shape: str, fmt: str, runs: int, rate: float) -> KernelSpeed:
    for copy in range(min(3, call.copies)):
        call.run(copy)
    seconds: list[float] = []
    begun = time.perf_counter()
    while True:
        start = time.perf_counter()
        call.run(len(seconds) % call.copies)
        seconds.append(time.perf_counter() - start)
        taken = time.perf_counter() - begun
        if (len(seconds) >= runs and taken > _SECONDS[0]) or (len(seconds) >= 3 and taken > _SECONDS[1]):
            break
    median = statistics.median(seconds)
    return KernelSpeed(
        kernel=call.kernel,
        shape=shape,
        format=fmt,
        rows=call.rows,
        seconds=median,
        seconds_least=min(seconds),
        seconds_most=max(seconds),
        nbytes=call.nbytes,
        gb_per_s=call.nbytes / median / 1e9,
        gflop_per_s=call.flops / median / 1e9,
        share_of_bandwidth=call.nbytes / median / rate if call.bounded else None,
    )


def _calls(kernels: Kernels, packer: Packer | None, shape: LayerShape, fmt: Format) -> Iterator[_Call]:
    made = _Maker(RandomMatrices(_BLOCK, packer), packer, fmt)
    yield from _linear(kernels, made, shape)
    yield from _experts(kernels, made, shape)
    yield from _attention(kernels, made, shape)


@dataclass(frozen=True, slots=True)
class _Maker:
    matrices: RandomMatrices
    packer: Packer | None
    format: Format

    def stack(self, count: int, rows: int, columns: int, heads: HeadShape | None = None) -> MatrixStack:
        group = {Format.INT4: 64, Format.INT8: 128}.get(self.format, 0)
        packs = self.packer is not None and self.packer.takes(self.format, _BLOCK, group, heads)
        return self.matrices.stack(self.format, count, rows, columns, group, packs, heads if packs else None)


def _copies(nbytes: int) -> int:
    return max(2, min(_MAX_COPIES, -(-_UNCACHED_BYTES // nbytes)))


def _linear(kernels: Kernels, made: _Maker, shape: LayerShape) -> Iterator[_Call]:
    """The attention's output projection."""
    rows, columns = shape.hidden, shape.heads * shape.v
    count = _copies(made.stack(1, rows, columns).nbytes)
    stack = made.stack(count, rows, columns)
    for num in (1, _MANY_ROWS):
        x = torch.randn(num, columns).to(kernels.compute)
        yield _Call(
            "linear",
            num,
            count,
            stack[0].nbytes,
            2.0 * num * rows * columns,
            lambda copy, x=x: kernels.linear(x, stack[copy]),  # type: ignore[misc]
            num == 1,
        )


def _experts(kernels: Kernels, made: _Maker, shape: LayerShape) -> Iterator[_Call]:
    """Routed experts, chosen at random for each row and copy."""
    width, hidden, k = shape.expert_width, shape.hidden, shape.top_k
    one = (
        made.stack(1, width, hidden).nbytes
        + made.stack(1, width, hidden).nbytes
        + made.stack(1, hidden, width).nbytes
    )
    num_experts = min(shape.num_experts, max(4 * k, -(-_UNCACHED_BYTES // one)))
    layers = [
        (
            made.stack(num_experts, width, hidden),
            made.stack(num_experts, width, hidden),
            made.stack(num_experts, hidden, width),
        )
        for _ in range(min(_MAX_COPIES, max(1, -(-_UNCACHED_BYTES // (one * num_experts)))))
    ]
    copies = max(len(layers), 8)
    for num in (1, _MANY_ROWS):
        x = torch.randn(num, hidden).to(kernels.compute)
        ids = [torch.stack([torch.randperm(num_experts)[:k] for _ in range(num)]) for _ in range(copies)]
        gates = torch.full((num, k), 1.0 / k)
        touched = statistics.mean(len(set(chosen.flatten().tolist())) for chosen in ids)
        yield _Call(
            f"experts, {k} of {num_experts}",
            num,
            copies,
            int(touched * one),
            6.0 * num * k * width * hidden,
            lambda copy, x=x, ids=ids, gates=gates: kernels.experts(  # type: ignore[misc]
                x, ids[copy], gates, *layers[copy % len(layers)]
            ),
            num == 1,
        )


def _attention(kernels: Kernels, made: _Maker, shape: LayerShape) -> Iterator[_Call]:
    """One row behind short and long contexts, then many rows from the beginning."""
    heads = HeadShape(shape.heads, shape.nope, shape.v)
    kv_b = made.stack(1, shape.heads * (shape.nope + shape.v), shape.rank, heads)[0]
    width = shape.rank + shape.rope
    native = _native_layer(kernels, made, shape, kv_b) if isinstance(kernels, NativeKernels) else None
    for num, depth in (*((1, depth) for depth in _DEPTHS), (_MANY_ROWS, _MANY_ROWS)):
        blocks = -(-depth // _PAGE_TOKENS)
        count = _copies(kv_b.nbytes + depth * width * 2)
        pages = torch.randn(1, blocks, _PAGE_TOKENS, width).bfloat16().repeat(count, 1, 1, 1)
        keys = PagedKeys.of(tuple(range(blocks)), depth - num, depth, _PAGE_TOKENS)
        q = torch.randn(num, shape.heads, shape.nope + shape.rope)
        seen = depth if num == 1 else depth / 2
        form = shape.heads * (shape.nope + shape.v) * shape.rank * (1 if num == 1 else depth)
        use = (
            num
            * seen
            * shape.heads
            * (2 * shape.rank + shape.rope if num == 1 else shape.nope + shape.rope + shape.v)
        )

        def run(
            copy: int, q: torch.Tensor = q, keys: PagedKeys = keys, pages: torch.Tensor = pages
        ) -> object:
            if native is not None:
                assert isinstance(kernels, NativeKernels)
                return kernels.attend(native, q, [(0, len(q), keys)], pages[copy])
            attend = kernels.mla_absorbed if len(q) == 1 else kernels.mla_expanded
            return attend(q[..., : shape.nope], q[..., shape.nope :], pages[copy], keys, kv_b, 0.1)

        nbytes = kv_b.nbytes + depth * width * 2
        yield _Call(f"attention, {depth} keys", num, count, nbytes, 2.0 * (form + use), run, num == 1)


def _native_layer(
    kernels: NativeKernels, made: _Maker, shape: LayerShape, kv_b: Matrix
) -> NativeLayer | None:
    """A dense layer of which only the attention is asked; None where its kv_b is not packed."""
    if kv_b.packed_shape is None or kv_b.data.dim() != 1:
        return None
    hidden, q_rows = shape.hidden, shape.heads * (shape.nope + shape.rope)
    sizes = LayerSizes(hidden, shape.heads, shape.nope, shape.rope, shape.v, shape.rank, 1e-6, 0.1, 0, None)
    small = made.stack(1, hidden, hidden)[0]
    weights = LayerWeights(
        input_norm=torch.ones(hidden),
        q=made.stack(1, q_rows, hidden)[0],
        q_a=None,
        q_a_norm=None,
        q_b=None,
        kv_a=made.stack(1, shape.rank + shape.rope, hidden)[0],
        kv_a_norm=torch.ones(shape.rank),
        kv_b=kv_b,
        o=made.stack(1, hidden, shape.heads * shape.v)[0],
        post_attention_norm=torch.ones(hidden),
        dense=(small, small, small),
        experts=None,
        router=None,
        correction_bias=None,
    )
    return kernels.layer(sizes, weights)
