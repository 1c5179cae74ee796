"""The tensors of safetensors files as windows into them. Knows no model; the headers are safetensors_header's."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self

import torch

from engine.errors import CheckpointError
from engine.weights.safetensors_header import TensorInfo

TORCH_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I8": torch.int8,
    "U8": torch.uint8,
}


class SafetensorsFiles:
    """The shards of a folder, opened when first used. `map` gives tensors that live in the files, not in memory.

    A tensor is a private window of its file: its pages come when they are read and go when the tensor goes, so that
    what stays resident is what the caller holds. Writing to it changes no file.
    """

    def __init__(self, folder: Path, tensors: Mapping[str, TensorInfo]) -> None:
        self._folder = folder
        self._tensors = tensors
        self._descriptors: dict[str, int] = {}
        self._opening = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def map(self, name: str) -> torch.Tensor:
        """The tensor `name`, which must be of a dtype in TORCH_DTYPES."""
        info = self._tensors[name]
        dtype = TORCH_DTYPES[info.dtype]
        if info.nbytes == 0:
            return torch.empty(info.shape, dtype=dtype)
        inside = info.offset % mmap.ALLOCATIONGRANULARITY
        start = info.offset - inside
        try:
            window = mmap.mmap(
                self._descriptor(info.shard), inside + info.nbytes, access=mmap.ACCESS_COPY, offset=start
            )
            window.madvise(mmap.MADV_WILLNEED)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{self._folder / info.shard}: {name} cannot be mapped ({error})"
            ) from error
        values = torch.frombuffer(window, dtype=torch.uint8, offset=inside)
        if inside % dtype.itemsize:  # a header of odd length; aligned copies keep vector code fast and legal
            values = values.clone()
        return values.view(dtype).view(info.shape)

    def _descriptor(self, shard: str) -> int:
        with self._opening:
            descriptor = self._descriptors.get(shard)
            if descriptor is None:
                flags = os.O_RDONLY | os.O_CLOEXEC
                descriptor = self._descriptors[shard] = os.open(self._folder / shard, flags)
            return descriptor
