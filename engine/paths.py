"""Where the program keeps things: config, state, cache, built models, profiles. Knows no file formats."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "dsv3chat"


def _folder(variable: str, default: str) -> Path:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else Path(default)


def config_dir() -> Path:
    """User settings and profiles; `DSV3CHAT_CONFIG_DIR` overrides."""
    return _folder("DSV3CHAT_CONFIG_DIR", platformdirs.user_config_dir(APP))


def state_dir() -> Path:
    """Conversations, histories, logs; `DSV3CHAT_STATE_DIR` overrides."""
    return _folder("DSV3CHAT_STATE_DIR", platformdirs.user_state_dir(APP))


def cache_dir() -> Path:
    """What can be made again; `DSV3CHAT_CACHE_DIR` overrides."""
    return _folder("DSV3CHAT_CACHE_DIR", platformdirs.user_cache_dir(APP))


def models_dir() -> Path:
    """Built and converted models, one folder each; the folder's name is the model's name."""
    return cache_dir() / "models"


def user_profiles_dir() -> Path:
    """A person's own profiles."""
    return config_dir() / "profiles"


def shipped_profiles_dir() -> Path:
    """The profiles that come with the program: beside the package in a checkout, inside it when installed."""
    inside = Path(__file__).parent / "profiles"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "profiles"


def private_dir(path: Path) -> Path:
    """Create `path` (and what leads to it) readable by its owner only, mode 0700, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
