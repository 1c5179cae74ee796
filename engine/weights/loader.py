"""Checkpoint + placement -> ModelParameters: reads layer by layer, converts on the way. Knows no arithmetic of the model.

Each tensor is mapped, converted straight into its final memory and unmapped, so that the peak is the placed size plus
the one tensor in hand (of a layer's experts one a thread) plus a scratch of a few MiB. What another device holds is converted beside it, matrix by matrix, and
sent in its format: the peak of RAM is then the largest matrix and the buffer that it goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from queue import SimpleQueue

import torch

from engine.errors import LoadCancelledError
from engine.events import LoadProgress
from engine.model.parameters import (
    AttentionParameters,
    LayerParameters,
    MlpParameters,
    ModelParameters,
    MoeParameters,
)
from engine.quant.formats import CPU, convert_into, empty, empty_stack
from engine.quant.matrix import Matrix, MatrixStack
from engine.quant.packing import HeadShape, Packer, empty_packed
from engine.weights.checkpoint import Checkpoint
from engine.weights.crew import crew, work_through
from engine.weights.keeping import Part, bytes_to_read, head_shape, held_bytes, packed_parts
from engine.weights.names import EMBEDDING, HEAD, NORM, layer_prefix
from engine.weights.placement import Placement
from engine.weights.safetensors_file import SafetensorsFiles
from engine.weights.stored import damaged, stored_matrix
from engine.weights.uplink import Uplink

_PROGRESS_BYTES = 16 << 20  # an event per 16 MiB: often enough for a bar, too seldom to cost anything


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """The weights, and the bytes that they really hold per tier: each allocation once, a tied head once."""

    parameters: ModelParameters
    bytes_by_tier: dict[str, int]


def load(
    checkpoint: Checkpoint,
    placement: Placement,
    on_progress: Callable[[LoadProgress], None] = lambda progress: None,
    cancelled: Callable[[], bool] = lambda: False,
    packer: Packer | None = None,
    kept: Mapping[str, Part] | None = None,
    memory_of: Callable[[str], torch.device] = torch.device,
    threads: int = 1,
) -> LoadedWeights:
    """Read every placed tensor that is not among `kept`, see engine.weights.keeping. `cancelled` is asked before each
    one. What `packer` takes is packed by it, tensor by tensor. `memory_of`: what torch calls a device of the placement.
    `threads`: so many of a layer's experts are converted at once, each in a buffer of one matrix.

    Raises LoadCancelledError when it answers True (what was read is freed), CheckpointError for values that no number
    is. nano (186 MB stored, 313 MB as bf16): 0.6 s on two Zen 3 cores, the file in the page cache.
    """
    uplinks = {device: Uplink(memory_of(device)) for device in sorted(placement.devices - {"cpu"})}
    with checkpoint.open_files() as files, ExitStack() as stack:
        for uplink in uplinks.values():
            stack.enter_context(closing(uplink))
        parameters = _Loader(
            checkpoint,
            placement,
            files,
            on_progress,
            cancelled,
            packer,
            kept or {},
            uplinks,
            threads,
            stack.enter_context(crew(threads)),
        ).model()
    return LoadedWeights(parameters, held_bytes(parameters))


class _Loader:
    def __init__(
        self,
        checkpoint: Checkpoint,
        placement: Placement,
        files: SafetensorsFiles,
        on_progress: Callable[[LoadProgress], None],
        cancelled: Callable[[], bool],
        packer: Packer | None,
        kept: Mapping[str, Part],
        uplinks: Mapping[str, Uplink],
        num_threads: int,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._num_threads = num_threads
        self._threads = threads
        self._packer = packer
        self._kept = kept
        self._uplinks = uplinks
        self._packed_parts = packed_parts(placement, checkpoint.config, packer)
        self._config = checkpoint.config
        self._checkpoint = checkpoint
        self._placement = placement
        self._files = files
        self._on_progress = on_progress
        self._cancelled = cancelled
        self._detail = ""
        self._done_bytes = 0
        self._reported_bytes = 0
        self._total_bytes = sum(bytes_to_read(placement, kept).values())

    def model(self) -> ModelParameters:
        self._detail = "embedding"
        self._report()
        tied = self._config.tie_word_embeddings
        embedding = self._matrix(EMBEDDING)
        layers = []
        for layer in range(self._config.num_hidden_layers):
            self._detail = f"layer {layer + 1} of {self._config.num_hidden_layers}"
            layers.append(self._layer(layer))
            self._report()
        self._detail = "head"
        norm = self._vector(NORM)
        head = embedding if tied else self._matrix(HEAD)
        self._report()
        return ModelParameters(embedding, tuple(layers), norm, head)

    def _layer(self, layer: int) -> LayerParameters:
        prefix = layer_prefix(layer)
        return LayerParameters(
            input_norm=self._vector(f"{prefix}.input_layernorm.weight"),
            attention=self._attention(f"{prefix}.self_attn"),
            post_attention_norm=self._vector(f"{prefix}.post_attention_layernorm.weight"),
            mlp=self._moe(f"{prefix}.mlp")
            if self._config.is_moe_layer(layer)
            else self._mlp(f"{prefix}.mlp"),
        )

    def _attention(self, prefix: str) -> AttentionParameters:
        compressed = self._config.q_lora_rank is not None
        return AttentionParameters(
            q=None if compressed else self._matrix(f"{prefix}.q_proj.weight"),
            q_a=self._matrix(f"{prefix}.q_a_proj.weight") if compressed else None,
            q_a_norm=self._vector(f"{prefix}.q_a_layernorm.weight") if compressed else None,
            q_b=self._matrix(f"{prefix}.q_b_proj.weight") if compressed else None,
            kv_a=self._matrix(f"{prefix}.kv_a_proj_with_mqa.weight"),
            kv_a_norm=self._vector(f"{prefix}.kv_a_layernorm.weight"),
            kv_b=self._matrix(f"{prefix}.kv_b_proj.weight", head_shape(self._config)),
            o=self._matrix(f"{prefix}.o_proj.weight"),
        )

    def _mlp(self, prefix: str) -> MlpParameters:
        return MlpParameters(
            gate=self._matrix(f"{prefix}.gate_proj.weight"),
            up=self._matrix(f"{prefix}.up_proj.weight"),
            down=self._matrix(f"{prefix}.down_proj.weight"),
        )

    def _moe(self, prefix: str) -> MoeParameters:
        return MoeParameters(
            router=self._vector(f"{prefix}.gate.weight"),
            correction_bias=self._vector(f"{prefix}.gate.e_score_correction_bias"),
            gate=self._stack(prefix, "gate_proj"),
            up=self._stack(prefix, "up_proj"),
            down=self._stack(prefix, "down_proj"),
            shared=self._mlp(f"{prefix}.shared_experts") if self._config.n_shared_experts else None,
        )

    def _vector(self, name: str) -> torch.Tensor:
        """A norm's weight, a router or its bias, as float32."""
        kept = self._kept.get(name)
        if isinstance(kept, torch.Tensor):
            return kept
        self._check_cancelled()
        values = self._files.map(name).to(torch.float32, copy=True)
        self._count(name)
        uplink = self._uplinks.get(self._placement.tensors[name].device)
        if uplink is None:
            return values
        there = torch.empty_like(values, device=uplink.device)
        uplink.tensor(there, values)
        return there

    def _matrix(self, name: str, heads: HeadShape | None = None) -> Matrix:
        """`heads`: the matrix is kv_b, which packs head by head."""
        kept = self._kept.get(name)
        if isinstance(kept, Matrix):
            return kept
        return self._read(name, [name], heads)[0]

    def _stack(self, prefix: str, projection: str) -> MatrixStack:
        names = [f"{prefix}.experts.{e}.{projection}.weight" for e in range(self._config.n_routed_experts)]
        kept = self._kept.get(names[0])
        if isinstance(kept, MatrixStack):
            return kept
        return self._read(names[0], names, None)

    def _read(self, part: str, names: list[str], heads: HeadShape | None) -> MatrixStack:
        """The matrices of a part, all of one shape, format and device."""
        placed = self._placement.tensors[part]
        rows, columns = placed.spec.shape
        if part in self._packed_parts:
            return self._packed(part, names, heads)
        uplink = self._uplinks.get(placed.device)
        device = CPU if uplink is None else uplink.device
        stack = empty_stack(placed.format, len(names), rows, columns, self._block, placed.group, device)
        if uplink is None:
            self._convert(lambda index: self._fill(stack[index], names[index]), len(names))
            return stack
        buffer = self._rows_of(part)
        for index, name in enumerate(names):  # the link to a device is one
            self._fill(buffer, name)
            uplink.matrix(stack[index], buffer)
            self._count(name)
        return stack

    def _packed(self, part: str, names: list[str], heads: HeadShape | None) -> MatrixStack:
        """Each is converted to rows of its format in a buffer and packed from there."""
        packer = self._packer
        assert packer is not None
        buffers: SimpleQueue[Matrix] = SimpleQueue()
        for _ in range(min(self._num_threads, len(names))):
            buffers.put(self._rows_of(part))
        first = buffers.get()
        stack = empty_packed(packer, len(names), first, heads)
        buffers.put(first)

        def pack(index: int) -> str:
            buffer = buffers.get()
            try:
                self._fill(buffer, names[index])
                if heads is None:
                    packer.pack(buffer, stack[index].data)
                else:
                    packer.pack_heads(buffer, heads, stack[index].data)
            finally:
                buffers.put(buffer)
            return names[index]

        self._convert(pack, len(names))
        return stack

    def _convert(self, work: Callable[[int], str], count: int) -> None:
        """`work` on 0 to `count` - 1; it returns the tensor's name. Alone, the caller's thread does it."""
        if self._num_threads == 1:
            for index in range(count):
                self._count(work(index))
            return
        with closing(work_through(self._threads, work, range(count), lambda: False)) as finished:
            for name in finished:
                self._count(name)

    def _rows_of(self, part: str) -> Matrix:
        """An empty matrix of a part's shape and format, in rows."""
        placed = self._placement.tensors[part]
        rows, columns = placed.spec.shape
        return empty(placed.format, rows, columns, self._block, placed.group)

    @property
    def _block(self) -> tuple[int, int]:
        return self._config.weight_block_size or (128, 128)  # counts for FP8 only

    def _fill(self, target: Matrix, name: str) -> str:
        """Convert the stored tensor into `target`: a copy, a rounding, or new scales. Tile by tile, see `convert_into`.
        Several threads at once may. Returns the name."""
        self._check_cancelled()
        stored = stored_matrix(self._checkpoint, self._files, name)
        try:
            convert_into(target, stored, self._placement.tensors[name].fit or "hqq")
        except ValueError as error:
            raise damaged(self._checkpoint, name, str(error)) from error
        return name

    def _check_cancelled(self) -> None:
        if self._cancelled():
            raise LoadCancelledError("loading was stopped; nothing stays in memory")

    def _count(self, name: str) -> None:
        self._done_bytes += self._placement.tensors[name].nbytes
        if self._done_bytes - self._reported_bytes >= _PROGRESS_BYTES:
            self._report()

    def _report(self) -> None:
        self._reported_bytes = self._done_bytes
        self._on_progress(LoadProgress("reading weights", self._done_bytes, self._total_bytes, self._detail))
