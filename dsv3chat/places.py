"""Every file and folder the program uses, by name, and the opened database. Knows no file's format."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path

from dsv3chat.settings import settings_path
from dsv3chat.store import Store, StoreError
from engine.paths import cache_dir, config_dir, models_dir, shipped_profiles_dir, state_dir, user_profiles_dir


def database_path() -> Path:
    """Conversations and the history of inputs."""
    return state_dir() / "conversations.db"


def open_store(resuming: bool = False) -> Store:
    """The database. Where it cannot be used, one in a folder that is gone at the end: its `notice` says so.

    StoreError when a saved conversation was asked for.
    """
    try:
        return Store(database_path())
    except StoreError as error:
        if resuming:
            raise
        folder = tempfile.TemporaryDirectory(prefix="dsv3chat-", ignore_cleanup_errors=True)
        atexit.register(folder.cleanup)
        store = Store(Path(folder.name) / "conversations.db", lasting=False)
        store.notice = str(error)
        return store


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
