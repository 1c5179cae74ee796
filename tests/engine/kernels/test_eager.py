"""EagerKernels against ReferenceKernels: odd shapes, every format, and NaN wherever nothing may be read."""

from __future__ import annotations

import math

import pytest
import torch

from engine.kernels.eager import EagerKernels
from engine.kernels.protocol import PagedKeys, Routing
from engine.kernels.reference import ReferenceKernels, dequantized
from engine.quant import formats
from engine.quant.matrix import Format, Matrix, MatrixStack

REFERENCE = ReferenceKernels()
ROWS = (1, 2, 4, 5, 33)
FORMATS = tuple(Format)
EPS_FP32 = 2.0**-23
EPS_BF16 = 2.0**-8


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def matrix(rows: int, columns: int, fmt: Format, seed: int = 0) -> Matrix:
    """Unit gain; FP8 in blocks of 16 by 24 and groups of 32, which cut at the edges of the shapes used here."""
    return formats.quantize(randn(rows, columns, seed=seed) / math.sqrt(columns), fmt, (16, 24), 32)


def stack(count: int, rows: int, columns: int, fmt: Format, seed: int = 0) -> MatrixStack:
    made = formats.empty_stack(fmt, count, rows, columns, (16, 24), 32)
    for i in range(count):
        formats.convert_into(made[i], matrix(rows, columns, fmt, seed + i))
    return made


def assert_close(got: torch.Tensor, expected: torch.Tensor, compute: torch.dtype, roundings: int = 1) -> None:
    """Within `roundings` roundings to the compute dtype of the largest value (float32: 64 for its sums of 500)."""
    size = float(expected.abs().max())
    atol = size * (64 * EPS_FP32 if compute is torch.float32 else roundings * EPS_BF16)
    torch.testing.assert_close(got.float(), expected, rtol=0, atol=atol)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def kernels(request: pytest.FixtureRequest) -> EagerKernels:
    return EagerKernels(request.param)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("rows", ROWS)
def test_linear_equals_the_dequantized_product(kernels: EagerKernels, fmt: Format, rows: int) -> None:
    weight, x = matrix(37, 53, fmt), randn(rows, 53, seed=1).to(kernels.compute)
    got = kernels.linear(x, weight)
    assert got.dtype is kernels.compute
    assert_close(got, REFERENCE.linear(x.float(), weight), kernels.compute)


@pytest.mark.parametrize("fmt", FORMATS)
def test_linear_in_several_tiles_equals_one_product(kernels: EagerKernels, fmt: Format) -> None:
    """3000 rows of 701 values are three scratch tiles whose borders fall inside FP8 blocks."""
    weight, x = matrix(3000, 701, fmt), randn(5, 701, seed=1).to(kernels.compute)
    assert math.prod(weight.shape) > 2 * kernels.scratch.numel()
    assert_close(kernels.linear(x, weight), REFERENCE.linear(x.float(), weight), kernels.compute)


@pytest.mark.parametrize("fmt", FORMATS)
def test_head_is_not_rounded_to_bfloat16(fmt: Format) -> None:
    weight, x = matrix(161, 53, fmt), randn(3, 53, seed=1).bfloat16()
    got = EagerKernels(torch.bfloat16).head(x, weight)
    assert_close(got, REFERENCE.head(x.float(), weight), torch.float32)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("width", [1, 7, 64, 101])
def test_embed_takes_rows_of_the_table(kernels: EagerKernels, fmt: Format, width: int) -> None:
    """The rows that are not asked for are NaN."""
    table, ids = matrix(19, width, fmt), torch.tensor([18, 0, 3, 3])
    if fmt is not Format.FP8:  # whose scales are shared by neighbouring rows
        (table.data if table.scale is None else table.scale)[[1, 2, *range(4, 18)]] = torch.nan
    expected = REFERENCE.embed(table, ids).to(kernels.compute)
    assert torch.equal(kernels.embed(table, ids), expected)


def test_rms_norm_of_small_and_large_rows(kernels: EagerKernels) -> None:
    """eps decides for the row of 1e-4; the row of 1e4 squares to 1e8, which bf16 or fp16 sums would lose."""
    x = (randn(3, 53) * torch.tensor([[1e-4], [1.0], [1e4]])).to(kernels.compute)
    weight = randn(53, seed=1)
    assert_close(
        kernels.rms_norm(x, weight, 1e-5), REFERENCE.rms_norm(x.float(), weight, 1e-5), kernels.compute
    )


