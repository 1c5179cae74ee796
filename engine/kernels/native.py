"""The native CPU kernels behind the kernel protocol: packed weights, float32 between them. Knows no model.

What is not packed (another format, a layer of mixed formats) goes the way of
`EagerKernels` in float32. All sums of a row run in one order, whatever else is in the batch, so that a row's result does
not depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from engine.kernels.eager import EagerKernels
from engine.kernels.extension import ABSENT, _native
from engine.kernels.protocol import LayerKernels, LayerSizes, LayerWeights, PagedKeys
from engine.quant.matrix import Format, Layout, Matrix, MatrixStack
from engine.quant.packing import HeadShape

_CODES = {Format.BF16: 0, Format.FP8: 1, Format.INT8: 2, Format.INT4: 3}  # dsv::Format
_CACHES = {torch.float32: 0, torch.bfloat16: 1, torch.uint8: 2}  # dsv::CacheFormat; uint8 is fp8 with scales
_LANES = 16  # rows of a panel


class NativePacker:
    """`quant.packing.Packer` over the native module: bf16, fp8 whose blocks panels do not cross, int8 and int4."""

    def takes(self, fmt: Format, block: tuple[int, int], group: int, heads: HeadShape | None = None) -> bool:
        if fmt is Format.FP8:  # a panel of sixteen rows must lie in one row of blocks
            of_heads = () if heads is None else (heads.nope, heads.v)
            return not any(size % _LANES for size in (*block, *of_heads))
        return fmt in _CODES and (heads is None or group % _LANES == 0)

    def packed_bytes(self, matrix: Matrix, heads: HeadShape | None = None) -> int:
        code, group = _CODES[matrix.format], _group(matrix)
        rows, columns = matrix.shape
        if heads is None:
            return _native.packed_bytes(rows, columns, code, group)
        assert rows == heads.heads * (heads.nope + heads.v)
        return heads.heads * _native.head_bytes(heads.nope, heads.v, columns, code, group)

    def pack(self, rows: Matrix, out: torch.Tensor) -> None:
        self._check(rows, None, out)
        _native.pack(_source(rows), out.data_ptr())

    def pack_heads(self, rows: Matrix, heads: HeadShape, out: torch.Tensor) -> None:
        self._check(rows, heads, out)
        _native.pack_heads(_source(rows), heads.heads, heads.nope, heads.v, out.data_ptr())

    def _check(self, rows: Matrix, heads: HeadShape | None, out: torch.Tensor) -> None:
        assert rows.layout is Layout.ROWS
        assert self.takes(rows.format, rows.block, rows.group, heads), (rows.format, rows.block, rows.group)
        for part in (rows.data, rows.scale, rows.zero):
            if part is not None:
                _check(part, part.dtype)
        _check(out, torch.uint8)
        assert out.numel() == self.packed_bytes(rows, heads)


class NativeKernels(EagerKernels):
    """`Kernels` whose activations between products are float32, and whole packed layers as one call each (`LayerKernels`)."""

    def __init__(self, num_threads: int, isa: str = "", exact: bool = False) -> None:
        """Starts the threads that share each product; they sleep between steps and end with the object.

        `exact`: weights meet float32 to its last digits, not 16-bit integers or, on AMX, two bfloat16: at most half as fast.
        `isa`: not the process's instruction set but this one, for comparisons.
        """
        assert not ABSENT, ABSENT
        super().__init__(torch.float32)
        self.isa = isa or _native.isa()
        self._threads = _native.Threads(num_threads, isa, exact)
        self.packer = NativePacker()

    @property
    def layers(self) -> LayerKernels | None:
        return self

    def embed(self, table: Matrix, token_ids: torch.Tensor) -> torch.Tensor:
        if table.layout is Layout.ROWS:
            return super().embed(table, token_ids)
        _check(token_ids, torch.int64)
        out = torch.empty(len(token_ids), table.shape[1])
        self._threads.embed(_panels(table), token_ids.data_ptr(), len(token_ids), out.data_ptr())
        return out

    def linear(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        if weight.layout is Layout.ROWS:
            return super().linear(x, weight)
        assert x.shape[1] == weight.shape[1], (x.shape, weight.shape)
        x = x.float().contiguous()
        out = torch.empty(x.shape[0], weight.shape[0])
        self._threads.multiply(x.data_ptr(), x.shape[0], _panels(weight), out.data_ptr())
        return out

    def head(self, x: torch.Tensor, weight: Matrix) -> torch.Tensor:
        return super().head(x, weight) if weight.layout is Layout.ROWS else self.linear(x, weight)

    def experts(
        self,
        x: torch.Tensor,
        ids: torch.Tensor,
        gates: torch.Tensor,
        gate: MatrixStack,
        up: MatrixStack,
        down: MatrixStack,
    ) -> torch.Tensor:
        if gate.layout is Layout.ROWS:
            return super().experts(x, ids, gates, gate, up, down)
        x = x.float().contiguous()
        layer = _native.Layer()
        layer.hidden, layer.num_experts, layer.top_k = x.shape[1], len(gate), ids.shape[1]
        layer.gates, layer.ups, layer.downs = _panels(gate[0]), _panels(up[0]), _panels(down[0])
        ids, gates = ids.contiguous(), gates.contiguous()
        _check(ids, torch.int64)
        _check(gates, torch.float32)
        assert int(ids.min()) >= 0
        assert int(ids.max()) < len(gate)
        out = torch.zeros_like(x)
        self._threads.routed_experts(
            layer, x.data_ptr(), x.shape[0], ids.data_ptr(), gates.data_ptr(), out.data_ptr()
        )
        return out

    def layer(self, sizes: LayerSizes, weights: LayerWeights) -> NativeLayer:
        """A layer all of whose matrices are packed."""
        return NativeLayer(sizes, weights)

    def run_layers(
        self,
        layers: Sequence[NativeLayer],
        x: torch.Tensor,
        rotation: torch.Tensor,
        slots: torch.Tensor,
        segments: Sequence[tuple[int, int, PagedKeys]],
        pages: Sequence[torch.Tensor],
    ) -> None:
        _check(x, torch.float32)
        _check(rotation, torch.complex64)
        _check(slots, torch.int64)
        for one in pages:
            _check(one, pages[0].dtype)
        self._threads.run_layers(
            [layer.description for layer in layers],
            x.shape[0],
            rotation.data_ptr(),
            slots.data_ptr(),
            rows_of(segments),
            pages[0].shape[1],
            _CACHES[pages[0].dtype],
            [one.data_ptr() for one in pages],
            x.data_ptr(),
        )

    def attend(
        self,
        layer: NativeLayer,
        q: torch.Tensor,
        segments: Sequence[tuple[int, int, PagedKeys]],
        pages: torch.Tensor,
    ) -> torch.Tensor:
        """Attention alone: rotated queries (T, H, N + P) float32 -> (T, H * V)."""
        _check(q, torch.float32)
        out = torch.empty(q.shape[0], layer.sizes.heads * layer.sizes.v)
        self._threads.attend(
            layer.description,
            q.shape[0],
            rows_of(segments),
            pages.shape[1],
            _CACHES[pages.dtype],
            pages.data_ptr(),
            q.data_ptr(),
            out.data_ptr(),
        )
        return out

    def feed_forward(self, layer: NativeLayer, normed: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """residual + MLP or experts of `normed`, both (T, hidden) float32; a new tensor."""
        _check(normed, torch.float32)
        out = residual.float().clone(memory_format=torch.contiguous_format)
        self._threads.feed_forward(layer.description, normed.data_ptr(), normed.shape[0], out.data_ptr())
        return out


class NativeLayer:
    """A layer's description for the native module; keeps its tensors alive."""

    def __init__(self, sizes: LayerSizes, weights: LayerWeights) -> None:
        self.sizes = sizes
        self.weights = weights
        self.description = description = _native.Layer()
        for name in ("hidden", "heads", "nope", "rope", "v", "rank", "eps", "softmax_scale", "num_experts"):
            setattr(description, name, getattr(sizes, name))
        if sizes.routing is not None:
            description.top_k = sizes.routing.top_k
            description.num_groups = sizes.routing.num_groups
            description.kept_groups = sizes.routing.kept_groups
            description.normalise = sizes.routing.normalise
            description.routed_scale = sizes.routing.scale
        vectors: Mapping[str, torch.Tensor | None] = {
            "input_norm": weights.input_norm,
            "q_a_norm": weights.q_a_norm,
            "kv_a_norm": weights.kv_a_norm,
            "post_attention_norm": weights.post_attention_norm,
            "router": weights.router,
            "correction_bias": weights.correction_bias,
        }
        for name, vector in vectors.items():
            if vector is not None:
                _check(vector, torch.float32)
                setattr(description, name, vector.data_ptr())
        matrices = {
            "q": weights.q,
            "q_a": weights.q_a,
            "q_b": weights.q_b,
            "kv_a": weights.kv_a,
            "o": weights.o,
            "gates": None if weights.experts is None else weights.experts[0][0],
            "ups": None if weights.experts is None else weights.experts[1][0],
            "downs": None if weights.experts is None else weights.experts[2][0],
        }
        for name, matrix in matrices.items():
            if matrix is not None:
                setattr(description, name, _panels(matrix))
        if weights.dense is not None:
            gate, up, down = weights.dense
            description.dense = (_panels(gate), _panels(up), _panels(down))
        assert weights.kv_b.layout is Layout.HEADS
        kv_b = weights.kv_b
        description.kv_b = (kv_b.data.data_ptr(), _CODES[kv_b.format], _group(kv_b))


