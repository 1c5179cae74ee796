"""`dsv3chat profiles list|show|validate|diff`: the profiles themselves. Reads a model's shape at most, loads nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from dsv3chat import exit_codes
from dsv3chat.plain_output import write_json
from dsv3chat.profile_difference import changed_keys, rule_lines, rule_text, shown_value
from dsv3chat.sanitize import clean, clean_line
from engine import (
    EVERYTHING,
    Profile,
    compute_need,
    find_profile,
    list_profiles,
    missing_parts,
    profile_values,
    read_profile,
    read_shape,
)


def run_list(as_json: bool) -> int:
    """Every profile that a name finds, with what is wrong or missing. Returns the exit code."""
    found = list_profiles()
    if as_json:
        write_json(
            sys.stdout.buffer, {"profiles": [asdict(entry) | {"path": str(entry.path)} for entry in found]}
        )
        return exit_codes.OK
    width = max((len(clean_line(entry.name)) for entry in found), default=0)
    for entry in found:
        click.echo(f"{clean_line(entry.name):{width}}  {entry.origin:7}  {clean_line(entry.description)}")
        if entry.missing:
            click.echo(f"{'':{width}}  not in this version: {clean_line(', '.join(entry.missing))}")
        elif entry.error:
            click.echo(f"{'':{width}}  cannot be used: {clean_line(entry.error)}")
    return exit_codes.OK


def run_show(name: str, as_json: bool) -> int:
    """The file as it stands, or its values. Returns the exit code."""
    path = find_profile(name)
    profile = read_profile(path, EVERYTHING)
    missing = missing_parts(profile)
    if as_json:
        write_json(sys.stdout.buffer, {"path": str(path), "missing": list(missing), **_json(profile)})
        return exit_codes.OK
    click.echo(f"dsv3chat: {clean_line(str(path))}{_missing_words(missing)}", err=True)
    click.echo(clean(path.read_text(encoding="utf-8-sig")), nl=False)
    return exit_codes.OK


def run_validate(files: Sequence[str], model: str | None) -> int:
    """Says of each file that it is right, and of which model; what this version lacks is told. The first that is not is a
    ProfileError or, where a rule has no way in the model, a PlacementError, which are exit code 2."""
    shape = None if model is None else read_shape(model)
    for file in files:
        path = find_profile(file)
        profile = read_profile(path, EVERYTHING)
        if shape is not None:
            compute_need(shape, profile)
        count = len(profile.rules)
        click.echo(
            f"{clean_line(str(path))}: valid{'' if shape is None else f' for {clean_line(shape.name)}'}, "
            f"{count} {'rule' if count == 1 else 'rules'}{_missing_words(missing_parts(profile))}"
        )
    return exit_codes.OK


def run_diff(first: str, second: str, as_json: bool) -> int:
    """Keys and rules that differ; 0 also when none does. Returns the exit code."""
    a, b = (read_profile(find_profile(name), EVERYTHING) for name in (first, second))
    keys = changed_keys(a, b)
    rules = [list(map(rule_text, profile.rules)) for profile in (a, b)]
    if as_json:
        document = {"keys": {key: list(values) for key, values in keys.items()}, "rules": rules}
        write_json(sys.stdout.buffer, document | {"same": not keys and rules[0] == rules[1]})
        return exit_codes.OK
    for key, (left, right) in keys.items():
        click.echo(f"  {key}: {shown_value(left)} -> {shown_value(right)}")
    if rules[0] != rules[1]:
        for line in rule_lines(a, b):
            click.echo(clean_line(line[:2]).ljust(2) + clean_line(line[2:]))
    elif not keys:
        click.echo(f"{a.name} and {b.name} say the same")
    return exit_codes.OK


def _missing_words(missing: tuple[str, ...]) -> str:
    return f"; not in this version: {', '.join(missing)}" if missing else ""


def _json(profile: Profile) -> dict[str, Any]:
    return {
        "values": profile_values(profile),
        "optimization_rules": [
            {key: value for key, value in asdict(rule).items() if value is not None} for rule in profile.rules
        ],
    }
