"""Models by name, for front ends: which there are, and the folder of the one that is asked for; nano is built when needed.

Knows neither formats nor engines: finding is the engine's, building is nano's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import engine
from dsv3chat.nano import BUILT_BYTES, DOWNLOAD_BYTES, NAME, TITLE
from dsv3chat.nano.build import ensure_nano, is_finished
from engine import KnownModel, LoadProgress
from engine.paths import models_dir


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One line of `dsv3chat models`. `size_bytes` is what lies on the disk, or will when the model is built."""

    name: str  # what --model takes
    path: Path
    size_bytes: int
    state: Literal["ready", "built at first use", "unusable"]
    note: str = ""  # of an unusable model, what is wrong with it


def resolve_model(
    name: str, on_progress: Callable[[LoadProgress], None], cancelled: Callable[[], bool]
) -> Path:
    """The folder of the checkpoint called `name`: nano, a folder, a built model, a hub id in the local cache.

    "nano" is always the embedded model, which is built when it is missing; a folder of that name is `./nano`.
    Errors: ModelNotFoundError with what to do; those of `build_nano`.
    """
    if name == NAME:
        return ensure_nano(on_progress=on_progress, cancelled=cancelled)
    return engine.find_model(name)


def known_models() -> list[ModelEntry]:
    """nano first, built or not; then every model that the engine finds by its name."""
    nano = models_dir() / NAME
    if is_finished(nano):
        first = ModelEntry(NAME, nano, _size(nano), "ready", TITLE)
    else:
        note = f"{TITLE}; fetches {DOWNLOAD_BYTES / 1e6:.0f} MB once"
        first = ModelEntry(NAME, nano, BUILT_BYTES, "built at first use", note)
    return [first, *(_entry(model) for model in engine.list_models() if model.path != nano)]


def _entry(model: KnownModel) -> ModelEntry:
    if model.problem is not None:
        return ModelEntry(model.name, model.path, model.size_bytes, "unusable", model.problem)
    where = "built or converted here" if model.origin == "built" else "in the Hugging Face cache"
    return ModelEntry(model.name, model.path, model.size_bytes, "ready", where)


def _size(folder: Path) -> int:
    """Bytes of the files directly in `folder`; nano has no folders within."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