def rows_of(segments: Sequence[tuple[int, int, PagedKeys]]) -> list[tuple[int, int, int, int]]:
    """(row, length, keys) -> (row, length, start, address of the block ids)."""
    for _, _, keys in segments:
        _check(keys.block_ids, torch.int64)
    return [(row, length, keys.start, keys.block_ids.data_ptr()) for row, length, keys in segments]


def _group(matrix: Matrix) -> int:
    """Columns that share a scale; 0: none do."""
    return matrix.block[1] if matrix.format is Format.FP8 else matrix.group


def _source(rows: Matrix) -> tuple[int, int, int, int, int, int, int, int]:
    scale = 0 if rows.scale is None else rows.scale.data_ptr()
    zero = 0 if rows.zero is None else rows.zero.data_ptr()
    return rows.data.data_ptr(), scale, zero, *rows.shape, _CODES[rows.format], _group(rows), rows.block[0]


def _panels(matrix: Matrix) -> tuple[int, int, int, int, int]:
    assert matrix.layout is Layout.PANELS, matrix.layout
    _check(matrix.data, torch.uint8)
    return matrix.data.data_ptr(), *matrix.shape, _CODES[matrix.format], _group(matrix)


def _check(tensor: torch.Tensor, dtype: torch.dtype) -> None:
    assert tensor.dtype is dtype, (tensor.dtype, dtype)
    assert tensor.is_contiguous()
    assert tensor.device.type == "cpu", tensor.device
