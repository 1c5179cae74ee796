"""The native kernels against ReferenceKernels, on every instruction set of this machine: odd shapes, NaN where nothing
may be read, and rows that do not depend on each other."""

from __future__ import annotations

import math
import subprocess
import sys
import threading

import pytest
import torch

from engine.kernels import native
from engine.kernels.extension import instruction_sets, native_status
from engine.kernels.protocol import LayerSizes, LayerWeights, PagedKeys, Routing
from engine.kernels.reference import ReferenceKernels, dequantized
from engine.quant import formats, latents
from engine.quant.matrix import Format, Layout, Matrix, MatrixStack
from engine.quant.packing import HeadShape, empty_packed

assert native_status().isa, native_status().reason  # without them nothing here would be tested
REFERENCE = ReferenceKernels()
EPS_FP32 = 2.0**-23


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=instruction_sets())
def kernels(request: pytest.FixtureRequest) -> native.NativeKernels:
    return native.NativeKernels(2, request.param)


FORMATS = (Format.BF16, Format.FP8, Format.INT8, Format.INT4)
CHAIN = {
    Format.BF16: 1,
    Format.FP8: 1,
    Format.INT8: 2,
    Format.INT4: 2,
}  # products behind each other, up to the result
BLOCK, GROUP = (32, 64), 32  # smaller than the shapes here, so that scales change along rows and columns


def matrices(
    rows: int, columns: int, count: int = 1, seed: int = 0, fmt: Format = Format.BF16
) -> tuple[MatrixStack, MatrixStack]:
    """Random matrices of unit gain in rows, and the same packed; what packing does not write is 0xff."""
    plain = formats.empty_stack(fmt, count, rows, columns, BLOCK, GROUP)
    packer = native.NativePacker()
    packed = empty_packed(packer, count, formats.empty(fmt, rows, columns, BLOCK, GROUP))
    packed.data.fill_(255)
    for index, weight in enumerate(randn(count, rows, columns, seed=seed) / math.sqrt(columns)):
        formats.convert_into(plain[index], Matrix(Format.FP32, weight))
        packer.pack(plain[index], packed[index].data)
    return plain, packed


def heads_of(heads: int, nope: int, v: int, rank: int, fmt: Format = Format.BF16) -> tuple[Matrix, Matrix]:
    plain = formats.empty(fmt, heads * (nope + v), rank, BLOCK, GROUP)
    formats.convert_into(
        plain, Matrix(Format.FP32, randn(heads * (nope + v), rank, seed=7) / math.sqrt(rank))
    )
    packer, shape = native.NativePacker(), HeadShape(heads, nope, v)
    packed = empty_packed(packer, 1, plain, shape)[0]
    packed.data.fill_(255)
    packer.pack_heads(plain, shape, packed.data)
    assert packed.layout is Layout.HEADS
    return plain, packed


def assert_close(
    got: torch.Tensor,
    expected: torch.Tensor,
    terms: int = 1000,
    products: int = 0,
    more: torch.Tensor | None = None,
) -> None:
    """Float32 sums of `terms` products in another order: each addition rounds once, errors of random signs.

    `products` on 16-bit activations that lie behind each other: each adds an error of random sign to its elements, of a
    step / sqrt(12), the step being 2^-15 of a group's largest value, some three standard deviations: 2.7e-5 of the
    result's size, and five times that are allowed. `more`: a bound of what else may differ, element by element.
    """
    size = float(expected.abs().max())
    allowed = size * (EPS_FP32 * 4 * math.sqrt(terms) + 5 * 2.7e-5 * products)
    error = (got - expected).abs() - (0.0 if more is None else more)
    assert float(error.max()) <= allowed, f"{float(error.max())} > {allowed}"
    assert got.isfinite().all()


