"""How fast one decoder layer is on the native kernels, at true shapes, and how much of the memory's rate it reads.

    python tests/bench/native_layer.py [--shapes nano,moonlight,deepseek] [--formats bf16,fp8,int8,int4]
                                       [--threads 1,2] [--isa avx2,scalar] [--rows 512] [--seconds 1]

Weights are random, quantized like a checkpoint's, in several copies, so that a decode step finds none in the last-level
cache. Prints, a shape and number of threads, the rate at which these threads read memory (a plain sum over float32 in
torch, the divisor), and for each format and instruction set a decode step's time, bytes and GB/s at depths 512 and 4096,
the same of its experts alone, and prefill in tok/s of the whole model with the arithmetic behind it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from engine.kernels.native import NativeKernels, NativeLayer
from engine.kernels.protocol import LayerSizes, LayerWeights, PagedKeys, Routing
from engine.quant import formats
from engine.quant.matrix import Format, Matrix, MatrixStack
from engine.quant.packing import HeadShape, empty_packed

_NANO = (LayerSizes(576, 9, 32, 96, 64, 384, 1e-5, 0.1, 16, Routing(6, 4, 3, True, 6.0)), None, 64, 512, 30)
_MOONLIGHT = (
    LayerSizes(2048, 16, 128, 64, 128, 512, 1e-5, 0.1, 64, Routing(6, 1, 1, True, 2.446)),
    None,
    1408,
    2816,
    27,
)
_DEEPSEEK = (
    LayerSizes(7168, 128, 128, 64, 128, 512, 1e-6, 0.1, 256, Routing(8, 8, 4, True, 2.5)),
    1536,
    2048,
    2048,
    61,
)
SHAPES = {"nano": _NANO, "moonlight": _MOONLIGHT, "deepseek": _DEEPSEEK}
_DEPTH = 8192
_BLOCK = (16, 128)  # of fp8; its rows so that the sixteen that are repeated are whole
_LANES = 16
_READ_BETWEEN = 1 << 28  # bytes of weights, before a layer is read again


def random_layer(kernels: NativeKernels, name: str, fmt: Format) -> tuple[NativeLayer, int, int]:
    """A layer of experts, the bytes of its weights that one row reads, and of these the experts' own."""
    sizes, q_lora, width, shared, _ = SHAPES[name]
    assert sizes.routing is not None
    packer, count = kernels.packer, sizes.num_experts

    def stack(rows: int, columns: int, copies: int = 1, heads: HeadShape | None = None) -> MatrixStack:
        """Sixteen rows, or one head, quantized and packed, over and over: every panel is of one size."""
        packed = empty_packed(packer, copies, formats.empty(fmt, rows, columns, _BLOCK), heads)
        few = _LANES if heads is None else heads.nope + heads.v
        plain = formats.empty(fmt, few, columns, _BLOCK)
        formats.convert_into(plain, Matrix(Format.FP32, torch.randn(few, columns) * 0.02))
        one = None if heads is None else HeadShape(1, heads.nope, heads.v)
        part = empty_packed(packer, 1, plain, one)[0].data
        if one is None:
            packer.pack(plain, part)
        else:
            packer.pack_heads(plain, one, part)
        packed.data.view(-1, len(part))[:] = part
        return packed

    hidden, q_width = sizes.hidden, sizes.heads * (sizes.nope + sizes.rope)
    heads = HeadShape(sizes.heads, sizes.nope, sizes.v)
    always = {
        "q": None if q_lora else stack(q_width, hidden),
        "q_a": stack(q_lora, hidden) if q_lora else None,
        "q_b": stack(q_width, q_lora) if q_lora else None,
        "kv_a": stack(sizes.rank + sizes.rope, hidden),
        "kv_b": stack(sizes.heads * (sizes.nope + sizes.v), sizes.rank, heads=heads),
        "o": stack(hidden, sizes.heads * sizes.v),
        "gate": stack(shared, hidden),
        "up": stack(shared, hidden),
        "down": stack(hidden, shared),
    }
    experts = (stack(width, hidden, count), stack(width, hidden, count), stack(hidden, width, count))
    one = {key: None if value is None else value[0] for key, value in always.items()}
    gate, up, down = one["gate"], one["up"], one["down"]
    kv_a, kv_b, o = one["kv_a"], one["kv_b"], one["o"]
    assert None not in (kv_a, kv_b, o, gate, up, down)
    weights = LayerWeights(
        input_norm=torch.ones(hidden),
        q=one["q"],
        q_a=one["q_a"],
        q_a_norm=torch.ones(q_lora) if q_lora else None,
        q_b=one["q_b"],
        kv_a=kv_a,
        kv_a_norm=torch.ones(sizes.rank),
        kv_b=kv_b,
        o=o,
        post_attention_norm=torch.ones(hidden),
        dense=(gate, up, down),
        experts=experts,
        router=torch.randn(count, hidden) * 0.02,
        correction_bias=torch.zeros(count),
    )
    routed = sum(one.nbytes for one in experts) * sizes.routing.top_k // count
    fed = routed + gate.nbytes + up.nbytes + down.nbytes
    read = routed + sum(value.nbytes for value in always.values() if value is not None)
    return kernels.layer(sizes, weights), read, fed


