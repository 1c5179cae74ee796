"""Every file and folder the program uses, by name. Knows no file's format."""

from __future__ import annotations

from pathlib import Path

from dsv3chat.settings import settings_path
from engine.paths import cache_dir, config_dir, models_dir, shipped_profiles_dir, state_dir, user_profiles_dir


def database_path() -> Path:
    """Conversations and the history of inputs."""
    return state_dir() / "conversations.db"


def places() -> dict[str, Path]:
    """Name -> path, whether or not it exists yet."""
    return {
        "config": config_dir(),
        "settings": settings_path(),
        "profiles": user_profiles_dir(),
        "shipped profiles": shipped_profiles_dir(),
        "state": state_dir(),
        "conversations": database_path(),
        "logs": state_dir() / "logs",
        "cache": cache_dir(),
        "models": models_dir(),
    }
