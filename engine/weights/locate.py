"""Names of models to folders: a built model, a folder, a hub id in the local Hugging Face cache. Never the network.

Knows no tensors: of a checkpoint it looks at config.json and at which weight files are there. A bare name is a built
model first and a folder of the working directory second, so that a folder that happens to be called `nano` hides
nothing; what has a slash in it is a folder first and a hub id second.
"""

from __future__ import annotations

import difflib
import json
import os.path
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine import paths
from engine.errors import ModelNotFoundError

ARCHITECTURE = "DeepseekV3ForCausalLM"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_PARTIAL = ".partial"

# Bytes of the weight files in 10^9, as published (DeepSeek) or counted from the shapes (Kimi-K2, Moonlight).
_DOWNLOAD_GB = {
    "deepseek-ai/DeepSeek-V3": 689,
    "deepseek-ai/DeepSeek-V3-0324": 689,
    "deepseek-ai/DeepSeek-V3.1": 689,
    "deepseek-ai/DeepSeek-R1": 689,
    "moonshotai/Moonlight-16B-A3B": 32,
    "moonshotai/Moonlight-16B-A3B-Instruct": 32,
    "moonshotai/Kimi-K2-Instruct": 1029,
}


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that a name finds. `problem` says why it cannot be used, None where nothing speaks against it."""

    name: str  # what --model takes
    path: Path
    origin: Literal["built", "hub"]
    size_bytes: int  # of the weight files that are there
    problem: str | None = None


def find_model(name: str) -> Path:
    """The checkpoint folder of `name`. ModelNotFoundError says what was looked for and how to get it."""
    is_path = "/" in name or os.sep in name or name.startswith(("~", "."))
    if not is_path and _is_built_name(name) and _has_config(paths.models_dir() / name):
        return paths.models_dir() / name
    folder = Path(os.path.expanduser(name))
    if name and os.path.isdir(folder):
        if _is_half_built(folder):
            raise ModelNotFoundError(f"{name!r} is half built; expected a finished model: build it again")
        if _has_config(folder):
            return folder
        if not _HUB_ID.fullmatch(name):
            raise ModelNotFoundError(
                f"the folder {name!r} has no config.json; expected a Hugging Face checkpoint"
            )
    if _HUB_ID.fullmatch(name):
        return _find_hub_model(name)
    if is_path:
        raise ModelNotFoundError(
            f"no folder {name!r}; expected one with config.json, a built model or a hub id"
        )
    raise ModelNotFoundError(_unknown_name(name))


def list_models() -> list[KnownModel]:
    """The built models, then those in the Hugging Face cache whose config names DeepseekV3ForCausalLM; by name."""
    models = []
    for folder in _folders(paths.models_dir()):
        if _is_built_name(folder.name) and _has_config(folder):
            problem = None if _architectures(folder) else f"{folder / 'config.json'} names no architecture"
            models.append(
                KnownModel(folder.name, folder, "built", _weight_bytes(folder), problem or _missing(folder))
            )
    for folder in _folders(hub_cache_dir()):
        organisation, separator, model = folder.name.removeprefix("models--").partition("--")
        if folder.name.startswith("models--") and separator:
            snapshot = _snapshot(folder)
            if snapshot is not None and ARCHITECTURE in _architectures(snapshot):
                name = f"{organisation}/{model}"
                models.append(KnownModel(name, snapshot, "hub", _weight_bytes(snapshot), _missing(snapshot)))
    return models


def hub_cache_dir() -> Path:
    """Where the Hugging Face tools keep repositories: HF_HUB_CACHE, else `hub` in HF_HOME or ~/.cache/huggingface."""
    default_home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    home = os.environ.get("HF_HOME") or default_home
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(os.path.expanduser(chosen)))


def _find_hub_model(hub_id: str) -> Path:
    snapshot = _snapshot(hub_cache_dir() / f"models--{hub_id.replace('/', '--')}")
    if snapshot is None:
        raise ModelNotFoundError(
            f"{hub_id} is neither a folder nor in the Hugging Face cache{_near(hub_id)}; {_download(hub_id)}"
        )
    missing = "config.json is missing" if not _has_config(snapshot) else _missing(snapshot)
    if missing:
        raise ModelNotFoundError(
            f"{hub_id} is in the Hugging Face cache, but not complete: {missing}; the same command goes on where "
            f"it stopped; {_download(hub_id)}"
        )
    return snapshot


def _snapshot(repository: Path) -> Path | None:
    """The folder of the revision that refs/main names; without refs/main, the newest one."""
    snapshots = repository / "snapshots"
    try:
        revision = (repository / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        newest = sorted(_folders(snapshots), key=lambda folder: folder.stat().st_mtime)
        return newest[-1] if newest else None
    named = re.fullmatch(r"[0-9A-Za-z]+", revision) and os.path.isdir(snapshots / revision)
    return snapshots / revision if named else None


def _missing(folder: Path) -> str | None:
    """Which weight files are not there, in words; a cache's link to a file that has not arrived counts as missing."""
    index = _json(folder / "model.safetensors.index.json")
    weight_map = index.get("weight_map")
    if isinstance(weight_map, dict):
        shards = sorted({shard for shard in weight_map.values() if isinstance(shard, str)})
        missing = [shard for shard in shards if not os.path.isfile(folder / shard)]
        return (
            f"{len(missing)} of {len(shards)} weight files are missing, first {missing[0]!r}"
            if missing
            else None
        )
    if any(os.path.isfile(file) for file in folder.glob("*.safetensors")):
        return None
    return "no weight files (*.safetensors) are there"


