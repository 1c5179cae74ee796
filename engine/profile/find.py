"""Names of profiles to files, in order of precedence. Knows what a file holds only through the reader.

A bare name is looked up as NAME.yaml or NAME.yml in
1. `.dsv3chat/profiles/` of the working folder (a project's own),
2. `engine.paths.user_profiles_dir()`,
3. the profiles that come with the program.
The first file found is the profile, whole: files of one name are not merged. What has a folder in it or ends in
.yaml or .yml is a path.
"""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from engine import paths
from engine.errors import ProfileError
from engine.profile.built import EVERYTHING
from engine.profile.missing import missing_parts
from engine.profile.reader import read_profile
from engine.profile.scalars import nearest, shown

Origin: TypeAlias = Literal["project", "user", "shipped"]
PROJECT_PROFILES = Path(".dsv3chat") / "profiles"
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class ProfileEntry:
    """One known profile. `error` says why the file cannot be used, None where it can. `missing` is what it asks for and
    this build lacks (then `error` says so too): the file is right, and a plan can be made."""

    name: str
    path: Path
    origin: Origin
    description: str = ""
    error: str | None = None
    missing: tuple[str, ...] = ()


def find_profile(name_or_path: str) -> Path:
    """The file of a profile. ProfileError with the known names and the nearest one when there is none."""
    is_path = name_or_path.endswith(_SUFFIXES) or "/" in name_or_path or os.sep in name_or_path
    if not is_path:
        for _, folder in _folders():
            for suffix in _SUFFIXES:
                if os.path.isfile(folder / (name_or_path + suffix)):
                    return folder / (name_or_path + suffix)
    path = Path(os.path.expanduser(name_or_path))  # Path.expanduser raises for ~nobody
    if os.path.isfile(path):
        return path
    known = sorted(_files())
    if is_path:
        raise ProfileError(
            f"{shown(name_or_path, 300)}: no such profile file; known by name: {', '.join(known)}"
        )
    places = ", ".join(str(folder) for _, folder in _folders())
    raise ProfileError(
        f"profile {shown(name_or_path)}: no such profile{nearest(name_or_path, known)}; "
        f"known: {', '.join(known) or 'none'}; looked in {places}"
    )


def list_profiles() -> list[ProfileEntry]:
    """Every profile that a name finds, by name; a broken file is listed with its error."""
    entries = []
    for name, (origin, path) in sorted(_files().items()):
        try:
            entries.append(ProfileEntry(name, path, origin, read_profile(path).description))
        except ProfileError as error:
            entries.append(_unusable(name, path, origin, str(error)))
    return entries


def _unusable(name: str, path: Path, origin: Origin, error: str) -> ProfileEntry:
    """Wrong, or right and only not built yet."""
    try:
        profile = read_profile(path, EVERYTHING)
    except ProfileError:
        return ProfileEntry(name, path, origin, error=error)
    return ProfileEntry(name, path, origin, profile.description, error, missing_parts(profile))


def _folders() -> tuple[tuple[Origin, Path], ...]:
    return (
        ("project", PROJECT_PROFILES),
        ("user", paths.user_profiles_dir()),
        ("shipped", paths.shipped_profiles_dir()),
    )


def _files() -> dict[str, tuple[Origin, Path]]:
    """Name -> the file that wins."""
    files: dict[str, tuple[Origin, Path]] = {}
    for origin, folder in _folders():
        try:
            found = sorted(folder.iterdir())  # .yaml before .yml
        except OSError:
            continue
        for path in found:
            if path.suffix in _SUFFIXES and not path.name.startswith(".") and os.path.isfile(path):
                files.setdefault(path.stem, (origin, path))
    return files
