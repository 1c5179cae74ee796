"""A reader of GGUF files, just enough for nano's base: float32, Q8_0 and Q4_1 tensors, widened on request.

Knows no model. Metadata is stepped over, not kept: the base's tokenizer alone is a hundred thousand strings there.
Format: github.com/ggml-org/ggml/blob/master/docs/gguf.md; block layouts: ggml's `block_q4_1` and `block_q8_0`.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import CheckpointError

_SCALAR = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_F32, _Q4_1, _Q8_0 = 0, 3, 8
_BLOCK = {_F32: (1, 4), _Q4_1: (32, 20), _Q8_0: (32, 34)}  # type -> (values, bytes) of one block


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    shape: tuple[int, ...]  # slowest dimension first, the reverse of the file's order
    offset: int  # from the beginning of the data


class _Cursor:
    """Reads little-endian values one after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.position = 0

    def take(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self.data, self.position)
        self.position += struct.calcsize("<" + code)
        return int(value)

    def string(self) -> str:
        length = self.take("Q")
        start, self.position = self.position, self.position + length
        return self.data[start : self.position].decode("utf-8", "replace")

    def skip(self, kind: int) -> None:
        """Step over one metadata value."""
        if kind == _STRING:
            length = self.take("Q")
            self.position += length
        elif kind == _ARRAY:
            item, count = self.take("I"), self.take("Q")
            if item in _SCALAR:
                self.position += count * struct.calcsize("<" + _SCALAR[item])
            else:
                for _ in range(count):
                    self.skip(item)
        else:
            self.position += struct.calcsize("<" + _SCALAR[kind])


class GgufFile:
    """The tensors of one GGUF file by name, memory-mapped. Raises CheckpointError when it is none, or is cut."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise CheckpointError(f"{path} is empty; a GGUF file was expected") from error
        try:
            self._entries, self._start = _read_directory(_Cursor(self._map))
        except (struct.error, KeyError) as error:
            raise CheckpointError(f"{path} is not a whole GGUF file of version 2 or 3 ({error!r})") from error
        self._path = path

    def names(self) -> list[str]:
        """Every tensor's name, in the file's order."""
        return list(self._entries)

    def tensor(self, name: str) -> NDArray[np.float32]:
        """The tensor `name`, widened to float32.

        Q4_1: w = d * q + m for 32 values, d and m float16, q four bits (values 0..15 in the low halves of 16 bytes,
        16..31 in the high ones). Q8_0: w = d * q for 32 values, q int8.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise CheckpointError(f"{self._path} holds no tensor {name!r}")
        if entry.kind not in _BLOCK:
            raise CheckpointError(
                f"{self._path}: {name} has GGUF type {entry.kind}; F32, Q4_1 and Q8_0 are known"
            )
        values, size = _BLOCK[entry.kind]
        count = int(np.prod(entry.shape)) // values
        try:
            raw = np.frombuffer(self._map, np.uint8, count * size, self._start + entry.offset)
        except ValueError as error:
            raise CheckpointError(f"{self._path} ends before the data of {name}") from error
        return _widen(entry.kind, raw.reshape(count, size)).reshape(entry.shape)


def _widen(kind: int, blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    if kind == _F32:
        return blocks.view(np.float32).copy()
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)  # (blocks, 1)
    if kind == _Q8_0:
        return blocks[:, 2:].view(np.int8) * scale
    minimum = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
    halves = np.concatenate((blocks[:, 4:] & 15, blocks[:, 4:] >> 4), axis=1)  # (blocks, 32)
    widened: NDArray[np.float32] = scale * halves + minimum
    return widened


def _read_directory(cursor: _Cursor) -> tuple[dict[str, _Entry], int]:
    """The tensor infos and where the data begins."""
    if cursor.data[:4] != b"GGUF":
        raise KeyError("it does not begin with GGUF")
    cursor.position = 4
    version = cursor.take("I")
    if version not in (2, 3):
        raise KeyError(f"version {version}")
    num_tensors, num_metadata = cursor.take("Q"), cursor.take("Q")
    alignment = 32
    for _ in range(num_metadata):
        key, kind = cursor.string(), cursor.take("I")
        if key == "general.alignment":
            alignment = cursor.take(_SCALAR[kind])
        else:
            cursor.skip(kind)
    entries: dict[str, _Entry] = {}
    for _ in range(num_tensors):
        name, dims = cursor.string(), cursor.take("I")
        shape = tuple(cursor.take("Q") for _ in range(dims))[::-1]
        entries[name] = _Entry(cursor.take("I"), shape, cursor.take("Q"))
    if cursor.position > len(cursor.data):
        raise KeyError("it ends inside its directory")
    return entries, -(-cursor.position // alignment) * alignment
