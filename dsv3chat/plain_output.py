"""Where an answer goes in plain mode: text, one JSON document, or JSON lines. Knows no model and reads nothing.

Data goes to standard output, narration to standard error. What goes to a terminal is cleaned of control characters;
a file gets the answer's bytes as they are; JSON is pure ASCII, every control character escaped.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, BinaryIO, Protocol

from dsv3chat.sanitize import clean, clean_line
from engine import Event, Failed, Finished, LoadProgress, PrefillProgress, Queued, TextDelta


class Narrator:
    """Lines on standard error; progress is redrawn in place where that is possible, a line for each stage elsewhere."""

    def __init__(self, redraws: bool) -> None:
        self._redraws = redraws
        self._stage = ""
        self._drawn = False
        self._drawn_at = 0.0

    def say(self, text: str) -> None:
        """One message that stays; the lines after its first are indented, so that a command in it can be copied."""
        self.erase()
        lines = [line for line in map(clean_line, text.split("\n")) if line]
        self._write("dsv3chat: " + "\n  ".join(lines) + "\n")

    def progress(self, progress: LoadProgress) -> None:
        """What the loading does; redrawn at most ten times a second."""
        stage = clean_line(progress.stage)
        if not self._redraws:
            if stage != self._stage:
                self._write(f"dsv3chat: {stage}\n")
        elif stage != self._stage or time.monotonic() - self._drawn_at > 0.1:
            parts = [stage]
            if progress.total_bytes:
                parts.append(f"{progress.done_bytes / 1e6:.0f} of {progress.total_bytes / 1e6:.0f} MB")
            parts.append(clean_line(progress.detail))
            self.draw(" · ".join(p for p in parts if p))
            self._drawn_at = time.monotonic()
        self._stage = stage

    def draw(self, text: str) -> None:
        """A progress line in place of the last one; for a terminal that can be drawn over."""
        self._write("\r\x1b[K" + clean_line(text)[:78])
        self._drawn = True

    def thinking(self, text: str) -> None:
        """The model's thinking, when it is to be shown."""
        self.erase()
        self._write(clean(text))

    def erase(self) -> None:
        """Take a progress line away."""
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    @staticmethod
    def _write(text: str) -> None:
        if sys.stderr is not None:
            sys.stderr.write(text)
            sys.stderr.flush()


class OutputError(Exception):
    """Standard output takes no data; the message says why."""


class Output(Protocol):
    """What becomes of an answer. What writes raises BrokenPipeError when the reader has left, OutputError for a full disk."""

    def begin(self, facts: Mapping[str, Any]) -> None:
        """The answer begins; `facts` are model, profile and the like."""

    def warn(self, message: str) -> None:
        """Something a person or program must know."""

    def event(self, event: Event) -> None:
        """The next event of the answer, but for the last."""

    def end(self, last: Finished | Failed, exit_code: int) -> None:
        """The last event."""

    def error(self, message: str, kind: str, exit_code: int) -> None:
        """There is no answer."""


