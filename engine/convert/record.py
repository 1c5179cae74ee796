"""conversion.json: which shards are finished, by size and SHA-256, and of which conversion they are. Knows no tensors.

While a conversion runs, this file is what the next start goes on from; in the finished folder it is the list to check a
copy against. `modified` holds the times of the source's files, only while it runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.convert.shard_file import write_whole
from engine.errors import CheckpointError, ConversionError
from engine.weights.json_fields import read_json_object

RECORD = "conversion.json"


@dataclass(frozen=True, slots=True)
class FinishedShard:
    nbytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """`identity` is the plan's, `source` the name of the model that was converted."""

    identity: str
    source: str
    modified: Mapping[str, int] = field(default_factory=dict)
    shards: Mapping[str, FinishedShard] = field(default_factory=dict)


def read_record(folder: Path) -> Record | None:
    """None where there is none. ConversionError for a file that is not such a record."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        raw: dict[str, Any] = read_json_object(path)
        shards = {name: FinishedShard(**shard) for name, shard in raw["shards"].items()}
        record = Record(raw["identity"], raw["source"], raw.get("modified", {}), shards)
    except (CheckpointError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(
            f"{path} is not the record of a conversion ({error}); remove {folder} and convert again"
        ) from error
    return record


def write_record(folder: Path, record: Record) -> None:
    """Whole or not at all."""
    raw = asdict(record)
    if not record.modified:
        del raw["modified"]
    write_whole(folder / RECORD, (json.dumps(raw, indent=1) + "\n").encode("ascii"))
