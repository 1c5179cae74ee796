"""Every error as a message and an exit code, on standard error or as JSON. Knows no command."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import click

from dsv3chat import exit_codes
from dsv3chat.sanitize import clean
from engine import EngineClosedError, EngineError, GenerationError, LoadCancelledError
from engine.paths import private_dir, state_dir

Form: TypeAlias = Literal["text", "json", "jsonl"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line asks for, as far as an error must know it, be the rest of it wrong."""

    form: Form = "text"
    review: bool = False  # whose exit code 1 means findings


def asked_for(arguments: Sequence[str]) -> Asked:
    """From the raw command line: click may not get as far as the flag that counts."""
    if arguments[:1] != ["review"]:
        forms: dict[str, Form] = {"--json": "json", "--jsonl": "jsonl"}
        return Asked(next((form for flag, form in forms.items() if flag in arguments), "text"))
    from dsv3chat.review.formats import FORMATS

    name = ""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument in ("-f", "--format"):
            name = following
        elif argument.startswith("--format="):
            name = argument.removeprefix("--format=")
        elif argument.startswith("-f") and not argument.startswith("--"):
            name = argument.removeprefix("-f")
        elif argument == "--":
            break
    return Asked(FORMATS[name].errors if name in FORMATS else "text", review=True)


def exit_code_of(error: Exception, review: bool = False) -> int | None:
    """The code of an error that is the world's or the user's; None for a fault of this program."""
    from dsv3chat.attachments import AttachmentError
    from dsv3chat.plain_input import InputError
    from dsv3chat.plain_output import OutputError
    from dsv3chat.settings import SettingsError
    from dsv3chat.store import StoreError

    if isinstance(error, LoadCancelledError | click.Abort):
        return exit_codes.INTERRUPTED
    if review:
        from dsv3chat.review.baseline import BaselineError
        from dsv3chat.review.evaluate import EvaluationError
        from dsv3chat.review.labelled import LabelledFileError
        from dsv3chat.review.reviewer import NothingToResumeError
        from dsv3chat.review.scope import ScopeError

        if isinstance(error, EngineClosedError | GenerationError | OutputError | EvaluationError):
            return exit_codes.INCOMPLETE
        if isinstance(error, BaselineError | LabelledFileError | NothingToResumeError | ScopeError):
            return exit_codes.USAGE
    if isinstance(error, EngineClosedError | GenerationError | OutputError):
        return exit_codes.FAILED
    expected = (EngineError, AttachmentError, InputError, SettingsError, StoreError, click.ClickException)
    return exit_codes.USAGE if isinstance(error, expected) else None


def report(error: Exception, asked: Asked = Asked()) -> int:
    """Say what happened, as JSON on standard output if that was asked for; a fault of this program goes to a log file.

    Returns the exit code.
    """
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    code = exit_code_of(error, asked.review)
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    if isinstance(error, click.Abort):
        message = "interrupted"
    if code is None:
        code = exit_codes.INTERNAL
        message = f"internal error: {type(error).__name__}: {message}; {_write_log(error)}"
    from dsv3chat.plain_output import JsonLinesOutput, JsonOutput, OutputError

    if asked.form != "text" and not isinstance(error, OutputError):
        output = JsonOutput(sys.stdout.buffer) if asked.form == "json" else JsonLinesOutput(sys.stdout.buffer)
        try:
            output.error(message, type(error).__name__, code)
            return code
        except OutputError as failure:  # both go to standard error
            message = f"{message}\n  {failure}"
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    click.echo(clean(f"dsv3chat: {message}"), err=True)
    return code


def _write_log(error: Exception) -> str:
    """The traceback in a private file of the state folder; returns words that say where, or why not."""
    text = "".join(traceback.format_exception(error))
    path: Path = state_dir() / "logs" / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        private_dir(path.parent)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as failure:
        return f"no log could be written to {path}: {failure.strerror}"
    return f"the details are in {path}"
