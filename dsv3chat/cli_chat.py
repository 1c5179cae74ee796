"""`dsv3chat` itself: chooses full screen or plain, opens what it needs, closes it again. Knows no widget."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from dsv3chat import exit_codes
from dsv3chat.backend import ChatBackend
from dsv3chat.cli_errors import exit_code_of
from dsv3chat.conversation import Conversation
from dsv3chat.engine_backend import EngineBackend
from dsv3chat.interrupts import Interrupts
from dsv3chat.launch import Launch, plan_launch
from dsv3chat.mode import can_redraw, choose_mode, is_terminal, terminals
from dsv3chat.nano import ABOUT, NAME
from dsv3chat.places import open_store
from dsv3chat.plain_output import JsonLinesOutput, JsonOutput, Narrator, Output, OutputError, TextOutput
from dsv3chat.sanitize import clean_line
from dsv3chat.settings import Settings, load_settings
from dsv3chat.store import Store, StoreError
from engine import JsonSchema, SamplingParams
from engine.paths import models_dir

SWITCH_SECONDS = 0.001  # the engine thread hands over sooner: keys are painted in 10 ms instead of 24


@dataclass(frozen=True, slots=True)
class Start:
    """All that the flags, the settings and the saved conversations say, before a model is loaded."""

    backend: ChatBackend
    settings: Settings
    params: SamplingParams
    conversation: Conversation
    store: Store | None
    resumed: bool
    first_start: bool  # of nano: it will be built


def make_backend(launch: Launch) -> ChatBackend:
    """The in-process engine."""
    return EngineBackend(launch.model, launch.profile, launch.notes)


def run_chat(flags: Mapping[str, Any]) -> int:
    """Returns the exit code."""
    if flags["as_json"] and flags["as_jsonl"]:
        raise click.UsageError("--json and --jsonl exclude each other")
    if flags["go_on"] and flags["resume"] is not None:
        raise click.UsageError("-c and --resume exclude each other")
    machine = flags["as_json"] or flags["as_jsonl"]
    mode = choose_mode(flags["prompt"] is not None, machine)
    one_question = flags["prompt"] is not None or machine or not terminals().stdin or flags["no_stdin"]
    if flags["schema"] is not None:
        if not mode.plain or not one_question:
            raise click.UsageError("--schema is for one question: -p, standard input, --json or --jsonl")
        if flags["stop"]:
            raise click.UsageError("--stop would cut the JSON that --schema asks for; leave one of them out")
    if not mode.plain:
        return _full_screen(flags)
    to_terminal = terminals().stdout  # asked before the descriptors change places
    narrator = Narrator(is_terminal(sys.stderr) and can_redraw())
    with data_stream() as out:
        return _plain(flags, _output(flags, out, to_terminal, narrator), narrator, one_question)


def _full_screen(flags: Mapping[str, Any]) -> int:
    start = _start(flags, saved=True, say=lambda text: click.echo(f"dsv3chat: {clean_line(text)}", err=True))
    if start is None:
        return exit_codes.OK
    from dsv3chat.app import ChatApp

    assert start.store is not None
    app = ChatApp(
        start.backend,
        start.store,
        start.settings,
        start.conversation,
        start.params,
        Path.cwd(),
        start.resumed,
    )
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        code = app.run_guarded()
    finally:
        start.backend.close()
        start.store.close()
    if app.failure is not None:
        raise app.failure
    return code


def _plain(flags: Mapping[str, Any], output: Output, narrator: Narrator, one_question: bool) -> int:
    from dsv3chat.plain import PlainChat
    from dsv3chat.plain_chat import LineChat
    from dsv3chat.plain_input import question, read_stdin

    start: Start | None = None
    with Interrupts() as interrupts:
        try:
            saved = not one_question or flags["go_on"] or flags["resume"] is not None
            start = _start(flags, saved, output.warn)
            if start is None:
                return exit_codes.OK
            text = ""
            if one_question:
                piped = None
                if sys.stdin is not None and not terminals().stdin and not flags["no_stdin"]:
                    interrupts.raising = True
                    piped = read_stdin(sys.stdin.fileno(), narrator.say)
                    interrupts.raising = False
                text = question(flags["prompt"], piped)
            interrupts.stop = start.backend.cancel_load
            info = start.backend.load(narrator.progress)
            interrupts.stop = lambda: None
            narrator.erase()
            for note in info.notes:
                output.warn(note)
            if start.first_start:
                narrator.say(ABOUT)
            if start.resumed:
                narrator.say(f"going on with: {start.conversation.title}")
            chat = PlainChat(
                start.backend, start.conversation, start.params, Path.cwd(), output, interrupts, start.store
            )
            if one_question:
                return chat.ask(text, typed=flags["prompt"] or "")
            return LineChat(chat, narrator).run()
        except KeyboardInterrupt:
            code = interrupts.exit_code or exit_codes.INTERRUPTED
            output.error("interrupted before there was an answer", "KeyboardInterrupt", code)
            return code
        except Exception as error:
            code_of_error = exit_code_of(error)
            if code_of_error is None or isinstance(error, click.ClickException):
                raise
            narrator.erase()
            code = interrupts.exit_code or code_of_error
            if isinstance(error, OutputError):  # there is no other place left to say it
                narrator.say(str(error))
                return code
            output.error(str(error), type(error).__name__, code)
            return code
        finally:
            if start is not None:
                start.backend.close()
                if start.store is not None:
                    start.store.close()


def _output(flags: Mapping[str, Any], out: BinaryIO, to_terminal: bool, narrator: Narrator) -> Output:
    if flags["as_json"]:
        return JsonOutput(out)
    if flags["as_jsonl"]:
        return JsonLinesOutput(out)
    return TextOutput(out, to_terminal, narrator, load_settings().show_thinking)


def _start(flags: Mapping[str, Any], saved: bool, say: Callable[[str], None]) -> Start | None:
    """None when the person left the choice of a conversation."""
    settings = load_settings()
    launch = plan_launch(flags["model"], flags["profile"], flags["overrides"], settings)
    try:
        params = SamplingParams(
            max_new_tokens=flags["max_tokens"],
            temperature=flags["temperature"],
            top_p=flags["top_p"],
            seed=flags["seed"],
            stop=tuple(flags["stop"]),
            grammar=_grammar(flags["schema"]),
        )
    except ValueError as error:
        raise click.UsageError(f"{error}") from error
    store = open_store(resuming=flags["go_on"] or flags["resume"] is not None) if saved else None
    conversation = Conversation(system=flags["system"] or None)
    resumed = False
    if store is not None:
        if store.notice:
            say(store.notice)
        if flags["go_on"] or flags["resume"] is not None:
            wanted = _chosen(store, flags["resume"])
            if wanted is None:
                store.close()
                return None
            conversation, resumed = store.load(wanted), True
            if flags["system"] is not None:
                conversation.system = flags["system"] or None
    first_start = launch.model == NAME and not (models_dir() / NAME).exists()
    return Start(make_backend(launch), settings, params, conversation, store, resumed, first_start)


def _grammar(path: str | None) -> JsonSchema | None:
    if path is None:
        return None
    from engine import read_schema  # llguidance: a chat does not need it

    return read_schema(Path(path))


def _chosen(store: Store, beginning: str | None) -> str | None:
    """The conversation to go on with: the last one (None), one by its id, or picked from a list ("")."""
    if beginning:
        return store.find(beginning)
    latest = store.latest()
    if latest is None:
        raise StoreError("there is no saved conversation to go on with")
    if beginning is None:
        return latest
    summaries = store.list(limit=20)
    for number, summary in enumerate(summaries, 1):
        line = (
            f"{number:3} {summary.id[:8]} {clean_line(summary.title)[:60]} ({summary.num_messages} messages)"
        )
        click.echo(line, err=True)
    if not terminals().stdin:
        raise click.UsageError("--resume needs an ID here; the list above has them")
    try:
        number = click.prompt("which", type=click.IntRange(1, len(summaries)), default=1, err=True)
    except click.Abort:
        return None
    return summaries[number - 1].id


@contextmanager
def data_stream() -> Iterator[BinaryIO]:
    """Standard output for the answer alone: until the end, whatever else writes to descriptor 1 reaches standard error."""
    sys.stdout.flush()
    try:
        descriptor = os.dup(sys.stdout.fileno())
        os.dup2(2, 1)
    except (OSError, ValueError):  # no real descriptors: under a test
        yield sys.stdout.buffer
        return
    out = io.BufferedWriter(io.FileIO(descriptor, "w"))
    try:
        yield out
    finally:
        os.dup2(descriptor, 1)
        with suppress(OSError):  # every write flushes, and has said what could not be written
            out.close()
