"""JSON files of a checkpoint, read with a reason for whoever has to repair them. Knows none of their keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; CheckpointError when it is unreadable or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}; download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}; expected an object; download it again")
    return value
