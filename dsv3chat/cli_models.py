"""`dsv3chat models`: what --model knows by name, as a table or JSON. Knows no command line and loads nothing."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from dsv3chat import exit_codes
from dsv3chat.models import known_models
from dsv3chat.plain_output import write_json
from dsv3chat.sanitize import clean_line

HINT = "--model also takes a folder, or a hub id that is in the Hugging Face cache"


def run_models(as_json: bool) -> int:
    """Returns the exit code."""
    found = known_models()
    if as_json:
        write_json(sys.stdout.buffer, {"models": [asdict(m) | {"path": str(m.path)} for m in found]})
        return exit_codes.OK
    width = max(len(clean_line(m.name)) for m in found)
    for model in found:
        size = f"{model.size_bytes / 1e9:.1f} GB"
        click.echo(f"{clean_line(model.name):{width}}  {size:>9}  {model.state}: {clean_line(model.note)}")
        click.echo(f"{'':{width}}  {clean_line(str(model.path))}")
    click.echo(HINT, err=True)
    return exit_codes.OK