@pytest.mark.parametrize("heads", [1, 3])
def test_rotation_turns_interleaved_pairs(kernels: EagerKernels, heads: int) -> None:
    positions, frequencies = torch.tensor([0, 1, 700]), torch.tensor([1.0, 0.1, 0.003])
    turn, expected_turn = (k.rotation(positions, frequencies, 1.25) for k in (kernels, REFERENCE))
    assert torch.equal(turn, expected_turn)
    x = randn(3, heads, 11).to(kernels.compute)[:, :, 5:]  # a slice of a wider row, as the model cuts it
    assert_close(kernels.rotate(x, turn), REFERENCE.rotate(x.float(), turn), torch.float32)


def test_write_latent_touches_its_slots_only(kernels: EagerKernels) -> None:
    c_kv, k_pe, slots = randn(3, 5).to(kernels.compute), randn(3, 2, seed=1), torch.tensor([11, 0, 6])
    pages = torch.full((4, 3, 7), torch.nan, dtype=kernels.compute)
    expected = torch.full((4, 3, 7), torch.nan)
    kernels.write_latent(pages, slots, c_kv, k_pe)
    REFERENCE.write_latent(expected, slots, c_kv.float(), k_pe)
    assert torch.equal(pages.isnan(), expected.isnan())
    assert int(pages.isnan().all(dim=2).sum()) == 12 - 3
    assert torch.equal(pages.nan_to_num(), expected.nan_to_num().to(kernels.compute))


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(
    ("start", "rows", "block_ids"),
    [
        (0, 1, (5,)),
        (6, 1, (1, 2)),  # one row at the end of a page, pages that are neighbours
        (7, 3, (6, 0, 4)),  # scattered pages, the last one half written
        (0, 8, (2, 3)),
        (9, 17, (8, 1, 7, 0, 3, 5, 2)),
    ],
)
def test_both_forms_of_attention_equal_the_reference(
    fmt: Format, start: int, rows: int, block_ids: tuple[int, ...]
) -> None:
    heads, nope, rope, v, rank, block_size = 3, 5, 4, 7, 11, 4
    length = start + rows
    pages = torch.full((9, block_size, rank + rope), torch.nan)
    for p in range(length):
        pages[block_ids[p // block_size], p % block_size] = randn(rank + rope, seed=p)
    kv_b = matrix(heads * (nope + v), rank, fmt)
    q_nope, q_pe = randn(rows, heads, nope, seed=100), randn(rows, heads, rope, seed=101)
    keys = PagedKeys.of(block_ids, start, length, block_size)
    expected = REFERENCE.mla_expanded(q_nope, q_pe, pages, keys, kv_b, 0.4)
    assert_close(REFERENCE.mla_absorbed(q_nope, q_pe, pages, keys, kv_b, 0.4), expected, torch.float32)
    for compute in (torch.float32, torch.bfloat16):
        kernels = EagerKernels(compute)
        for attend in (kernels.mla_absorbed, kernels.mla_expanded):
            got = attend(q_nope, q_pe, pages, keys, kv_b, 0.4)
            assert got.dtype is compute
            assert_close(got, expected, compute)


@pytest.mark.parametrize("fmt", [Format.FP32, Format.FP8, Format.INT4])
def test_attention_in_several_tiles_equals_the_reference(fmt: Format) -> None:
    """Heads in three tiles of the scratch, query rows in two blocks: the seams show nothing."""
    heads, nope, rope, v, rank, start, rows = 5, 60, 4, 60, 4001, 3, 130
    pages, keys = (
        randn(9, 16, rank + rope),
        PagedKeys.of((8, 3, 1, 0, 2, 4, 7, 6, 5), start, start + rows, 16),
    )
    kv_b = matrix(heads * (nope + v), rank, fmt)
    kernels = EagerKernels(torch.float32)
    assert math.prod(kv_b.shape) > 2 * kernels.scratch.numel()
    q_nope, q_pe = randn(rows, heads, nope, seed=1), randn(rows, heads, rope, seed=2)
    few = slice(rows - 2, rows)
    last = PagedKeys.of((8, 3, 1, 0, 2, 4, 7, 6, 5), start + rows - 2, start + rows, 16)
    expected = REFERENCE.mla_expanded(q_nope[few], q_pe[few], pages, last, kv_b, 0.1)
    absorbed = kernels.mla_absorbed(q_nope, q_pe, pages, keys, kv_b, 0.1)
    expanded = kernels.mla_expanded(q_nope, q_pe, pages, keys, kv_b, 0.1)
    for got in (absorbed[few], expanded[few]):
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-4)  # sums of 4001 float32 values up to 10
    torch.testing.assert_close(absorbed, expanded, rtol=0, atol=2e-4)


def routing(
    num_groups: int = 4, kept_groups: int = 2, normalise: bool = True, scale: float = 2.5, top_k: int = 3
) -> Routing:
    return Routing(top_k, num_groups, kept_groups, normalise, scale)


def by_expert(ids: torch.Tensor, gates: torch.Tensor, num_experts: int) -> torch.Tensor:
    assert all(len(set(row)) == len(row) for row in ids.tolist())
    return torch.zeros(ids.shape[0], num_experts).scatter_(1, ids, gates)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("num_groups", "kept_groups"), [(1, 1), (4, 2), (4, 4), (12, 5)])
