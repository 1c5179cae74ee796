"""`dsv3chat eval`: its flags, and the profiles and text they name. Imports what measures only when something is measured."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsv3chat import exit_codes
from dsv3chat.interrupts import Interrupts
from dsv3chat.sanitize import clean_line

if TYPE_CHECKING:
    from dsv3chat.launch import Launch
    from dsv3chat.plain_output import Narrator
    from engine import Evaluation, EvaluationProgress


@click.command("eval")
@click.argument("model", required=False)
@click.option("--profiles", metavar="A,B,C", help="Names or files. Default: the chat's profile.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME=PROFILE[,KEY=VALUE]...",
    help="A profile with other values, under a name of its own. Repeatable.",
)
@click.option("--text", metavar="FILE", help="The text to predict, UTF-8. Default: the program's own.")
@click.option(
    "--tokens", type=click.IntRange(min=2), default=2048, show_default=True, help="Of the text, at most."
)
@click.option(
    "--answers",
    type=click.IntRange(0, 8),
    default=4,
    show_default=True,
    help="Greedy answers, of up to 512 tokens, in which repetition is counted.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of every profile. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with the values by block.")
def evaluation(**flags: Any) -> int:
    """Measure what profiles cost in quality, against the weights as stored with float32 arithmetic.

    MODEL is a name, a folder or a hub id; default: the chat's. For each profile: bytes of the weights, perplexity of a
    text, mean KL divergence from the reference (nats a token, over the whole vocabulary), how often the likeliest token
    is the same, the share of 4-grams that an answer repeats, and how many answers the loop guard would have stopped.

    After ± stands a standard error, from differences by blocks of 64 tokens. The text is read in windows of 512 tokens
    that move by 256, so that a counted token has at least 256 before it. One model is in memory at a time; the
    reference's logits (tokens x vocabulary x 4 bytes) lie in the cache folder meanwhile.
    """
    from dsv3chat.evaluation_table import to_json, to_text
    from dsv3chat.mode import can_redraw, is_terminal
    from dsv3chat.plain_output import JsonOutput, Narrator, write_json

    launches = _launches(flags["model"], flags["profiles"], flags["variants"], flags["overrides"])
    text = None if flags["text"] is None else _read_text(Path(flags["text"]))
    redraws = is_terminal(sys.stderr) and can_redraw()
    narrator = Narrator(redraws)
    with Interrupts() as interrupts:
        interrupts.raising = True
        try:
            found = _measure(launches, text, flags["tokens"], flags["answers"], narrator, redraws)
        except KeyboardInterrupt:
            narrator.erase()
            code, message = (
                interrupts.exit_code or exit_codes.INTERRUPTED,
                "interrupted before there was a table",
            )
            if flags["as_json"]:
                JsonOutput(sys.stdout.buffer).error(message, "KeyboardInterrupt", code)
            else:
                narrator.say(message)
            return code
    narrator.erase()
    if flags["as_json"]:
        write_json(sys.stdout.buffer, to_json(found))
    else:
        click.echo(to_text(found))
    return exit_codes.OK


def _launches(
    model: str | None, profiles: str | None, variants: Sequence[str], overrides: Sequence[str]
) -> dict[str, Launch]:
    """By the name in the table: what each profile is, with every source of its keys asked."""
    from dsv3chat.launch import plan_launch
    from dsv3chat.settings import load_settings

    asked: list[tuple[str | None, str | None, list[str]]] = []  # name in the table, profile, values
    for profile in [] if profiles is None else profiles.split(","):
        if not profile.strip():
            raise click.UsageError(
                f"--profiles {profiles!r}: found an empty name; expected names such as a,b"
            )
        asked.append((None, profile.strip(), []))
    for variant in variants:
        name, separator, rest = variant.partition("=")
        base, *values = rest.split(",")
        if not (name.strip() and separator and base.strip()):
            raise click.UsageError(
                f"--variant {variant!r}: expected NAME=PROFILE[,KEY=VALUE]..., such as "
                "g32=nano-int4,defaults.group_size=32"
            )
        asked.append((name.strip(), base.strip(), values))
    settings = load_settings()
    found: dict[str, Launch] = {}
    for given, source, values in asked or [(None, None, [])]:
        launch = plan_launch(model, source, [*overrides, *values], settings)
        label = launch.profile.name if given is None else given
        if label in found:
            raise click.UsageError(
                f"two profiles would be called {label!r} in the table; name one with --variant"
            )
        found[label] = replace(launch, profile=replace(launch.profile, name=label))
    return found


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise click.UsageError(f"--text {str(path)!r}: cannot be read as UTF-8 text: {reason}") from error


def _measure(
    launches: Mapping[str, Launch],
    text: str | None,
    tokens: int,
    answers: int,
    narrator: Narrator,
    redraws: bool,
) -> Evaluation:
    from dsv3chat.models import resolve_model

    first = next(iter(launches.values()))
    for note in dict.fromkeys(note for launch in launches.values() for note in launch.notes):
        narrator.say(note)
    folder = resolve_model(first.model, narrator.progress, lambda: False)
    from engine import evaluate  # torch: seconds

    said = ""

    def progress(at: EvaluationProgress) -> None:
        nonlocal said
        line = f"{clean_line(at.name)} ({at.index + 1} of {at.count}): {at.stage}"
        if redraws:
            share = f" {100 * at.done // at.total} %" if at.total else ""
            narrator.draw(line + share)
        elif line != said:
            narrator.say(line)
        said = line

    profiles = {name: launch.profile for name, launch in launches.items()}
    return evaluate(folder, profiles, text, max_tokens=tokens, num_answers=answers, on_progress=progress)