def _download(hub_id: str) -> str:
    """The command that puts the model where `--model` looks, its size, and the free space there."""
    cache = hub_cache_dir()
    beside = Path(sys.executable).with_name("hf")  # in the environment, whether or not that is on PATH
    command = "hf" if shutil.which("hf") or not beside.is_file() else str(beside)
    size = f"{_DOWNLOAD_GB[hub_id]} GB" if hub_id in _DOWNLOAD_GB else "size unknown"
    existing = next((folder for folder in (cache, *cache.parents) if folder.is_dir()), None)
    free = f"{shutil.disk_usage(existing).free / 1e9:.1f} GB" if existing else "unknown"
    return f"download it with `{command} download {hub_id}` ({size}; free in {cache}: {free})"


def _near(hub_id: str) -> str:
    """A hint where `hub_id` is almost a model that is known."""
    known = [model.name for model in list_models() if model.origin == "hub"] + list(_DOWNLOAD_GB)
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(hub_id.lower(), by_lower, n=1, cutoff=0.75)
    return (
        f" (did you mean {by_lower[near[0]]}?)"
        if near and by_lower[near[0]] != hub_id and hub_id not in known
        else ""
    )


def _unknown_name(name: str) -> str:
    known = [model.name for model in list_models()]
    by_tail = {model.rpartition("/")[2].lower(): model for model in (*_DOWNLOAD_GB, *known)}
    near = difflib.get_close_matches(name.lower(), by_tail, n=1, cutoff=0.6)
    hint = f"; nearest known: {by_tail[near[0]]}" if near else ""
    return (
        f"no model called {name[:100]!r}{hint}; known here: {', '.join(known) or 'none'}; expected one of these, "
        f"a folder with config.json or a hub id such as {next(iter(_DOWNLOAD_GB))} (built models: {paths.models_dir()})"
    )


def _is_built_name(name: str) -> bool:
    return bool(name) and not name.startswith(".") and not name.endswith(_PARTIAL)


def _is_half_built(folder: Path) -> bool:
    """A folder that a builder or converter has not renamed yet."""
    real = Path(os.path.realpath(folder))
    return real.name.endswith(_PARTIAL) or (
        real.name.startswith(".") and real.parent == Path(os.path.realpath(paths.models_dir()))
    )


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir())
    except OSError:
        return []


def _has_config(folder: Path) -> bool:
    return os.path.isfile(folder / "config.json")


def _architectures(folder: Path) -> tuple[str, ...]:
    found = _json(folder / "config.json").get("architectures")
    return tuple(name for name in found if isinstance(name, str)) if isinstance(found, list) else ()


def _weight_bytes(folder: Path) -> int:
    return sum(os.path.getsize(file) for file in folder.glob("*.safetensors") if os.path.isfile(file))


def _json(path: Path) -> dict[str, Any]:
    """A JSON object, empty where the file is missing or is none: the loader says what is wrong with it."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
