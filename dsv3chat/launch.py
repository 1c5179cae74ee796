"""From flags, environment, settings and profile to what will run. Loads nothing and knows no screen."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsv3chat.settings import Settings
from engine import Profile, ProfileError, environment_overrides, find_profile, read_profile, with_overrides

DEFAULT_PROFILE = "nano-cpu"
DEFAULT_MODEL = "nano"


@dataclass(frozen=True, slots=True)
class Launch:
    """`model_origin` and `profile_origin` say in words who chose."""

    model: str
    model_origin: str
    profile: Profile
    profile_origin: str


def plan_launch(
    model: str | None = None,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    settings: Settings | None = None,
    environ: Mapping[str, str] | None = None,
) -> Launch:
    """Precedence, highest first: flag, DSV3CHAT_MODEL and DSV3CHAT_PROFILE, the settings file, what is built in.

    The model of a profile that a flag or the environment chose stands above the settings' model. Raises ProfileError.
    """
    for flag, value in (("--model", model), ("--profile", profile)):
        if value is not None and not value.strip():
            raise ProfileError(f"{flag} is empty; give a name or a path, or leave the flag out")
    settings = Settings() if settings is None else settings
    environ = os.environ if environ is None else environ
    profile_name, profile_origin = _first(
        (profile, "--profile"),
        (environ.get("DSV3CHAT_PROFILE"), "DSV3CHAT_PROFILE"),
        (settings.profile, "settings"),
        (DEFAULT_PROFILE, "default"),
    )
    read = read_profile(find_profile(profile_name))
    read = with_overrides(read, [*environment_overrides(environ), *overrides])
    asked = profile_origin in ("--profile", "DSV3CHAT_PROFILE")
    model_name, model_origin = _first(
        (model, "--model"),
        (environ.get("DSV3CHAT_MODEL"), "DSV3CHAT_MODEL"),
        (read.model if asked else None, f"profile {read.name}"),
        (settings.model, "settings"),
        (read.model, f"profile {read.name}"),
        (DEFAULT_MODEL, "default"),
    )
    return Launch(model_name, model_origin, read, profile_origin)


def _first(*choices: tuple[str | None, str]) -> tuple[str, str]:
    return next((value, origin) for value, origin in choices if value)
