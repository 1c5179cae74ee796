"""`dsv3chat config show [--origin]`: every effective value, and who set it. Loads nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from dsv3chat import exit_codes
from dsv3chat.launch import Launch, plan_launch
from dsv3chat.plain_output import write_json
from dsv3chat.profile_difference import rule_text, shown_value
from dsv3chat.sanitize import clean_line
from dsv3chat.settings import KEYS as SETTINGS
from dsv3chat.settings import Settings, load_settings, settings_path
from engine import (
    EVERYTHING,
    PROJECT_FILE,
    environment_overrides,
    profile_lines,
    profile_values,
    read_project_file,
)

BUILT_IN = "built in"


def run_config_show(
    model: str | None, profile: str | None, overrides: Sequence[str], origin: bool, as_json: bool
) -> int:
    """Returns the exit code. Raises ProfileError and SettingsError for what is wrong on the way."""
    settings = load_settings()
    launch = plan_launch(model, profile, overrides, settings, built=EVERYTHING)
    rows = list(effective(launch, settings, overrides, os.environ))
    if as_json:
        values = {key: {"value": value, "origin": where} for key, value, where in rows}
        write_json(sys.stdout.buffer, {"values": values, "notes": list(launch.notes)})
        return exit_codes.OK
    for note in launch.notes:
        click.echo(f"dsv3chat: {clean_line(note)}", err=True)
    width = max(len(key) for key, _, _ in rows)
    shown = [(key, shown_value(value), where) for key, value, where in rows]
    value_width = min(40, max(len(value) for _, value, _ in shown))
    for key, value, where in shown:
        line = (
            f"{key:{width}}  {value:{value_width}}  {clean_line(where)}"
            if origin
            else f"{key:{width}}  {value}"
        )
        click.echo(line.rstrip())
    return exit_codes.OK


def effective(
    launch: Launch, settings: Settings, overrides: Sequence[str], environ: Mapping[str, str]
) -> Iterator[tuple[str, Any, str]]:
    """(key, value, who set it): the interface's settings, model and profile, then every key of the profile and its rules."""
    own = settings_path()
    for key in SETTINGS:
        if key not in ("model", "profile"):
            value = getattr(settings, key)
            default = value == getattr(Settings(), key)
            yield key, dict(value) if key == "keymap" else value, BUILT_IN if default else str(own)
    yield "model", launch.model, _named(launch.model_origin)
    yield "profile", launch.profile.name, _named(launch.profile_origin)
    origins = _origins(launch, overrides, environ)
    for key, value in profile_values(launch.profile).items():
        if key not in ("name", "model"):
            yield (
                key,
                value,
                origins.get(key, BUILT_IN if value is not None else "the checkpoint, else built in"),
            )
    for index, rule in enumerate(launch.profile.rules):
        yield f"optimization_rules[{index}]", rule_text(rule), f"{launch.profile.source}:{rule.line}"


def _origins(launch: Launch, overrides: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Key -> who set it last: the profile's file, the project's file, the environment, --set."""
    source = launch.profile.source
    found = {} if source is None else {key: f"{source}:{line}" for key, line in profile_lines(source).items()}
    project = read_project_file(built=EVERYTHING)
    if project is not None:
        found |= {key: f"{project.path}:{project.lines[key]}" for key in project.values}
    for entry in environment_overrides(environ, EVERYTHING):
        key = entry.partition("=")[0]
        found[key] = f"environment, DSV3CHAT_{key.replace('.', '_').upper()}"
    return found | {entry.partition("=")[0].strip(): "--set" for entry in overrides}


def _named(origin: str) -> str:
    """An origin of Launch with the file that it means."""
    if origin == "settings":
        return str(settings_path())
    return str(PROJECT_FILE) if origin == "project file" else BUILT_IN if origin == "default" else origin