def rounding_of(x: torch.Tensor, plain: Matrix, isa: str) -> torch.Tensor:
    """What rounding x may change in x W^T, (rows of x, rows of W): the error of each x times |w|, all of one sign.

    int8 and int4: half a step of 16 bits, the largest of the group being 32767. bf16 and fp8 on AMX: x is the sum of
    two bf16, each with an error of at most 2^-9 of what it rounds.
    """
    error = torch.zeros_like(x)
    if plain.format in (Format.INT8, Format.INT4):
        for first in range(0, x.shape[1], plain.group):
            part = x[:, first : first + plain.group]
            error[:, first : first + plain.group] = part.abs().amax(dim=1, keepdim=True) * (1.001 / 65534)
    elif isa == "amx":
        error = x.abs() * 2.0**-17
    return error @ dequantized(plain).abs().T


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("num_rows", [1, 2, 3, 5, 6, 13, 61])
@pytest.mark.parametrize("shape", [(1, 1), (16, 2), (37, 53), (160, 64), (129, 257)])
def test_products_equal_the_reference(
    kernels: native.NativeKernels, shape: tuple[int, int], num_rows: int, fmt: Format
) -> None:
    plain, packed = matrices(*shape, fmt=fmt)
    x = randn(num_rows, shape[1], seed=1)
    assert_close(
        kernels.linear(x, packed[0]),
        REFERENCE.linear(x, plain[0]),
        shape[1],
        more=rounding_of(x, plain[0], kernels.isa),
    )


