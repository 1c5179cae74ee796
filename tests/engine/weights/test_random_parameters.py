"""Random weights without a checkpoint: as many bytes and the layouts of loaded ones, finite logits, fast, stoppable."""

import json

import pytest
import torch

from engine.errors import LoadCancelledError
from engine.kernels.cpu import cpu_packer
from engine.kernels.native import NativePacker
from engine.planner.shape import read_shape
from engine.profile import Profile
from engine.profile.values import Rule
from engine.quant.formats import dequantize, empty, quantize
from engine.quant.matrix import Format, Layout, Matrix
from engine.quant.packing import HeadShape, empty_packed
from engine.weights.keeping import held_bytes, named_parts
from engine.weights.loader import load
from engine.weights.placement import place
from engine.weights.random_parameters import RandomMatrices, random_parts
from engine.weights.shape_checkpoint import shape_checkpoint
from tests.engine.checkpoints import random_config

FORMATS = (Format.BF16, Format.FP8, Format.INT8, Format.INT4)
GROUPS = {Format.INT8: 128, Format.INT4: 64}


def checkpoint_of(tmp_path, **config):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(random_config(**config)))
    shape = read_shape(str(path))
    return shape_checkpoint(shape.name, shape.config, shape.stored_precision, shape.groups)


@pytest.mark.parametrize("packer", [None, cpu_packer()], ids=["rows", "packed"])
@pytest.mark.parametrize("config", [{}, {"tied": True, "q_lora_rank": None}, {"fp8_block": (64, 32)}])
def test_the_loader_takes_every_random_part_as_it_is_and_reads_no_file(tmp_path, packer, config):
    checkpoint = checkpoint_of(tmp_path, **config)
    profile = Profile(precision="int4", rules=(Rule("model.layers.*.self_attn", precision="native"),))
    placement = place(checkpoint, profile)
    parts = random_parts(checkpoint, placement, packer)
    loaded = load(checkpoint, placement, packer=packer, kept=parts)
    names = dict(named_parts(loaded.parameters, checkpoint.config))
    assert names.keys() == parts.keys()
    assert all(names[name] is part for name, part in parts.items())
    if packer is None:
        assert sum(held_bytes(parts).values()) == placement.total_bytes


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(("rows", "columns"), [(7, 33), (300, 96), (1024, 64)])
def test_values_in_rows_have_the_variance_of_one_by_columns(fmt, rows, columns):
    stack = RandomMatrices((128, 128), None).stack(fmt, 2, rows, columns, GROUPS.get(fmt, 0))
    for index in range(2):
        values = dequantize(stack[index])
        assert values.isfinite().all()
        assert 0.7 < float(values.var()) * columns < 1.3


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("rows", [40, 528, 1040])
def test_a_packed_matrix_is_its_tile_packed_as_the_packer_packs_it(fmt, rows):
    """What fills packed memory by copying stands on this: panels of sixteen rows lie one after another."""
    packer = NativePacker()
    columns, group = 128, GROUPS.get(fmt, 0)
    tile = quantize(torch.randn(min(rows, 256), columns), fmt, group=group or None)
    tall = empty(fmt, rows, columns, group=group or None)
    for part, of_tile in ((tall.data, tile.data), (tall.scale, tile.scale), (tall.zero, tile.zero)):
        if part is not None:
            part.copy_(of_tile.repeat(-(-len(part) // len(of_tile)), 1)[: len(part)])
    whole = empty_packed(packer, 1, tall)[0].data
    packer.pack(tall, whole)
    one = empty_packed(packer, 1, tile)[0].data
    packer.pack(tile, one)
    assert torch.equal(whole, one.repeat(-(-len(whole) // len(one)))[: len(whole)])


def test_heads_are_packed_one_after_another():
    packer = NativePacker()
    heads, one = HeadShape(3, 32, 16), HeadShape(1, 32, 16)
    tile = quantize(torch.randn(48, 128), Format.INT4, group=64)
    tall = Matrix(
        Format.INT4, tile.data.repeat(3, 1), tile.scale.repeat(3, 1), packed_shape=(144, 128), zero=tile.zero.repeat(3, 1), group=64
    )  # fmt: skip
    whole = empty_packed(packer, 1, tall, heads)[0].data
    packer.pack_heads(tall, heads, whole)
    single = empty_packed(packer, 1, tile, one)[0].data
    packer.pack_heads(tile, one, single)
    assert torch.equal(whole, single.repeat(3))


@pytest.mark.parametrize("fmt", FORMATS)
def test_packed_stacks_are_filled_to_the_last_byte_and_their_matrices_differ(fmt):
    packer = NativePacker()
    stack = RandomMatrices((128, 128), packer).stack(fmt, 3, 512, 64, GROUPS.get(fmt, 0), packs=True)
    assert stack.layout is Layout.PANELS
    assert not torch.equal(stack[0].data, stack[1].data)
    again = RandomMatrices((128, 128), packer).stack(fmt, 3, 512, 64, GROUPS.get(fmt, 0), packs=True)
    assert torch.equal(stack.data, again.data)


def test_filling_stops_when_it_is_asked_to_and_says_how_far_it_is(tmp_path):
    checkpoint = checkpoint_of(tmp_path)
    placement = place(checkpoint, Profile())
    seen = []
    with pytest.raises(LoadCancelledError, match="nothing stays"):
        random_parts(checkpoint, placement, None, seen.append, lambda: len(seen) > 3)
    assert [progress.stage for progress in seen] == ["filling random weights"] * 4
    assert 0 == seen[0].done_bytes < seen[-1].done_bytes < seen[-1].total_bytes
