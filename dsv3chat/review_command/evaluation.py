"""`dsv3chat review --evaluate FILE`: reads labelled chunks, asks the model, prints the figures. Knows no scope and no report."""

from __future__ import annotations

from dsv3chat import cli_chat, exit_codes
from dsv3chat.interrupts import Interrupts
from dsv3chat.launch import plan_launch
from dsv3chat.plain_output import Narrator
from dsv3chat.review.evaluate import evaluate
from dsv3chat.review.labelled import read_labelled
from dsv3chat.review.model import describe_model
from dsv3chat.review_command.outputs import StandardOutput
from dsv3chat.review_command.request import Request
from dsv3chat.review_command.setup import protocol_of
from dsv3chat.settings import Settings

_LINE_EVERY = 10  # chunks, where the line cannot be redrawn


def run_evaluation(
    request: Request,
    settings: Settings,
    stdout: StandardOutput,
    narrator: Narrator,
    redraws: bool,
    interrupts: Interrupts,
) -> int:
    """Returns the exit code. A signal ends it with KeyboardInterrupt and without figures: those of a part would mislead."""
    assert request.evaluate is not None
    launch = plan_launch(request.model, request.profile, request.overrides, settings)
    model = describe_model(launch.model, launch.profile)
    protocol = protocol_of(request, model)
    labelled = read_labelled(request.evaluate, protocol)
    backend = cli_chat.make_backend(launch)

    def progress(done: int, total: int) -> None:
        if redraws:
            narrator.draw(f"evaluating {done}/{total} chunks")
        elif done % _LINE_EVERY == 0:
            narrator.say(f"{done}/{total} chunks")

    interrupts.stop, interrupts.raising = backend.cancel_load, True
    try:
        found = evaluate(
            labelled,
            backend,
            protocol,
            request.options,
            model=model,
            on_load=narrator.progress,
            on_progress=progress,
        )
    finally:
        interrupts.stop, interrupts.raising = lambda: None, False
        backend.close()
    narrator.erase()
    as_json = request.stdout is not None and request.stdout.name == "json"
    stdout.text(found.to_json() if as_json else found.to_text())
    return exit_codes.OK