@pytest.mark.parametrize("fmt", [Format.INT8, Format.INT4])
@pytest.mark.parametrize("group", [32, 64, 128, 1024])
def test_activations_of_any_size_are_multiplied_exactly_enough(
    kernels: native.NativeKernels, group: int, fmt: Format
) -> None:
    """Groups up to one whose sums of codes at their largest would pass 2^31, x at its extremes of size and sign."""
    columns = group + 40
    weight = randn(40, columns, seed=3)
    weight[0] = weight.abs().max()
    plain = formats.empty(fmt, 40, columns, group=group)
    formats.convert_into(plain, Matrix(Format.FP32, weight))
    packed = empty_packed(kernels.packer, 1, plain)[0]
    kernels.packer.pack(plain, packed.data)
    x = torch.stack(
        [
            torch.ones(columns),
            -torch.ones(columns) * 3e30,
            randn(columns, seed=4) * 1e-25,
            torch.zeros(columns),
            torch.full((columns,), 1e-38),
        ]
    )
    x[2, ::7] *= 1e3
    got, expected = kernels.linear(x, packed), REFERENCE.linear(x, plain)
    step = 1 / min(32767, 2147483000 // (group * (15 if fmt is Format.INT4 else 128)))
    for row in range(3):
        bound = float(x[row].abs().max()) * step * float(dequantized(plain).abs().sum(dim=1).max())
        assert float((got[row] - expected[row]).abs().max()) <= 0.51 * bound
    assert not got[3].any()
    assert float(got[4].abs().max()) <= 1e-30


@pytest.mark.parametrize("fmt", [Format.INT8, Format.INT4])
@pytest.mark.parametrize("isa", instruction_sets())
def test_exact_kernels_lose_nothing_beside_a_value_that_is_a_thousand_times_larger(
    isa: str, fmt: Format
) -> None:
    """Two rows of integers hold 2^-32 of a group's largest value; sixteen bits alone lose the small ones."""
    plain, packed = matrices(100, 333, fmt=fmt)
    x = randn(40, 333, seed=1)
    x[:, ::50] *= 1e4
    kernels, expected = native.NativeKernels(2, isa, exact=True), REFERENCE.linear(x, plain[0])
    got = kernels.linear(x, packed[0])
    bound = x.abs() @ dequantized(plain[0]).abs().T * (333 * EPS_FP32)
    assert ((got - expected).abs() <= bound).all()
    assert not ((native.NativeKernels(2, isa).linear(x, packed[0]) - expected).abs() <= bound).all()
    for count in (1, 4, 11):
        assert torch.equal(kernels.linear(x[:count], packed[0]), got[:count])


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_none_stays_in_its_row(
    kernels: native.NativeKernels, value: float, fmt: Format
) -> None:
    _, packed = matrices(40, 100, fmt=fmt)
    x = randn(21, 100)
    x[17, 99] = value
    out = kernels.linear(x, packed[0])
    assert not out[17].isfinite().any()
    assert out[:17].isfinite().all()
    assert out[18:].isfinite().all()


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_row_of_a_product_does_not_depend_on_the_others(kernels: native.NativeKernels, fmt: Format) -> None:
    _, packed = matrices(100, 333, fmt=fmt)
    x = randn(64, 333, seed=1)
    whole = kernels.linear(x, packed[0])
    for count in (1, 2, 3, 4, 7, 11, 50):
        assert torch.equal(kernels.linear(x[:count], packed[0]), whole[:count])


@pytest.mark.parametrize("fmt", [Format.INT8, Format.INT4])
def test_instruction_sets_agree_on_integer_codes_bit_by_bit(fmt: Format) -> None:
    """Sums of integers are exact, and what scales them runs in one order. (Plain C++ may round where others fuse.)"""
    _, packed = matrices(100, 333, fmt=fmt)
    x = randn(40, 333, seed=1)
    sets = [isa for isa in instruction_sets() if isa != "scalar"]
    first, *others = (native.NativeKernels(1, isa).linear(x, packed[0]) for isa in sets or ["scalar"])
    assert all(torch.equal(first, other) for other in others)
    plain = native.NativeKernels(1, "scalar").linear(x, packed[0])
    torch.testing.assert_close(first, plain, rtol=0, atol=float(plain.abs().max()) * EPS_FP32 * 4)


def test_padding_holds_zeros_and_is_not_written_to(kernels: native.NativeKernels) -> None:
    plain, packed = matrices(17, 5)
    panels = packed.data.view(torch.bfloat16).view(2, 3, 16, 2)
    assert torch.equal(panels[0, 0, 3], plain.data[0, 3, :2])
    assert torch.equal(panels[1, 2, 0, :1], plain.data[0, 16, 4:])
    assert not panels[1, :, 1:].any()
    assert not panels[:, 2, :, 1].any()
    assert kernels.linear(randn(3, 5), packed[0]).isfinite().all()


@pytest.mark.parametrize("fmt", FORMATS)
def test_embedding_takes_rows_of_a_packed_table(kernels: native.NativeKernels, fmt: Format) -> None:
    """To the rounding of the product of code and scale."""
    plain, packed = matrices(50, 133, fmt=fmt)
    ids = torch.tensor([0, 49, 16, 15, 49])
    torch.testing.assert_close(
        kernels.embed(packed[0], ids), dequantized(plain[0])[ids], rtol=1e-6, atol=1e-8
    )


def test_every_code_of_e4m3_is_read(kernels: native.NativeKernels) -> None:
    """Zeros, subnormals and the largest, both signs; NaN codes never come here, the loader refuses them."""
    codes = torch.tensor([code for code in range(256) if code & 0x7F != 0x7F], dtype=torch.uint8)
    data = codes.view(torch.float8_e4m3fn)[None].expand(16, -1).contiguous()
    plain = Matrix(Format.FP8, data, torch.tensor([[0.5, 3.0]]), (16, 128))
    packed = empty_packed(kernels.packer, 1, plain)[0]
    kernels.packer.pack(plain, packed.data)
    assert torch.equal(kernels.embed(packed, torch.tensor([7]))[0], dequantized(plain)[7])


def layer(
    heads: int = 3,
    nope: int = 5,
    rope: int = 6,
    v: int = 21,
    rank: int = 27,
    hidden: int = 53,
    routing: Routing | None = None,
    num_experts: int = 0,
    width: int = 37,
    fmt: Format = Format.BF16,
) -> tuple[native.NativeLayer, LayerWeights]:
    """A packed layer, and the same weights in rows."""
    both = {
        name: matrices(*shape, seed=number, fmt=fmt)
        for number, (name, shape) in enumerate(
            {
                "q": (heads * (nope + rope), hidden),
                "kv_a": (rank + rope, hidden),
                "o": (hidden, heads * v),
                "gate": (width, hidden),
                "up": (width, hidden),
                "down": (hidden, width),
            }.items()
        )
    }
    kv_b = heads_of(heads, nope, v, rank, fmt)
    stacks = [
        matrices(*shape, num_experts, 9, fmt) for shape in ((width, hidden), (width, hidden), (hidden, width))
    ]
    sides = []
    for side in (0, 1):
        one = {name: pair[side][0] for name, pair in both.items()}
        sides.append(
            LayerWeights(
                input_norm=1 + randn(hidden, seed=20) / 4,
                q=one["q"],
                q_a=None,
                q_a_norm=None,
                q_b=None,
                kv_a=one["kv_a"],
                kv_a_norm=1 + randn(rank, seed=21) / 4,
                kv_b=kv_b[side],
                o=one["o"],
                post_attention_norm=1 + randn(hidden, seed=22) / 4,
                dense=(one["gate"], one["up"], one["down"]),
                experts=(stacks[0][side], stacks[1][side], stacks[2][side]) if routing else None,
                router=randn(num_experts, hidden, seed=23) if routing else None,
                correction_bias=randn(num_experts, seed=24) / 8 if routing else None,
            )
        )
    sizes = LayerSizes(hidden, heads, nope, rope, v, rank, 1e-5, 0.4, num_experts, routing)
    return native.NativeLayer(sizes, sides[1]), sides[0]


SEGMENTS = [
    [(0, 1)],
    [(6, 1), (0, 1), (700, 1)],  # decode steps of three requests, one long context
    [(63, 1), (64, 1), (1100, 1)],  # at the borders of blocks; two blocks a part
    [(7, 3)],
    [(0, 60)],  # expanded
    [(90, 130), (13, 1), (0, 2)],  # a prompt's chunk beside decode steps
]
Case = tuple[torch.Tensor, list[tuple[int, int, PagedKeys]], torch.Tensor, torch.Tensor]


def attention_case(
    packed: native.NativeLayer, plain: LayerWeights, segments: list[tuple[int, int]], dtype: torch.dtype
) -> Case:
    """(queries, segments, pages, what the reference makes of them). Pages scattered, their unwritten slots NaN."""
    sizes, block_size = packed.sizes, 16
    blocks = torch.randperm(90, generator=torch.Generator().manual_seed(3)).tolist()
    latents_ = torch.full((90, block_size, sizes.rank + sizes.rope), torch.nan)
    given, expected, row = [], [], 0
    num_rows = sum(length for _, length in segments)
    q = randn(num_rows, sizes.heads, sizes.nope + sizes.rope, seed=1)
    for start, length in segments:
        count = -(-(start + length) // block_size)
        mine, blocks = tuple(blocks[:count]), blocks[count:]
        for p in range(start + length):
            one = randn(latents_.shape[2], seed=1000 + p)
            one[sizes.rank :] *= 3  # the parts of a latent are not of one size
            latents_[mine[p // block_size], p % block_size] = one
        given.append((row, length, PagedKeys.of(mine, start, start + length, block_size)))
        row += length
    if dtype is torch.uint8:
        flat = latents_.view(-1, latents_.shape[2])
        pages = latents.encode(flat[:, : sizes.rank], flat[:, sizes.rank :]).view(90, block_size, -1)
        read = latents.decode(pages.view(-1, pages.shape[2]), sizes.rank).view(latents_.shape)
    else:
        pages = latents_.to(dtype)
        read = pages.float()
    for row, length, keys in given:
        part = q[row : row + length]
        nope, rope = part[:, :, : sizes.nope], part[:, :, sizes.nope :]
        expected.append(REFERENCE.mla_expanded(nope, rope, read, keys, plain.kv_b, 0.4))
    return q, given, pages, torch.cat(expected)


@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("fmt", FORMATS)
def test_attention_on_float32_pages_equals_the_reference(
    kernels: native.NativeKernels, segments: list[tuple[int, int]], fmt: Format
) -> None:
    """The rank is cut by the formats' groups; fp8 wants heads of sixteens."""
    packed, plain = layer(nope=16, v=32, rank=75, fmt=fmt) if fmt is not Format.BF16 else layer()
    q, given, pages, expected = attention_case(packed, plain, segments, torch.float32)
    assert_close(kernels.attend(packed, q, given, pages), expected, products=CHAIN[fmt])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.uint8], ids=["bf16 pages", "fp8 pages"])
@pytest.mark.parametrize("segments", SEGMENTS)
@pytest.mark.parametrize("sizes", [(3, 5, 6, 21, 27), (9, 32, 96, 64, 384), (35, 16, 10, 16, 75)])
def test_attention_on_narrow_pages_loses_less_than_the_pages_did(
    kernels: native.NativeKernels, segments: list[tuple[int, int]], dtype: torch.dtype, sizes: tuple[int, ...]
) -> None:
    """Codes of sixteen bits: a key's err by at most 1/4096 of its part's largest value (half a step; the largest code is over
    2048), a query's by 1/8190, a weight's by 1/16382 of its block's largest. Errors are of random signs: six times the root of
    their sum of squares bounds a score's, `shift`, and no weight of the softmax changes by more than e^(2 shift). On average
    the result is nearer to the reference than bf16, whose values err by up to 2^-9, can hold it."""
    heads, nope, rope, v, rank = sizes
    packed, plain = layer(heads, nope, rope, v, rank)
    q, given, pages, expected = attention_case(packed, plain, segments, dtype)
    error = kernels.attend(packed, q, given, pages) - expected
    up = dequantized(plain.kv_b).view(heads, nope + v, rank)
    absorbed = torch.einsum("thn,hnc->thc", q[:, :, :nope], up[:, :nope])
    key, rotated = 4.5, 13.5  # no latent here is larger
    sums = [
        absorbed.norm(dim=2).max() * key / 4096,
        q[:, :, nope:].norm(dim=2).max() * rotated / 4096,
        absorbed.abs().max() / 8190 * key * math.sqrt(rank),
        q.abs().max() / 8190 * rotated * math.sqrt(rope),
    ]
    shift = 6 * 0.4 * math.sqrt(sum(float(one) ** 2 / 3 for one in sums))
    largest = float(up[:, nope:].norm(dim=2).max()) * key * 2
    value = 6 * float(up[:, nope:].norm(dim=2).max()) * key / 4096 / math.sqrt(3)
    weight = 6 * math.sqrt(64 / 3) / 16382 * largest
    assert float(error.abs().max()) < largest * math.expm1(2 * shift) + value + weight
    assert float(error.norm()) < 2.0**-9 * float(expected.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_a_row_of_attention_depends_on_nothing_but_its_keys(
    kernels: native.NativeKernels, dtype: torch.dtype
) -> None:
    """Bit by bit: beside other requests, with another number of threads, and in a chunk cut elsewhere."""
    packed, plain = layer()
    q, given, pages, _ = attention_case(packed, plain, [(1100, 1), (90, 130), (20, 3)], dtype)
    together = kernels.attend(packed, q, given, pages)
    for row, length, keys in given:
        part = q[row : row + length].contiguous()
        for threads in (1, 5):
            alone = native.NativeKernels(threads, kernels.isa).attend(
                packed, part, [(0, length, keys)], pages
            )
            assert torch.equal(alone, together[row : row + length])
    _, _, keys = given[1]
    cut = [(0, 70, PagedKeys(keys.block_ids, keys.first_block, 90, 160))]
    assert torch.equal(kernels.attend(packed, q[1:71].contiguous(), cut, pages), together[1:71])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("length", [1, 60])
def test_a_latent_that_is_no_number_is_seen_by_those_who_read_it(
    kernels: native.NativeKernels, dtype: torch.dtype, length: int
) -> None:
    packed, plain = layer()
    q, given, pages, _ = attention_case(packed, plain, [(5, length), (80, 1)], dtype)
    _, _, keys = given[0]
    slot = pages[int(keys.block_ids[0]), 3]
    slot.fill_(255) if dtype is torch.uint8 else slot.fill_(torch.inf)
    out = kernels.attend(packed, q, given, pages)
    assert out[:length].isnan().all()
    assert out[length:].isfinite().all()


def test_a_query_that_is_no_number_spoils_itself_alone(kernels: native.NativeKernels) -> None:
    packed, plain = layer()
    for segment in ((5, 3), (5, 60)):
        q, given, pages, _ = attention_case(packed, plain, [segment], torch.bfloat16)
        q[1, 2, 0] = torch.nan
        out = kernels.attend(packed, q, given, pages).view(segment[1], packed.sizes.heads, -1)
        assert out[1, 2].isnan().all()
        out[1, 2] = 0
        assert out.isfinite().all()


def test_zeros_attend_to_zeros(kernels: native.NativeKernels) -> None:
    packed, plain = layer()
    for dtype in (torch.bfloat16, torch.uint8):
        q, given, pages, _ = attention_case(packed, plain, [(70, 1), (0, 60)], dtype)
        out = kernels.attend(packed, q * 0, given, pages.zero_())
        assert torch.equal(out, torch.zeros_like(out))


ROUTINGS = {
    "one group": Routing(3, 1, 1, True, 2.5),
    "groups": Routing(3, 4, 2, True, 6.0),
    "groups of one, not normalised": Routing(5, 12, 7, False, 1.0),
    "all experts": Routing(12, 1, 1, True, 1.0),
}


@pytest.mark.parametrize("num_rows", [1, 4, 5, 70])
@pytest.mark.parametrize(
    ("routing", "fmt"),
    [
        *((routing, Format.BF16) for routing in ROUTINGS.values()),
        *((ROUTINGS["groups"], fmt) for fmt in FORMATS[1:]),
    ],
    ids=[*ROUTINGS, *(f"groups, {fmt.value}" for fmt in FORMATS[1:])],
)
def test_feed_forward_equals_the_reference(
    kernels: native.NativeKernels, routing: Routing, num_rows: int, fmt: Format
) -> None:
    packed, plain = layer(routing=routing, num_experts=12, nope=16, v=32, fmt=fmt)
    assert plain.experts is not None
    assert plain.router is not None
    assert plain.correction_bias is not None
    assert plain.dense is not None
    x, residual = randn(num_rows, 53, seed=1), randn(num_rows, 53, seed=2)
    ids, gates = REFERENCE.route(x, plain.router, plain.correction_bias, routing)
    expected = residual + REFERENCE.mlp(x, *plain.dense) + REFERENCE.experts(x, ids, gates, *plain.experts)
    assert_close(kernels.feed_forward(packed, x, residual), expected, products=CHAIN[fmt])


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("num_rows", [1, 5, 70])
def test_experts_that_were_chosen_elsewhere_equal_the_reference(
    kernels: native.NativeKernels, num_rows: int, fmt: Format
) -> None:
    """ids in any order, gates of any size: the routed experts alone, no router and no shared expert."""
    routing = Routing(3, 4, 2, True, 1.0)
    packed, plain = layer(routing=routing, num_experts=12, nope=16, v=32, fmt=fmt)
    assert packed.weights.experts is not None
    assert plain.experts is not None
    x, gates = randn(num_rows, 53, seed=1), randn(num_rows, 3, seed=2)
    ids = torch.stack([torch.randperm(12)[:3] for _ in range(num_rows)])
    expected = REFERENCE.experts(x, ids, gates, *plain.experts)
    assert_close(kernels.experts(x, ids, gates, *packed.weights.experts), expected, products=CHAIN[fmt])


def test_experts_that_no_row_chose_are_not_read(kernels: native.NativeKernels) -> None:
    packed, _ = layer(routing=Routing(2, 1, 1, True, 1.0), num_experts=12)
    assert packed.weights.experts is not None
    assert packed.weights.correction_bias is not None
    packed.weights.correction_bias.fill_(-100.0)[torch.tensor([3, 8])] = 100.0
    for stack in packed.weights.experts:
        for expert in set(range(12)) - {3, 8}:
            stack.data[expert] = 255
    for num_rows in (1, 40):
        assert kernels.feed_forward(packed, randn(num_rows, 53), torch.zeros(num_rows, 53)).isfinite().all()


def test_numbers_that_are_none_stay_visible(kernels: native.NativeKernels) -> None:
    """A NaN in a row makes that row NaN, and no other; the gate's sort does not fall over it."""
    packed, _ = layer(routing=Routing(3, 4, 2, True, 1.0), num_experts=12)
    x = randn(6, 53)
    x[2, 7] = torch.nan
    out = kernels.feed_forward(packed, x, torch.zeros(6, 53))
    assert out[2].isnan().all()
    assert out[[0, 1, 3, 4, 5]].isfinite().all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    packed, _ = layer(routing=Routing(3, 4, 2, True, 1.0), num_experts=12)
    x = randn(33, 53)
    one = native.NativeKernels(1).feed_forward(packed, x, x)
    many = native.NativeKernels(threads)
    assert all(torch.equal(many.feed_forward(packed, x, x), one) for _ in range(50))


def test_pools_of_several_callers_do_not_meet() -> None:
    """Eight callers, each with threads of its own, a thousand short jobs each: more threads than cores, none waits forever."""
    _, packed = matrices(200, 64)
    x = randn(1, 64)
    expected = native.NativeKernels(1).linear(x, packed[0])
    wrong: list[int] = []

    def calls(number: int) -> None:
        kernels = native.NativeKernels(3)
        wrong.extend(number for _ in range(1000) if not torch.equal(kernels.linear(x, packed[0]), expected))

    callers = [threading.Thread(target=calls, args=(number,)) for number in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize(("name", "known"), [("scalar", True), ("avx9", False)])
def test_the_variable_lowers_the_choice_and_refuses_what_it_does_not_know(name: str, known: bool) -> None:
    code = "from engine.kernels.extension import native_status; print(native_status().isa)"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"DSV3CHAT_ISA": name}, capture_output=True, text=True, check=False
    )
    if known:
        assert run.stdout == "scalar\n"
    else:
        assert run.returncode != 0
        assert "DSV3CHAT_ISA=avx9 is not known; choose one of" in run.stderr