def test_routing_equals_the_reference(num_groups: int, kept_groups: int, normalise: bool) -> None:
    x, router, bias = randn(33, 20), randn(12, 20, seed=1), randn(12, seed=2)
    rule = routing(num_groups, kept_groups, normalise)
    got, expected = (k.route(x, router, bias, rule) for k in (EagerKernels(torch.float32), REFERENCE))
    assert got[0].dtype is torch.int64
    torch.testing.assert_close(by_expert(*got, 12), by_expert(*expected, 12), rtol=1e-5, atol=0)


@pytest.mark.parametrize("either", [EagerKernels(torch.float32), EagerKernels(torch.bfloat16), REFERENCE])
def test_correction_bias_chooses_and_does_not_weigh(either: EagerKernels | ReferenceKernels) -> None:
    """Bias +12 on three experts whose logits are -20, -21, -22: they are chosen, with the plain sigmoids as gates."""
    router = torch.zeros(8, 4)
    router[:, 0] = torch.tensor([3.0, 2.0, -20.0, -21.0, -22.0, 1.0, 0.0, 4.0])
    bias = torch.zeros(8)
    bias[2:5] = 12.0
    x = torch.tensor([[1.0, 0.0, 0.0, 0.0]]).to(either.compute)
    ids, gates = either.route(x, router, bias, routing(1, 1))
    plain = torch.sigmoid(torch.tensor([-20.0, -21.0, -22.0]))
    expected = torch.zeros(1, 8)
    expected[0, 2:5] = 2.5 * plain / plain.sum()
    torch.testing.assert_close(by_expert(ids, gates, 8), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("either", [EagerKernels(torch.float32), REFERENCE])
def test_gates_of_scores_that_underflow_are_zero_and_not_nan(
    either: EagerKernels | ReferenceKernels,
) -> None:
    ids, gates = either.route(torch.full((2, 4), -1000.0), torch.ones(8, 4), torch.zeros(8), routing(1, 1))
    assert ids.shape == (2, 3)
    assert torch.equal(gates, torch.zeros(2, 3))


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("hidden", "width"), [(53, 21), (30, 300)])
def test_experts_equal_the_reference(
    kernels: EagerKernels, fmt: Format, rows: int, hidden: int, width: int
) -> None:
    """Four of six experts are chosen; the other two are NaN and must not be read."""
    gate, up = (stack(6, width, hidden, fmt, seed=s) for s in (10, 20))
    down = stack(6, hidden, width, fmt, seed=30)
    for part in (gate, up, down):
        for unread in (1, 4):
            values = part.data if part.scale is None else part.scale
            values[unread] = torch.full(values.shape[1:], torch.nan).to(values.dtype)
    allowed = torch.tensor([0, 2, 3, 5])
    ids = torch.stack([allowed[randn(4, seed=r).argsort()[:3]] for r in range(rows)])
    gates, x = randn(rows, 3, seed=5).abs(), randn(rows, hidden, seed=6).to(kernels.compute)
    got = kernels.experts(x, ids, gates, gate, up, down)
    assert got.dtype is kernels.compute
    expected = REFERENCE.experts(x.float(), ids, gates, gate, up, down)
    assert_close(got, expected, kernels.compute, roundings=4)  # gate, up, their product, the sum


@pytest.mark.parametrize("fmt", FORMATS)
def test_mlp_equals_the_reference(kernels: EagerKernels, fmt: Format) -> None:
    gate, up, down = matrix(41, 53, fmt, 1), matrix(41, 53, fmt, 2), matrix(53, 41, fmt, 3)
    x = randn(5, 53).to(kernels.compute)
    assert_close(kernels.mlp(x, gate, up, down), REFERENCE.mlp(x.float(), gate, up, down), kernels.compute, 4)


