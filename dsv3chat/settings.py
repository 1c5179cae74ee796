"""The user's settings: one YAML file, read strictly. Knows no screen; what a theme or a key is, is its reader's business."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from engine.paths import config_dir, private_dir

Gauges: TypeAlias = Literal["auto", "full", "strip", "off"]


@dataclass(frozen=True, slots=True)
class Settings:
    """`gauges` auto: the rail from 110 columns on, the strip below. `keymap` maps a binding's id to its keys."""

    theme: str = "dark"
    gauges: Gauges = "auto"
    show_thinking: bool = False
    keymap: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    profile: str | None = None


class SettingsError(Exception):
    """The settings file is wrong; the message begins with `FILE:LINE: KEY`."""


_EXPECTED = {
    "theme": "a name",
    "gauges": "one of " + ", ".join(get_args(Gauges)),
    "show_thinking": "true or false",
    "keymap": "a mapping of a binding's id to its keys, as text",
    "model": "a name, a folder or a hub id",
    "profile": "a name or a file",
}
KEYS = tuple(f.name for f in fields(Settings))


def settings_path() -> Path:
    """Where the file lies, whether or not it exists."""
    return config_dir() / "settings.yaml"


def load_settings(path: Path | None = None) -> Settings:
    """The file's settings, defaults where the file or a key is absent. Raises SettingsError."""
    path = path or settings_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> Settings:
    import yaml  # a third of the start of `dsv3chat --help` otherwise

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise SettingsError(f"{where}: is no YAML: {getattr(error, 'problem', None) or error}") from error
    if value is None:
        return Settings()
    if not isinstance(root, yaml.MappingNode) or not isinstance(value, dict):
        raise SettingsError(f"{path}:1: found {type(value).__name__}, expected `key: value` lines")
    seen: dict[str, int] = {}
    for key_node, value_node in root.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in seen:
            raise SettingsError(f"{path}:{line}: {key} stands in line {seen[key]} already; keep one of them")
        seen[key] = line
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(KEYS)}"
            raise SettingsError(f"{path}:{line}: {key} is no setting; {hint}")
        if key == "gauges" and value_node.value == "off":  # YAML 1.1 takes it for false
            value[key] = "off"
        if not _valid(key, value[key]):
            raise SettingsError(f"{path}:{line}: {key}: found {value[key]!r}, expected {_EXPECTED[key]}")
    return Settings(**value)


def _valid(key: str, value: Any) -> bool:
    if key == "gauges":
        return value in get_args(Gauges)
    if key == "show_thinking":
        return isinstance(value, bool)
    if key == "keymap":
        return isinstance(value, dict) and all(
            isinstance(k, str) and isinstance(v, str) for k, v in value.items()
        )
    if value is None:
        return key in ("model", "profile")
    return isinstance(value, str) and bool(value.strip())


def save_setting(key: str, value: str | bool | None, path: Path | None = None) -> None:
    """Change one key in the file and keep everything else in it, comments too; None removes the key.

    SettingsError for an unknown key, a wrong value, or a file that is wrong already (it is not touched then);
    `keymap` is written by hand only.
    """
    path = path or settings_path()
    if key not in KEYS or key == "keymap":
        raise SettingsError(f"{path}: {key} cannot be set by the program")
    if value is not None and not _valid(key, value):
        raise SettingsError(f"{path}: {key}: found {value!r}, expected {_EXPECTED[key]}")
    settings = load_settings(path)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    new = _with_line(old, key, value)
    wanted: dict[str, Any] = {key: getattr(Settings(), key) if value is None else value}
    if _parse(new, path) != replace(settings, **wanted):
        raise SettingsError(f"{path}: {key} is written over several lines; change it with an editor")
    if new != old:
        _write(path, new)


def _with_line(text: str, key: str, value: str | bool | None) -> str:
    import yaml

    line = "" if value is None else yaml.safe_dump({key: value}, allow_unicode=True, width=10_000)
    pattern = re.compile(rf"^(?:{key}|\"{key}\"|'{key}')[ \t]*:.*(?:\n|\Z)", re.MULTILINE)
    changed, count = pattern.subn(lambda _: line, text, count=1)
    if count:
        return changed
    return text + ("\n" if text and not text.endswith("\n") else "") + line


def _write(path: Path, text: str) -> None:
    """Whole or not at all, 0600."""
    try:
        private_dir(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".settings-")  # mkstemp makes it 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error}") from error
