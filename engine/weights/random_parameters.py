"""Plausible random weights for every part of a placed model, in its formats and layouts, with no file behind them.

For each width and format one tile of some rows is drawn from N(0, 1 / columns), so that activations keep their size, and
quantized as a real one is; matrices are the tile again and again, each beginning at another of its rows. So filling costs
a copy (2 GB/s on one Zen 3 core, page faults included), and memory is read as that of a real model would be. Norms are 1.
Knows no layout: packed tiles come from the packer, a matrix of panels is its panels one after another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from engine.errors import LoadCancelledError
from engine.events import LoadProgress
from engine.quant.formats import CPU, empty, empty_stack, quantize
from engine.quant.matrix import Format, Matrix, MatrixStack
from engine.quant.packing import HeadShape, Packer, empty_packed
from engine.weights.checkpoint import Checkpoint
from engine.weights.keeping import Part, head_shape, packed_parts, part_of
from engine.weights.names import Kind, TensorSpec
from engine.weights.placement import Placement, TensorPlacement

_PANEL_ROWS = 16
_TILE_ROWS = 256
_BIAS_SIZE = 0.01  # of the router's correction: breaks ties, prefers nobody


def random_parts(
    checkpoint: Checkpoint,
    placement: Placement,
    packer: Packer | None = None,
    on_progress: Callable[[LoadProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
    memory_of: Callable[[str], torch.device] = torch.device,
) -> dict[str, Part]:
    """Every part, by the names of engine.weights.keeping: what `load` takes as `kept`. The same for the same arguments.
    `memory_of`: what torch calls a device of the placement.

    LoadCancelledError when `cancelled`, asked before each part, answers True. On one torch thread: for thousands of small
    copies two would wait for each other on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _parts(checkpoint, placement, packer, on_progress, cancelled, memory_of)
    finally:
        torch.set_num_threads(threads)


def _parts(
    checkpoint: Checkpoint,
    placement: Placement,
    packer: Packer | None,
    on_progress: Callable[[LoadProgress], None],
    cancelled: Callable[[], bool],
    memory_of: Callable[[str], torch.device],
) -> dict[str, Part]:
    maker = RandomMatrices(checkpoint.config.weight_block_size or (128, 128), packer)
    packed = packed_parts(placement, checkpoint.config, packer)
    parts: dict[str, Part] = {}
    done, total = 0, placement.total_bytes
    for name, placed in placement.tensors.items():
        if part_of(name) == name:
            if cancelled():
                raise LoadCancelledError("filling the weights was stopped; nothing stays in memory")
            on_progress(LoadProgress("filling random weights", done, total, name))
            parts[name] = _part(maker, checkpoint, placed, packed, memory_of(placed.device))
        done += placed.nbytes
    return parts


def _part(
    maker: RandomMatrices,
    checkpoint: Checkpoint,
    placed: TensorPlacement,
    packed: frozenset[str],
    device: torch.device,
) -> Part:
    spec, config = placed.spec, checkpoint.config
    if not spec.kind.is_matrix:
        return maker.vector(spec).to(device)
    packs = spec.name in packed
    heads = head_shape(config) if packs and spec.name.endswith(".kv_b_proj.weight") else None
    count = config.n_routed_experts if spec.kind is Kind.EXPERTS else 1
    rows, columns = spec.shape
    stack = maker.stack(placed.format, count, rows, columns, placed.group, packs, heads, device)
    return stack if spec.kind is Kind.EXPERTS else stack[0]


@dataclass(frozen=True, slots=True)
class _TileKey:
    format: Format
    rows: int
    columns: int
    group: int
    packs: bool
    heads: HeadShape | None


@dataclass(slots=True)
class RandomMatrices:
    """Makes them. `block`: of fp8."""

    block: tuple[int, int]
    packer: Packer | None
    _random: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    _tiles: dict[_TileKey, Matrix] = field(default_factory=dict)

    def vector(self, spec: TensorSpec) -> torch.Tensor:
        """A norm's weight, a router, or its bias."""
        if spec.kind is Kind.NORM:
            return torch.ones(spec.shape)
        size = _BIAS_SIZE if len(spec.shape) == 1 else spec.shape[-1] ** -0.5
        return torch.randn(spec.shape, generator=self._random) * size

    def stack(
        self,
        fmt: Format,
        count: int,
        rows: int,
        columns: int,
        group: int = 0,
        packs: bool = False,
        heads: HeadShape | None = None,
        device: torch.device = CPU,
    ) -> MatrixStack:
        """`count` matrices of (rows, columns). `packs`: as the packer has them; `heads`: each is a kv_b."""
        if not packs:
            tile = self._tile(_TileKey(fmt, self._tile_rows(rows), columns, group, False, None))
            stack = empty_stack(fmt, count, rows, columns, self.block, group or None, device)
            for matrix in (stack[index] for index in range(count)):
                for part, of_tile in (
                    (matrix.data, tile.data),
                    (matrix.scale, tile.scale),
                    (matrix.zero, tile.zero),
                ):
                    if part is not None and of_tile is not None:
                        _repeat(part, of_tile)
            return stack
        assert self.packer is not None
        like = empty(fmt, rows, columns, self.block, group or None)
        stack = empty_packed(self.packer, count, like, heads)
        one = HeadShape(1, heads.nope, heads.v) if heads is not None else None
        tile_rows = self._tile_rows(rows) if one is None else one.nope + one.v
        packed = self._tile(_TileKey(fmt, tile_rows, columns, group, True, one)).data
        units = 1 if one is not None else -(-tile_rows // _PANEL_ROWS)
        lines = packed.view(units, -1)  # panels, or one head
        for index in range(count):
            _repeat(
                stack[index].data.view(-1, lines.shape[1]), lines.roll(-index, 0) if index % units else lines
            )
        return stack

    def _tile_rows(self, rows: int) -> int:
        """All rows of a small matrix, else whole panels and whole rows of fp8's blocks."""
        return min(rows, max(1, _TILE_ROWS // self.block[0]) * self.block[0])

    def _tile(self, key: _TileKey) -> Matrix:
        if key not in self._tiles:
            values = torch.randn(key.rows, key.columns, generator=self._random) * key.columns**-0.5
            tile = quantize(values, key.format, self.block, key.group or None, "rtn")
            if key.packs:
                assert self.packer is not None
                packed = empty_packed(self.packer, 1, tile, key.heads)[0]
                if key.heads is None:
                    self.packer.pack(tile, packed.data)
                else:
                    self.packer.pack_heads(tile, key.heads, packed.data)
                tile = packed
            self._tiles[key] = tile
        return self._tiles[key]


def _repeat(target: torch.Tensor, tile: torch.Tensor) -> None:
    """target[i] = tile[i % len(tile)]."""
    for start in range(0, len(target), len(tile)):
        part = target[start : start + len(tile)]
        part.copy_(tile[: len(part)])