def median_seconds(run: Callable[[], object], seconds: float) -> float:
    run()
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 5 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def memory_rate(num_threads: int, seconds: float) -> float:
    """Bytes a second that torch's own sum reads from 1 GiB."""
    values = torch.ones(1 << 28)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    rate = values.nbytes / median_seconds(values.sum, seconds)
    torch.set_num_threads(before)
    return rate


def step(
    kernels: NativeKernels, layers: list[NativeLayer], rows: int, start: int, pages: torch.Tensor
) -> None:
    sizes = layers[0].sizes
    keys = PagedKeys.of(tuple(range(_DEPTH // 16)), start, start + rows, 16)
    rotation = torch.polar(torch.ones(rows, sizes.rope // 2), torch.zeros(rows, sizes.rope // 2))
    x = torch.randn(rows, sizes.hidden)
    slots = torch.arange(start, start + rows)
    kernels.run_layers(layers, x, rotation, slots, [(0, rows, keys)], [pages] * len(layers))


def report(name: str, num_threads: int, args: argparse.Namespace) -> None:
    rate = memory_rate(num_threads, args.seconds)
    print(f"{name}, {num_threads} threads: memory {rate / 1e9:.1f} GB/s", flush=True)
    for fmt in map(Format, args.formats.split(",")):
        for isa in args.isa.split(","):
            kernels = NativeKernels(num_threads, isa)
            first, read, fed = random_layer(kernels, name, fmt)
            copies = max(1, _READ_BETWEEN // read)
            layers = [first, *(random_layer(kernels, name, fmt)[0] for _ in range(copies - 1))]
            print(f"  {fmt.value}, {kernels.isa}: {copies} layers of {read / 1e6:.1f} MB a row", flush=True)
            decode(kernels, layers, read, fed, rate, name, args.seconds)
            prefill(kernels, layers[0], args.rows, name, args.seconds)


def decode(
    kernels: NativeKernels,
    layers: list[NativeLayer],
    read: int,
    fed: int,
    rate: float,
    name: str,
    seconds: float,
) -> None:
    sizes, num_layers = SHAPES[name][0], SHAPES[name][4]
    pages = torch.zeros(_DEPTH // 16, 16, sizes.rank + sizes.rope, dtype=torch.bfloat16)
    for depth in (512, 4096):
        one = median_seconds(partial(step, kernels, layers, 1, depth, pages), seconds) / len(layers)
        print(
            f"    decode at {depth}: {one * 1e6:.0f} us a layer, {read / one / 1e9:.1f} GB/s of weights,"
            f" {read / one / rate:.0%} of memory; {1 / one / num_layers:.1f} tok/s of all layers",
            flush=True,
        )
    x = torch.randn(1, sizes.hidden)

    def experts() -> None:
        for layer in layers:
            kernels.feed_forward(layer, x, x)

    one = median_seconds(experts, seconds) / len(layers)
    print(
        f"    its experts: {one * 1e6:.0f} us, {fed / one / 1e9:.1f} GB/s, {fed / one / rate:.0%} of memory",
        flush=True,
    )


def prefill(kernels: NativeKernels, layer: NativeLayer, rows: int, name: str, seconds: float) -> None:
    sizes, _, width, shared, num_layers = SHAPES[name]
    assert sizes.routing is not None
    pages = torch.zeros(_DEPTH // 16, 16, sizes.rank + sizes.rope, dtype=torch.bfloat16)
    whole = median_seconds(partial(step, kernels, [layer], rows, 0, pages), seconds)
    x = torch.randn(rows, sizes.hidden)
    fed = median_seconds(partial(kernels.feed_forward, layer, x, x), seconds)
    products = 3 * rows * sizes.hidden * (shared + width * sizes.routing.top_k)
    print(
        f"    prefill of {rows}: {rows / whole / num_layers:.1f} tok/s; its experts {2 * products / fed / 1e9:.0f} GFLOP/s,"
        f" {fed / whole:.0%} of the time",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default="nano,moonlight")
    parser.add_argument("--formats", default="bf16,fp8,int8,int4")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--isa", default="")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    for name in args.shapes.split(","):
        for num_threads in map(int, args.threads.split(",")):
            report(name, num_threads, args)


if __name__ == "__main__":
    main()
