"""The header of a safetensors file, checked before anything is read by it. Knows no model and no tensor library.

Layout (the format's own description): 8 bytes little-endian header length n, n bytes of JSON, then the data; offsets in
the header count from the data's beginning. The data has no holes, so a cut file shows in its size.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from engine.errors import CheckpointError

_LFS_POINTER = (
    b"version https://git-lfs"  # a clone without Git LFS has this small text in place of each large file
)
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8, "F64": 8,
    "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies. `dtype` is the format's name for it ("BF16"); `offset` counts from the file's beginning."""

    dtype: str
    shape: tuple[int, ...]
    shard: str
    offset: int
    nbytes: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Every tensor of the file, in the order of the data. Raises CheckpointError when the file is cut or contradicts itself."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            beginning = file.read(8)
            header_bytes = int.from_bytes(beginning, "little")
            if beginning == _LFS_POINTER[:8] and file.read(len(_LFS_POINTER) - 8) == _LFS_POINTER[8:]:
                raise CheckpointError(
                    f"{path} is a Git LFS pointer in place of the weights; run `git lfs pull` in its folder"
                )
            if size < 8 or header_bytes > size - 8:
                raise _damaged(path, f"is cut: {size:,} bytes do not hold its header")
            if header_bytes > _MAX_HEADER_BYTES:
                raise _damaged(path, f"has a header of {header_bytes:,} bytes; it is no safetensors file")
            raw = file.read(header_bytes)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "has a header that is no JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "has a header that is no JSON object")
    header.pop("__metadata__", None)
    infos = sorted(
        ((name, _tensor_info(path, name, entry, 8 + header_bytes)) for name, entry in header.items()),
        key=lambda item: (item[1].offset, item[1].nbytes),
    )
    end = 8 + header_bytes
    for name, info in infos:
        if info.offset != end:
            raise _damaged(path, f"has a hole or an overlap before {name}")
        end += info.nbytes
    if size != end:
        state = "is cut" if size < end else "is too long"
        raise _damaged(path, f"{state}: {size:,} bytes, its header says {end:,}")
    return dict(infos)


def _damaged(path: Path, problem: str) -> CheckpointError:
    return CheckpointError(f"{path} {problem}; download it again")


def _tensor_info(path: Path, name: str, entry: object, data_start: int) -> TensorInfo:
    if not isinstance(entry, dict):
        raise _damaged(path, f"describes {name} as {entry!r:.80}")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise _damaged(path, f"stores {name} as {dtype!r:.40}, which is no known dtype")
    if not _is_sizes(shape) or not _is_sizes(offsets) or len(offsets) != 2:
        raise _damaged(path, f"gives {name} the shape {shape!r:.80} and the bytes {offsets!r:.80}")
    nbytes = math.prod(shape) * _ITEM_BYTES[dtype]
    if offsets[1] - offsets[0] != nbytes:
        raise _damaged(
            path, f"gives {name} {offsets[1] - offsets[0]:,} bytes, {dtype} {shape} takes {nbytes:,}"
        )
    return TensorInfo(dtype, tuple(shape), path.name, data_start + offsets[0], nbytes)


def _is_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in value
    )
