"""Which files of a folder hold the tensors: one model.safetensors, or shards with an index. Knows no model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from engine.errors import CheckpointError
from engine.weights.json_fields import Fields, read_json_object
from engine.weights.safetensors_header import TensorInfo, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHOWN = 5


def read_tensors(folder: Path) -> dict[str, TensorInfo]:
    """Every tensor of the folder's weights by name, headers checked, no data read.

    Raises CheckpointError: no weights, absent shards (all in one message), a damaged file, an index that contradicts
    the shards. The single file wins where both are there, as it does for transformers.
    """
    if (folder / SINGLE).is_file():
        return read_header(folder / SINGLE)
    if not (folder / INDEX).is_file():
        raise _no_weights(folder)
    shard_of = _weight_map(folder / INDEX)
    counts = Counter(shard_of.values())
    absent = sorted(shard for shard in counts if not (folder / shard).is_file())
    if absent:
        listed = ", ".join(f"{shard} ({counts[shard]:,} tensors)" for shard in absent)
        raise CheckpointError(
            f"{folder}: download incomplete, {len(absent)} of {len(counts)} shards are absent: {listed}; "
            "fetch them, then start again"
        )
    tensors: dict[str, TensorInfo] = {}
    for shard in sorted(counts):
        for name, info in read_header(folder / shard).items():
            if shard_of.setdefault(name, "") != shard:
                indexed = shard_of[name] or "nowhere"
                raise CheckpointError(
                    f"{folder}: {shard} holds {name}, which {INDEX} places {indexed}; fetch both files again"
                )
            tensors[name] = info
    lost = [name for name in shard_of if name not in tensors]
    if lost:
        raise CheckpointError(
            f"{folder}: {len(lost):,} tensors of {INDEX} are not in the shards it names: {some(lost)}; "
            "the files are of different downloads"
        )
    return tensors


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _weight_map(path: Path) -> dict[str, str]:
    weight_map = Fields(read_json_object(path), str(path)).nested("weight_map")
    if weight_map is None or not weight_map.values:
        raise CheckpointError(
            f"{path}: has no weight_map, so the shards cannot be found; fetch the file again"
        )
    shard_of: dict[str, str] = {}
    for name, shard in weight_map.values.items():
        if not isinstance(shard, str) or not shard or Path(shard).name != shard:
            raise weight_map.error(name, "the name of a file in the same folder")
        shard_of[name] = shard
    return shard_of


def _no_weights(folder: Path) -> CheckpointError:
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    if shards:
        found = f"{some(shards)}, but no {INDEX}, so the download is incomplete"
    else:
        others = sorted(path.name for kind in ("*.bin", "*.gguf", "*.pt") for path in folder.glob(kind))
        found = f"{some(others)}, which the engine does not read" if others else "no weights"
    return CheckpointError(f"{folder}: found {found}; expected {SINGLE}, or {INDEX} and its shards")