def test_up_to_four_rows_do_not_depend_on_each_other() -> None:
    """bf16 weights and arithmetic: a decode step of the default batch size rounds as each request alone."""
    kernels = EagerKernels(torch.bfloat16)
    x = randn(4, 576).bfloat16()
    weight, head = matrix(480, 576, Format.BF16), matrix(3000, 576, Format.BF16)
    gate, up, down = (stack(4, *shape, Format.BF16) for shape in ((64, 576), (64, 576), (576, 64)))
    ids, gates = torch.tensor([[0, 1], [1, 3], [2, 0], [3, 1]]), randn(4, 2).abs()
    together = (
        kernels.linear(x, weight),
        kernels.head(x, head),
        kernels.experts(x, ids, gates, gate, up, down),
    )
    for row in range(4):
        one = slice(row, row + 1)
        alone = (
            kernels.linear(x[one], weight),
            kernels.head(x[one], head),
            kernels.experts(x[one], ids[one], gates[one], gate, up, down),
        )
        for a, b in zip(together, alone, strict=True):
            assert torch.equal(a[one], b)


@pytest.mark.parametrize("fmt", FORMATS)
def test_no_wide_copy_outlives_a_call(fmt: Format) -> None:
    """The scratch is all that kernels keep, whatever they have multiplied."""
    kernels, weight = EagerKernels(torch.float32), matrix(3000, 701, fmt)
    kernels.linear(randn(2, 701), weight)
    held = [v for v in vars(kernels).values() if isinstance(v, torch.Tensor)]
    assert sum(t.nbytes for t in held) == 4 << 20


def test_dequantized_scales_each_block_by_its_own_factor() -> None:
    values = torch.ones(5, 7).to(torch.float8_e4m3fn)
    scale = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    wide = dequantized(Matrix(Format.FP8, values, scale, (4, 3)))
    assert wide[3].tolist() == [1, 1, 1, 2, 2, 2, 3]
    assert wide[4].tolist() == [4, 4, 4, 5, 5, 5, 6]


def test_dequantized_int8_and_int4_follow_their_definitions() -> None:
    scale = torch.tensor([[0.5, 2.0]]).bfloat16()
    wide = dequantized(Matrix(Format.INT8, torch.tensor([[1, -127, 3]], dtype=torch.int8), scale, group=2))
    assert wide.tolist() == [[0.5, -63.5, 6.0]]
    packed = torch.tensor([[0xF1, 0x03]], dtype=torch.uint8)  # 1, 15, 3; the last high half is padding
    zero = torch.tensor([[7.5, -0.25]]).half()
    int4 = Matrix(Format.INT4, packed, scale, packed_shape=(1, 3), zero=zero, group=2)
    assert dequantized(int4).tolist() == [[-3.25, 3.75, 6.5]]


@pytest.mark.parametrize("block_ids", [(1, 2), (6, 0)])
def test_fp8_latents_are_written_and_read_as_the_reference_does(
    kernels: EagerKernels, block_ids: tuple[int, ...]
) -> None:
    """Bytes of 0xFF, which read as not finite, wherever nothing was written."""
    heads, nope, rope, v, rank, block_size, length = 3, 5, 4, 7, 11, 4, 7
    slots = torch.tensor([block_ids[p // block_size] * block_size + p % block_size for p in range(length)])
    c_kv, k_pe = 3 * randn(length, rank).to(kernels.compute), 40 * randn(length, rope, seed=1)
    pages, expected_pages = (
        torch.full((9, block_size, rank + rope + 2), 0xFF, dtype=torch.uint8) for _ in range(2)
    )
    kernels.write_latent(pages, slots, c_kv, k_pe)
    REFERENCE.write_latent(expected_pages, slots, c_kv.float(), k_pe)
    assert torch.equal(pages, expected_pages)
    kv_b = matrix(heads * (nope + v), rank, Format.INT8)
    q_nope, q_pe = randn(2, heads, nope, seed=100), randn(2, heads, rope, seed=101)
    keys = PagedKeys.of(block_ids, length - 2, length, block_size)
    expected = REFERENCE.mla_expanded(q_nope, q_pe, pages, keys, kv_b, 0.1)
    for attend in (kernels.mla_absorbed, kernels.mla_expanded):
        assert_close(attend(q_nope, q_pe, pages, keys, kv_b, 0.1), expected, kernels.compute)
