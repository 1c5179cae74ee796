"""`dsv3chat plan`: what a model needs under a profile, on this machine or on one that flags describe. Loads no weights."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from dsv3chat import exit_codes
from dsv3chat.launch import Launch, plan_launch
from dsv3chat.nano import NAME
from dsv3chat.plain_output import write_json
from dsv3chat.plan_report import plan_json, plan_lines
from dsv3chat.plan_sizes import parse_rate, parse_size, parse_sizes
from dsv3chat.sanitize import clean, clean_line
from dsv3chat.settings import load_settings
from engine import (
    EVERYTHING,
    Machine,
    ModelShape,
    Profile,
    ProfileError,
    Rates,
    describe_machine,
    list_profiles,
    make_plan,
    missing_parts,
    probe,
    read_profile,
    read_rates,
    read_shape,
    remedies,
)
from engine.paths import models_dir

T = TypeVar("T")


def run_plan(flags: dict[str, Any]) -> int:
    """Print the plan; 0 when it fits, 4 when it does not. Raises what a wrong profile, model or flag is."""
    launch = plan_launch(
        flags["model"], flags["profile"], flags["overrides"], load_settings(), built=EVERYTHING
    )
    shape = model_shape(launch)
    plan = make_plan(shape, launch.profile, _machine(flags, shape))
    cure = None if plan.fits else remedies(plan, _candidates(launch.profile))
    missing = missing_parts(launch.profile)
    if flags["as_json"]:
        write_json(sys.stdout.buffer, {**plan_json(plan, cure, missing), "notes": list(launch.notes)})
    else:
        for note in launch.notes:
            click.echo(f"dsv3chat: {clean_line(note)}", err=True)
        for line in plan_lines(plan, cure, flags["rules"], missing):
            click.echo(clean(line).replace("\n", " ").replace("\t", " "))
    return exit_codes.OK if plan.fits else exit_codes.DOES_NOT_FIT


def model_shape(launch: Launch) -> ModelShape:
    """The shape of the model that would run; nano's is in the package, built or not."""
    if launch.model == NAME and not (models_dir() / NAME).exists():
        return read_shape(str(Path(__file__).parent / "nano" / "data" / "config.json"))
    return read_shape(launch.model)


def _machine(flags: dict[str, Any], shape: ModelShape) -> Machine:
    vram = [size for text in flags["vram"] for size in _given("--vram", text, parse_sizes)]

    def rates() -> Rates:
        if not flags["as_json"]:
            click.echo("dsv3chat: reading this machine's rates (kept in the cache folder)", err=True)
        return read_rates(_weights_file(shape), flags["measure"])

    return describe_machine(
        probe(),
        rates,
        None if flags["ram"] is None else _given("--ram", flags["ram"], parse_size),
        vram if flags["vram"] else None,
        *(
            None if flags[f"{name}_bandwidth"] is None
            else _given(f"--{name}-bandwidth", flags[f"{name}_bandwidth"], parse_rate)
            for name in ("ram", "disk", "gpu")
        ),
    )  # fmt: skip


def _given(flag: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise click.UsageError(f"{flag}: {error}") from error


def _weights_file(shape: ModelShape) -> Path | None:
    """The model's largest file, for the disk's rate; None for a shape without files."""
    if not shape.stored:
        return None
    files = [file for file in Path(shape.source).glob("*.safetensors") if file.is_file()]
    return max(files, key=lambda file: file.stat().st_size, default=None)


def _candidates(asked: Profile) -> Sequence[Profile]:
    """Every other profile that a name finds, whatever this version can run of it."""
    found = []
    for entry in list_profiles():
        if entry.name != asked.name and (entry.error is None or entry.missing):
            try:
                found.append(read_profile(entry.path, EVERYTHING))
            except ProfileError:  # changed since it was listed
                continue
    return found
