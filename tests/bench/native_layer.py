"""How fast one decoder layer is on the native kernels, at true shapes, and how much of the memory's rate it reads.

    python tests/bench/native_layer.py [--shapes nano,moonlight,deepseek] [--threads 1,2] [--isa avx2] [--seconds 1]

Weights are random bf16 in several copies, so that a decode step finds none in the last-level cache. Prints, a shape and
number of threads, the rate at which these threads read memory (a plain sum over float32 in torch, the floor's divisor),
a decode step's time, bytes and GB/s at depths 512 and 4096, and the prefill of 256 rows in tok/s of the whole model.
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
from engine.quant.matrix import Format, MatrixStack
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


def random_layer(kernels: NativeKernels, name: str) -> tuple[NativeLayer, int]:
    """A layer of experts, and the bytes of its weights that one row reads."""
    sizes, q_lora, width, shared, _ = SHAPES[name]
    assert sizes.routing is not None
    packer, count = kernels.packer, sizes.num_experts

    def stack(rows: int, columns: int, copies: int = 1, heads: HeadShape | None = None) -> MatrixStack:
        packed = empty_packed(packer, copies, formats.empty(Format.BF16, rows, columns), heads)
        block = (torch.randn(1 << 20) * 0.02).bfloat16().view(torch.uint8)
        for index in range(copies):
            flat = packed[index].data
            for start in range(0, len(flat), len(block)):
                part = flat[start : start + len(block)]
                part.copy_(block[: len(part)])
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
    read = sum(value.nbytes for value in always.values() if value is not None)
    read += sum(stack_.nbytes for stack_ in experts) * sizes.routing.top_k // count
    return kernels.layer(sizes, weights), read


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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", default="nano,moonlight")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--isa", default="")
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    for name in args.shapes.split(","):
        for num_threads in map(int, args.threads.split(",")):
            report(name, num_threads, args.isa, args.seconds)


def report(name: str, num_threads: int, isa: str, seconds: float) -> None:
    sizes, num_layers = SHAPES[name][0], SHAPES[name][4]
    kernels = NativeKernels(num_threads, isa)
    first, read = random_layer(kernels, name)
    copies = max(1, (1 << 28) // read)
    layers = [first, *(random_layer(kernels, name)[0] for _ in range(copies - 1))]
    pages = torch.zeros(_DEPTH // 16, 16, sizes.rank + sizes.rope, dtype=torch.bfloat16)
    rate = memory_rate(num_threads, seconds)
    print(f"{name}, {num_threads} threads: memory {rate / 1e9:.1f} GB/s; {len(layers)} layers of", end=" ")
    print(f"{read / 1e6:.1f} MB a row, {num_layers} in the model", flush=True)
    for depth in (512, 4096):
        one = median_seconds(partial(step, kernels, layers, 1, depth, pages), seconds) / len(layers)
        print(
            f"  decode at {depth}: {one * 1e6:.0f} us a layer, {read / one / 1e9:.1f} GB/s of weights,"
            f" {read / one / rate:.0%} of memory; {1 / one / num_layers:.1f} tok/s of all layers",
            flush=True,
        )
    for start in (0, 1792):
        whole = median_seconds(partial(step, kernels, layers[:1], 256, start, pages), seconds)
        print(f"  prefill of 256 behind {start}: {256 / whole / num_layers:.1f} tok/s", flush=True)


if __name__ == "__main__":
    main()
