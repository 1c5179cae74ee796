"""`dsv3chat review`: in lines, around the screen, or as an evaluation. Knows no model and no widget."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dsv3chat import cli_chat
from dsv3chat.interrupts import Interrupts
from dsv3chat.mode import can_redraw, choose_mode, is_terminal, terminals
from dsv3chat.plain_output import Narrator
from dsv3chat.review.formats import Document
from dsv3chat.review.formats.document import conclusion
from dsv3chat.review.values import Report
from dsv3chat.review_command.evaluation import run_evaluation
from dsv3chat.review_command.lines import LineReview
from dsv3chat.review_command.outputs import StandardOutput, write_targets
from dsv3chat.review_command.request import Request, read_request
from dsv3chat.review_command.setup import Setup, exit_code_left, open_setup
from dsv3chat.settings import Settings, load_settings
from engine import LoadCancelledError, LoadProgress, SamplingParams


def run_review(flags: Mapping[str, Any]) -> int:
    """Returns the exit code. Raises what the command line reports: its usage, the scope, the model, the output."""
    request = read_request(flags)
    settings = load_settings()
    if _opens_screen(request):
        setup = open_setup(request, settings, b"", Narrator(redraws=False).say)
        if setup.scope.files:
            return _full_screen(setup, settings)
        setup.cache.close()  # nothing to show: the lines say why
    to_terminal = terminals().stdout  # asked before the descriptors change places
    redraws = is_terminal(sys.stderr) and can_redraw()
    narrator = Narrator(redraws)
    with cli_chat.data_stream() as out, Interrupts() as interrupts:
        stdout = StandardOutput(out, request.stdout, to_terminal)
        try:
            if request.evaluate is not None:
                return run_evaluation(request, settings, stdout, narrator, redraws, interrupts)
            return LineReview(request, settings, stdout, narrator, interrupts, redraws).run()
        except KeyboardInterrupt:
            raise LoadCancelledError("interrupted before anything was reviewed") from None
        finally:
            narrator.erase()


def _opens_screen(request: Request) -> bool:
    lines = (
        request.format_given
        or request.dry_run
        or request.update_baseline
        or request.evaluate is not None
        or request.kind == "stdin"
    )
    return not choose_mode(machine=lines).plain


def _full_screen(setup: Setup, settings: Settings) -> int:
    """The review screen; files are written and the exit code is chosen when it is left."""
    from dsv3chat.review_command.program import run_review_screen
    from dsv3chat.screens.review_job import ReviewJob

    request = setup.request
    backend = cli_chat.make_backend(setup.launch)
    waiting, setups = [setup], [setup]  # the last of `setups` is of the review that is on the screen

    def document(report: Report) -> Document:
        return setups[-1].document(report, exit_code_left(report, request.fail_on))

    def prepare(on_load: Callable[[LoadProgress], None]) -> ReviewJob:
        if waiting:
            now = waiting.pop()
        else:  # a second run: the files may have changed
            now = open_setup(request, settings, b"", lambda text: None)
            setups.append(now)
        outputs = tuple(map(str, request.targets))
        return ReviewJob(now.review(backend, on_load), now.scope, document, now.baseline_file, outputs)

    sys.setswitchinterval(cli_chat.SWITCH_SECONDS)
    try:
        outcome = run_review_screen(backend, prepare, settings, SamplingParams(), Path.cwd())
    finally:
        backend.close()
        for opened in setups:
            opened.cache.close()
    if outcome.report is None:
        return outcome.code
    code = outcome.code or exit_code_left(outcome.report, request.fail_on)
    write_targets(request.targets, setups[-1].document(outcome.report, code))
    narrator = Narrator(redraws=False)
    for target in request.targets:
        narrator.say(f"wrote {target}")
    narrator.say(conclusion(outcome.report))
    return code
