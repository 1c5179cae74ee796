"""A project's own settings: `.dsv3chat/settings.yaml` of the working folder. Knows no flags, no environment, no user's file.

It holds `profile`, `model` and keys of a profile, as a profile writes them. A folder may be somebody else's, so the file
can choose and set, and nothing more: no rules, no paths that leave the folder, nothing that is run. Who uses it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import ProfileError
from engine.profile.built import BUILT, HOMELESS_KEYS, Built
from engine.profile.keys import (
    CAPACITY_KEYS,
    KEYS,
    RULES,
    check_capacity,
    fill,
    not_built_key,
    read_value,
)
from engine.profile.listing import flat_entries
from engine.profile.nodes import Source, compose, scalar_of
from engine.profile.scalars import nearest
from engine.profile.values import Profile

PROJECT_FILE = Path(".dsv3chat") / "settings.yaml"
_OWN = ("profile", "model")
_NOT_HERE = ("name", "description", RULES)


@dataclass(frozen=True, slots=True)
class ProjectFile:
    """`values` are by dotted key; `lines` say where each key of the file stands, `profile` and `model` too."""

    path: Path
    profile: str | None = None
    model: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def apply(self, profile: Profile) -> Profile:
        """`profile` with the file's values. ProfileError where the pool does not hold a full batch then."""
        changed = fill(profile, self.values)
        line = next((self.lines[key] for key in CAPACITY_KEYS if key in self.lines), 1)
        check_capacity(changed, lambda message: Source(str(self.path)).error(line, "cache_lens", message))
        return changed


def read_project_file(path: Path = PROJECT_FILE, built: Built = BUILT) -> ProjectFile | None:
    """None where there is no such file. ProfileError, `FILE:LINE: KEY: ...`, for what it cannot hold."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}:1: file: cannot be read: {error}") from None
    where = Source(str(path))
    own: dict[str, str] = {}
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, line, node in flat_entries(compose(text, where), where):
        lines[key] = line
        if key in HOMELESS_KEYS:
            raise where.error(line, key, not_built_key(key))
        if key in _NOT_HERE:
            raise where.error(
                line, key, f"belongs into a profile, such as {path.parent / 'profiles' / 'mine.yaml'}"
            )
        if key not in KEYS and key not in _OWN:
            known = [*_OWN, *(name for name in KEYS if name not in _NOT_HERE)]
            raise where.error(line, key, f"unknown key{nearest(key, known)}; keys here: {', '.join(known)}")
        try:
            if key in _OWN:
                own[key] = _name(scalar_of(node).text, key)
            else:
                values[key] = read_value(KEYS[key], key.rpartition(".")[2], scalar_of(node), built)
        except ValueError as error:
            raise where.error(line, key, str(error)) from None
    return ProjectFile(path, own.get("profile"), own.get("model"), values, lines)


def _name(text: str, key: str) -> str:
    """A name or a path below the working folder; what leads out of it is a person's to say, not a folder's."""
    if not text.strip() or not text.isprintable():
        raise ValueError(f"found {text!r}; expected a name")
    path = Path(text)
    if path.is_absolute() or text.startswith("~") or ".." in path.parts:
        raise ValueError(
            f"found {text!r}, which leads out of this folder; expected a name or a path below it, or say --{key} yourself"
        )
    return text
