"""Typed access to a JSON object's keys; each error names file, key, what was found and what was expected. Knows no model."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from engine.errors import CheckpointError


def read_json_object(path: Path) -> dict[str, object]:
    """The object in a JSON file. Raises CheckpointError when it cannot be read, is not JSON or not an object."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: is not valid JSON ({error}); the download may be incomplete, fetch the file again"
        ) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a JSON {type(value).__name__}, expected an object")
    return value


class Fields:
    """The keys of one object. `where` begins every message: the file, and the object's name inside it."""

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self.values = values
        self.where = where

    def has(self, key: str) -> bool:
        """The key is there and not null."""
        return self.values.get(key) is not None

    def error(self, key: str, expected: str) -> CheckpointError:
        found = f"is {json.dumps(self.values[key])[:80]}" if key in self.values else "is missing"
        return CheckpointError(f"{self.where}: {key} {found}, expected {expected}")

    def integer(self, key: str, minimum: int, default: int | None = None) -> int:
        """An integer of at least `minimum`; where the key is absent or null, the default if one is given."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise self.error(key, f"an integer of at least {minimum}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0, or the default where the key is absent or null."""
        value = self.values.get(key)
        if value is None and default is not None:
            return default
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value <= sys.float_info.max
        ):
            raise self.error(key, "a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, "a string")
        return value

    def nested(self, key: str) -> Fields | None:
        """A nested object, None where the key is absent or null."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, "an object")
        return Fields(value, f"{self.where}: {key}")

    def token_ids(self, key: str) -> tuple[int, ...]:
        """One id or a list of ids; empty where the key is absent or null."""
        value = self.values.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
            raise self.error(key, "a token id or a list of token ids")
        return tuple(ids)
