"""One shard on the disk: room first, then tensors in any order, then its checksum and its name. Knows no formats."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from engine.convert.plan import Part, Shard

TEMPORARY = ".tmp"  # what names of unfinished files end in
_READ_BYTES = 4 << 20


class ShardFile:
    """A file of a shard's size under a temporary name, which `finish` makes final. Leaving without it removes the file.

    All room is taken at the beginning, so that a full disk shows before anything is computed. `write` may be called by
    several threads. OSError as the system gives it.
    """

    def __init__(self, folder: Path, shard: Shard) -> None:
        self._folder = folder
        self._shard = shard
        self._temporary = folder / f"{shard.name}{TEMPORARY}"
        self._descriptor = -1

    def __enter__(self) -> Self:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(self._temporary, flags, 0o666)
        try:
            os.posix_fallocate(self._descriptor, 0, self._shard.nbytes)
            _write_at(self._descriptor, memoryview(self._shard.header), 0)
        except OSError:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def write(self, part: Part, tensor: torch.Tensor) -> None:
        """The bytes of a contiguous tensor, which must be the part's."""
        assert (tuple(tensor.shape), tensor.nbytes) == (part.shape, part.nbytes), part
        if part.nbytes:
            data = tensor.reshape(-1).view(torch.uint8).numpy()
            _write_at(self._descriptor, memoryview(data), part.offset)  # type: ignore[arg-type]

    def finish(self, cancelled: Callable[[], bool]) -> str | None:
        """Flush to the disk, give the file its name and return its SHA-256; None when `cancelled` answers True."""
        os.fsync(self._descriptor)
        digest = sha256(self._temporary, cancelled)
        if digest is not None:
            self._temporary.rename(self._folder / self._shard.name)
            sync_folder(self._folder)
        return digest

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._temporary.unlink(missing_ok=True)


def sha256(path: Path, cancelled: Callable[[], bool] = lambda: False) -> str | None:
    """The file's SHA-256 in hexadecimal; None when `cancelled` answers True on the way."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if cancelled():
                return None
            digest.update(buffer[:count])
    return digest.hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """A small file that is whole or absent: temporary name, flushed, renamed."""
    temporary = path.with_name(f"{path.name}{TEMPORARY}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Names of a folder, flushed to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, offset)
        data, offset = data[count:], offset + count
