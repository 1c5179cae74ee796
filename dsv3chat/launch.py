"""From flags, environment, project, settings and profile to what will run. Loads nothing and knows no screen.

A project's own file and profiles (`.dsv3chat/` of the working folder) may come with somebody else's repository: what they
decide is in `Launch.notes`, which every front end shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsv3chat.settings import Settings
from engine import (
    BUILT,
    PROJECT_PROFILES,
    Built,
    Profile,
    ProfileError,
    ProjectFile,
    environment_overrides,
    find_profile,
    read_profile,
    read_project_file,
    with_overrides,
)

DEFAULT_PROFILE = "nano-cpu"
STORED_PROFILE = "as-stored"  # of a model other than nano: what a conversion chose, no default widens
DEFAULT_MODEL = "nano"
PROJECT = "project file"


@dataclass(frozen=True, slots=True)
class Launch:
    """`model_origin` and `profile_origin` say in words who chose, `notes` what files of the working folder decide."""

    model: str
    model_origin: str
    profile: Profile
    profile_origin: str
    notes: tuple[str, ...] = ()


def plan_launch(
    model: str | None = None,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
    built: Built = BUILT,
) -> Launch:
    """Precedence, highest first: flag, environment, the project's file, the user's settings, what is built in.

    So for `model` and `profile`, where the model of a profile that was chosen stands above what is said below the choice;
    and for each key of the profile, whose file stands last. Where no profile is chosen, nano gets its own and every other
    model one that takes weights as they are stored. Raises ProfileError.
    """
    for flag, value in (("--model", model), ("--profile", profile)):
        if value is not None and not value.strip():
            raise ProfileError(f"{flag} is empty; give a name or a path, or leave the flag out")
    settings = Settings() if settings is None else settings
    environ = os.environ if environ is None else environ
    project = read_project_file(built=built)
    in_project = ProjectFile(Path()) if project is None else project
    asked = model or environ.get("DSV3CHAT_MODEL") or in_project.model or settings.model
    profile_name, profile_origin = _first(
        (profile, "--profile"),
        (environ.get("DSV3CHAT_PROFILE"), "DSV3CHAT_PROFILE"),
        (in_project.profile, PROJECT),
        (settings.profile, "settings"),
        (DEFAULT_PROFILE if asked in (None, DEFAULT_MODEL) else STORED_PROFILE, "default"),
    )
    file = find_profile(profile_name)
    read = in_project.apply(read_profile(file, built))
    read = with_overrides(read, [*environment_overrides(environ, built), *overrides], built)
    by_hand = profile_origin in ("--profile", "DSV3CHAT_PROFILE")
    by_project = profile_origin == PROJECT
    of_profile = f"profile {read.name}"
    model_name, model_origin = _first(
        (model, "--model"),
        (environ.get("DSV3CHAT_MODEL"), "DSV3CHAT_MODEL"),
        (read.model if by_hand else None, of_profile),
        (in_project.model, PROJECT),
        (read.model if by_project else None, of_profile),
        (settings.model, "settings"),
        (read.model, of_profile),
        (DEFAULT_MODEL, "default"),
    )
    notes = tuple(_notes(project, file, model_name if model_origin == of_profile else None))
    return Launch(model_name, model_origin, read, profile_origin, notes)


def _notes(project: ProjectFile | None, profile: Path, its_model: str | None) -> Iterator[str]:
    """What the working folder decides. `its_model`: the model, where the profile chose it."""
    if project is not None and project.lines:
        yield f"{project.path} of this folder sets {', '.join(project.lines)}"
    if profile.parent == PROJECT_PROFILES:
        model = f", and its model {its_model}" if its_model else ""
        yield f"the profile is this folder's own, {profile}{model}"


def _first(*choices: tuple[str | None, str]) -> tuple[str, str]:
    return next((value, origin) for value, origin in choices if value)
