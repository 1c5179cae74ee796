"""The native CPU kernels behind the kernel protocol: packed bf16 weights, float32 between them. Knows no model.

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
from engine.quant.matrix import Layout, Matrix
from engine.quant.packing import HeadShape


class NativePacker:
    """`quant.packing.Packer` over the native module."""

    def packed_values(self, rows: int, columns: int) -> int:
        return _native.packed_values(rows, columns)

    def pack(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        _check(rows, torch.bfloat16)
        _check(out, torch.bfloat16)
        assert out.numel() == self.packed_values(rows.shape[0], rows.shape[1])
        _native.pack(rows.data_ptr(), rows.shape[0], rows.shape[1], out.data_ptr())

    def pack_heads(self, rows: torch.Tensor, heads: HeadShape, out: torch.Tensor) -> None:
        _check(rows, torch.bfloat16)
        _check(out, torch.bfloat16)
        rank = rows.shape[1]
        assert rows.shape[0] == heads.heads * (heads.nope + heads.v)
        one = self.packed_values(rank, heads.nope) + self.packed_values(heads.v, rank)
        assert out.numel() == heads.heads * one
        _native.pack_heads(rows.data_ptr(), heads.heads, heads.nope, heads.v, rank, out.data_ptr())


class NativeKernels(EagerKernels):
    """`Kernels` whose activations are float32, and whole packed layers as one call each (`LayerKernels`)."""

    def __init__(self, num_threads: int, isa: str = "") -> None:
        """Starts the threads that share each product; they sleep between steps and end with the object.

        `isa`: not the process's instruction set but this one, for comparisons.
        """
        assert not ABSENT, ABSENT
        super().__init__(torch.float32)
        self._threads = _native.Threads(num_threads, isa)
        self.packer = NativePacker()

    @property
    def layers(self) -> LayerKernels | None:
        return self

    def embed(self, table: Matrix, token_ids: torch.Tensor) -> torch.Tensor:
        if table.layout is Layout.ROWS:
            return super().embed(table, token_ids)
        _check(token_ids, torch.int64)
        out = torch.empty(len(token_ids), table.shape[1])
        _native.embed(_panels(table), token_ids.data_ptr(), len(token_ids), out.data_ptr())
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
        assert pages[0].dtype in (torch.float32, torch.bfloat16)
        self._threads.run_layers(
            [layer.description for layer in layers],
            x.shape[0],
            rotation.data_ptr(),
            slots.data_ptr(),
            rows_of(segments),
            pages[0].shape[1],
            pages[0].dtype is torch.float32,
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
            pages.dtype is torch.float32,
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
        description.kv_b = weights.kv_b.data.data_ptr()


def rows_of(segments: Sequence[tuple[int, int, PagedKeys]]) -> list[tuple[int, int, int, int]]:
    """(row, length, keys) -> (row, length, start, address of the block ids)."""
    for _, _, keys in segments:
        _check(keys.block_ids, torch.int64)
    return [(row, length, keys.start, keys.block_ids.data_ptr()) for row, length, keys in segments]


def _panels(matrix: Matrix) -> tuple[int, int, int]:
    assert matrix.layout is Layout.PANELS, matrix.layout
    _check(matrix.data, torch.bfloat16)
    return matrix.data.data_ptr(), matrix.shape[0], matrix.shape[1]


def _check(tensor: torch.Tensor, dtype: torch.dtype) -> None:
    assert tensor.dtype is dtype, (tensor.dtype, dtype)
    assert tensor.is_contiguous()
    assert tensor.device.type == "cpu", tensor.device
