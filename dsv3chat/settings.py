"""The user's settings: one YAML file, read strictly. Knows no screen; what a value means is its reader's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

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


def settings_path() -> Path:
    """Where the file lies, whether or not it exists."""
    raise NotImplementedError


def load_settings(path: Path | None = None) -> Settings:
    """The file's settings, defaults where it or a key is absent. Raises SettingsError."""
    raise NotImplementedError


def save_setting(key: str, value: str | bool | None, path: Path | None = None) -> None:
    """Change one key in the file and keep everything else in it, comments too; None removes the key."""
    raise NotImplementedError
