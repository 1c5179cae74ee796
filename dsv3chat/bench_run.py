"""What `dsv3chat bench` does: asks the engine, narrates on standard error, writes a table or JSON. Knows no kernel."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from dsv3chat import exit_codes
from dsv3chat.bench_table import kernels_json, kernels_text, model_json, model_text
from dsv3chat.interrupts import Interrupts
from dsv3chat.launch import Launch, plan_launch
from dsv3chat.mode import can_redraw, is_terminal
from dsv3chat.models import resolve_model
from dsv3chat.nano import NAME
from dsv3chat.plain_output import Narrator, write_json
from dsv3chat.sanitize import clean_line
from dsv3chat.settings import load_settings
from engine import BenchmarkProgress, BenchmarkTask, benchmark_kernels, benchmark_model
from engine.paths import models_dir


def run_model(flags: Mapping[str, Any]) -> int:
    """Returns the exit code; raises what a wrong profile, model or size is, before anything is measured."""
    launches = _launches(flags["model"], flags["profiles"], flags["overrides"])
    task = BenchmarkTask(flags["prompt"], flags["new"], flags["depth"], flags["runs"], flags["chunk_sizes"])
    narrator, progress = _narration()
    for note in dict.fromkeys(note for launch in launches.values() for note in launch.notes):
        narrator.say(note)
    first = next(iter(launches.values()))
    with Interrupts() as interrupts:
        found = benchmark_model(
            _model(first.model, flags["random_weights"], narrator, lambda: interrupts.number is not None),
            {name: launch.profile for name, launch in launches.items()},
            task,
            random_weights=flags["random_weights"],
            layers=flags["layers"],
            on_progress=progress,
            cancelled=lambda: interrupts.number is not None,
        )
    narrator.erase()
    if flags["as_json"]:
        write_json(sys.stdout.buffer, model_json(found))
    else:
        click.echo(model_text(found))
    if not found.complete:
        return _stopped(narrator, interrupts)
    if any(missing.fits for missing in found.not_measured):
        return exit_codes.FAILED
    return exit_codes.DOES_NOT_FIT if found.not_measured else exit_codes.OK


def run_kernels(flags: Mapping[str, Any]) -> int:
    """Returns the exit code."""
    narrator, progress = _narration()
    with Interrupts() as interrupts:
        found = benchmark_kernels(
            flags["shapes"],
            flags["formats"],
            flags["threads"],
            flags["runs"],
            on_progress=progress,
            cancelled=lambda: interrupts.number is not None,
        )
    narrator.erase()
    if flags["as_json"]:
        write_json(sys.stdout.buffer, kernels_json(found))
    else:
        click.echo(kernels_text(found))
    return exit_codes.OK if found.complete else _stopped(narrator, interrupts)


def _stopped(narrator: Narrator, interrupts: Interrupts) -> int:
    narrator.say("interrupted; what was measured until then is above")
    return interrupts.exit_code or exit_codes.INTERRUPTED


def _launches(model: str | None, profiles: str | None, overrides: Sequence[str]) -> dict[str, Launch]:
    """By the name in the table: what each profile is, with every source of its keys asked."""
    settings = load_settings()
    found: dict[str, Launch] = {}
    for profile in [None] if profiles is None else profiles.split(","):
        if profile is not None and not profile.strip():
            raise click.UsageError(f"--profile {profiles!r}: found an empty name; expected names such as a,b")
        launch = plan_launch(model, None if profile is None else profile.strip(), overrides, settings)
        if launch.profile.name in found:
            raise click.UsageError(
                f"two profiles would be called {launch.profile.name!r} in the table; rename one"
            )
        found[launch.profile.name] = launch
    return found


def _model(name: str, random_weights: bool, narrator: Narrator, cancelled: Callable[[], bool]) -> str:
    """The folder, or with random weights whatever says the shape; nano's is in the package, built or not."""
    if not random_weights:
        return str(resolve_model(name, narrator.progress, cancelled))
    if name == NAME and not (models_dir() / NAME).exists():
        return str(Path(__file__).parent / "nano" / "data" / "config.json")
    return name


def _narration() -> tuple[Narrator, Callable[[BenchmarkProgress], None]]:
    redraws = is_terminal(sys.stderr) and can_redraw()
    narrator = Narrator(redraws)
    said = ""

    def progress(at: BenchmarkProgress) -> None:
        nonlocal said
        line = f"{clean_line(at.profile)}: {at.stage}"
        if redraws:
            narrator.draw(line + (f" {100 * at.done // at.total} %" if at.total else ""))
        elif line != said:
            narrator.say(line)
        said = line

    return narrator, progress