class TextOutput:
    """The answer's text as it comes, and a line end after it if it has none."""

    def __init__(
        self, out: BinaryIO, is_terminal: bool, narrator: Narrator, show_thinking: bool = False
    ) -> None:
        self._out = out
        self._is_terminal = is_terminal
        self._narrator = narrator
        self._show_thinking = show_thinking
        self._held = ""  # a \r at the end of a delta: of a \r\n, or alone
        self._last = "\n"
        self._thought = False

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Nothing: the text begins with the answer."""
        self._held, self._last, self._thought = "", "\n", False

    def warn(self, message: str) -> None:
        """On standard error, where a terminal shows both behind the line that the answer may have begun."""
        self._end_line()
        self._narrator.say(message)

    def event(self, event: Event) -> None:
        """Writes deltas; says how long the queue is."""
        if isinstance(event, TextDelta) and event.kind == "answer":
            if self._thought:
                self._narrator.thinking("\n")
                self._thought = False
            self._write(event.text)
        elif isinstance(event, TextDelta) and self._show_thinking and event.text:
            self._narrator.thinking(event.text)
            self._thought = True
        elif isinstance(event, Queued):
            self._narrator.say(f"{event.position} requests stand before this one")

    def _write(self, text: str) -> None:
        self._narrator.erase()
        if self._is_terminal:
            text = self._held + text
            self._held = "\r" if text.endswith("\r") else ""
            text = clean(text.removesuffix("\r") if self._held else text)
        if text:
            self._last = text[-1]
            write_out(self._out, text.encode("utf-8", "replace"))

    def end(self, last: Finished | Failed, exit_code: int) -> None:
        """A line end, and on standard error how it ended if not well, and at what speed."""
        self._end_line()
        if isinstance(last, Failed):
            self._narrator.say(f"the answer failed: {last.message}")
        elif last.reason == "length":
            self._narrator.say(f"the answer was cut at {last.usage.completion_tokens} tokens (--max-tokens)")
        elif last.reason == "looping":
            self._narrator.say(
                "looping: the answer went round in circles and was stopped (--set loop_guard=false lets it)"
            )
        elif last.reason == "cancelled":
            self._narrator.say("stopped; the text so far stays")

    def _end_line(self) -> None:
        if self._held:
            self._held = ""
            write_out(self._out, clean("\r").encode())
            self._last = ""
        if self._last != "\n":
            self._last = "\n"
            write_out(self._out, b"\n")

    def error(self, message: str, kind: str, exit_code: int) -> None:
        """On standard error."""
        self._narrator.say(message)


class JsonOutput:
    """One document, written at the end, whatever happens."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._facts: dict[str, Any] = {}
        self._warnings: list[str] = []
        self._text: dict[str, list[str]] = {"answer": [], "thinking": []}

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Kept for the document."""
        self._facts = dict(facts)

    def warn(self, message: str) -> None:
        """Kept for the document."""
        self._warnings.append(message)

    def event(self, event: Event) -> None:
        """Kept for the document."""
        if isinstance(event, TextDelta):
            self._text[event.kind].append(event.text)

    def end(self, last: Finished | Failed, exit_code: int) -> None:
        """Write the document."""
        document: dict[str, Any] = {
            **self._facts,
            "text": "".join(self._text["answer"]),
            "thinking": "".join(self._text["thinking"]),
            "finish_reason": "failed" if isinstance(last, Failed) else last.reason,
            "usage": None if last.usage is None else asdict(last.usage),
            "warnings": self._warnings,
            "exit_code": exit_code,
        }
        if isinstance(last, Failed):
            document["error"] = {"kind": last.kind, "message": last.message}
        write_json(self._out, document)

    def error(self, message: str, kind: str, exit_code: int) -> None:
        """Write the document of an error."""
        error = {"kind": kind, "message": message}
        write_json(self._out, {"error": error, "warnings": self._warnings, "exit_code": exit_code})


class JsonLinesOutput:
    """A line for each event. Times are seconds since the answer began."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._started = time.monotonic()

    def begin(self, facts: Mapping[str, Any]) -> None:
        """{"event": "start", ...}"""
        self._started = time.monotonic()
        self._line("start", **facts)

    def warn(self, message: str) -> None:
        """{"event": "warning", ...}"""
        self._line("warning", message=message)

    def event(self, event: Event) -> None:
        """{"event": "queued" | "prefill" | "delta", ...}"""
        match event:
            case Queued(position):
                self._line("queued", position=position)
            case PrefillProgress(done, total, cached):
                self._line("prefill", done=done, total=total, cached=cached)
            case TextDelta(text, num_tokens, at, kind):
                self._line(
                    "delta", kind=kind, text=text, num_tokens=num_tokens, seconds=round(at - self._started, 4)
                )

    def end(self, last: Finished | Failed, exit_code: int) -> None:
        """{"event": "finished" | "failed", ...}"""
        usage = None if last.usage is None else asdict(last.usage)
        if isinstance(last, Failed):
            error = {"kind": last.kind, "message": last.message}
            self._line("failed", error=error, usage=usage, exit_code=exit_code)
        else:
            self._line("finished", finish_reason=last.reason, usage=usage, exit_code=exit_code)

    def error(self, message: str, kind: str, exit_code: int) -> None:
        """{"event": "failed", ...} without an answer."""
        self._line("failed", error={"kind": kind, "message": message}, usage=None, exit_code=exit_code)

    def _line(self, event: str, **fields: Any) -> None:
        write_json(self._out, {"event": event, **fields}, indent=None)


def write_json(out: BinaryIO, document: Mapping[str, Any], indent: int | None = 2) -> None:
    """One JSON document and a line end, in ASCII."""
    write_out(out, (json.dumps(document, indent=indent) + "\n").encode("ascii"))


def write_out(out: BinaryIO, data: bytes) -> None:
    """Write and flush. BrokenPipeError when the reader has left, OutputError for whatever else is in the way."""
    try:
        out.write(data)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from error
