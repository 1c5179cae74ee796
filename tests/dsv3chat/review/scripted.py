"""A backend that answers reviews from a script, with log-probabilities, and what a test needs to set up a review."""

from __future__ import annotations

import json
import queue
import re
import threading
from pathlib import Path

from dsv3chat.review.general_protocol import GENERAL
from dsv3chat.review.model import ReviewedModel, estimate_prompt, estimate_tokens
from dsv3chat.review.nano_protocol import NANO
from dsv3chat.review.reviewer import Review
from dsv3chat.review.values import ReviewOptions, Scope, SourceFile
from engine import (
    EngineClosedError,
    Failed,
    Finished,
    LoadCancelledError,
    ModelInfo,
    PrefillProgress,
    TextDelta,
    TokenLogprob,
    Usage,
)

_TOKEN = re.compile(r'[{}\[\],:"]+|\w+|\s+|.', re.DOTALL)
INFO = ModelInfo("scripted", "", "none", 0, 0, 8192, "test", 1024)
EMPTY = '{"findings":[]}'


def finding(line=1, rule="off-by-one", severity="warning", message="m", suggestion=""):
    return {
        "line": line,
        "severity": severity,
        "rule": rule,
        "message": message,
        "suggestion": suggestion,
    }


def general_finding(line=1, end_line=None, category="bug", severity="high", title="t", message="m"):
    return {
        "line": line,
        "end_line": end_line or line,
        "severity": severity,
        "category": category,
        "title": title,
        "message": message,
        "suggestion": "",
    }


def answer(*findings):
    return json.dumps({"findings": list(findings)}, separators=(",", ":"))


class ScriptedStream:
    """Sends PrefillProgress, waits for `go`, then the text token by token."""

    def __init__(self, backend, messages, params, reply):
        self.backend, self.messages, self.params, self.reply = backend, messages, params, reply
        self.events = queue.SimpleQueue()
        self.cancelled = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def drain(self):
        return self.wait(0)

    def wait(self, timeout=None):
        try:
            found = [self.events.get(timeout=timeout) if timeout else self.events.get_nowait()]
        except queue.Empty:
            return []
        while not self.events.empty():
            found.append(self.events.get())
        return found

    def cancel(self):
        self.cancelled.set()

    def _run(self):
        backend, text = self.backend, self.reply
        backend.enter()
        prompt = estimate_prompt(self.messages)
        self.events.put(PrefillProgress(0, prompt, 0))
        while not backend.go.wait(0.005) and not self.cancelled.is_set():
            pass
        tokens = _TOKEN.findall(text) if isinstance(text, str) else []
        if not self.cancelled.is_set():
            for number, token in enumerate(tokens):
                logprob = TokenLogprob(number, backend.logprob, forced=token in backend.forced)
                logprobs = (logprob,) if backend.logprob is not None else ()
                self.events.put(TextDelta(token, 1, 0.0, "answer", (number,), logprobs))
        backend.leave()
        usage = Usage(prompt, 32, len(tokens), 0, 0.0, 0.1, 0.1, 100.0, 10.0, 0)
        if self.cancelled.is_set():
            self.events.put(Finished("cancelled", usage))
        elif isinstance(text, Failed):
            self.events.put(text)
        else:
            self.events.put(Finished(backend.ending, usage))


class ScriptedBackend:
    """`reply(messages, params)` gives the text of an answer, a Failed event, or an exception that `start` raises."""

    def __init__(self, reply=EMPTY, logprob=-0.001, forced=()):
        self.reply = reply if callable(reply) else lambda messages, params: reply
        self.logprob = logprob
        self.forced = forced
        self.ending = "stop"
        self.info = None
        self.load_error = None
        self.loading = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.asked = []  # (messages, params)
        self.num_running = self.most_running = 0
        self._lock = threading.Lock()
        self._load_cancelled = threading.Event()
        self.may_load = threading.Event()
        self.may_load.set()

    def load(self, on_progress):
        self.loading.set()
        while not self.may_load.wait(0.005):
            if self._load_cancelled.is_set():
                raise LoadCancelledError("stopped")
        if self.load_error is not None:
            raise self.load_error
        self.info = INFO
        return INFO

    def cancel_load(self):
        self._load_cancelled.set()

    def start(self, messages, params):
        self.asked.append((list(messages), params))
        reply = self.reply(messages, params)
        if isinstance(reply, Exception):
            raise reply
        return ScriptedStream(self, messages, params, reply)

    def enter(self):
        with self._lock:
            self.num_running += 1
            self.most_running = max(self.most_running, self.num_running)

    def leave(self):
        with self._lock:
            self.num_running -= 1


def model(concurrency=4, num_parameters=1000, digest="d", metadata=None):
    return ReviewedModel(
        name="scripted",
        profile="test",
        digest=digest,
        concurrency=concurrency,
        num_parameters=num_parameters,
        metadata=metadata or {},
        count_tokens=estimate_tokens,
        count_prompt=estimate_prompt,
        exact_tokens=False,
    )


def source(path="a.py", text="x = 1\n", language="python", **more):
    return SourceFile(path, language, tuple(text.splitlines()), "0" * 64, **more)


def scope(*files, skipped=(), is_diff=False, root=Path("/r")):
    return Scope(root, "test", tuple(files), tuple(skipped), is_diff)


def review(backend, *files, options=None, protocol=NANO, **more):
    more.setdefault("model", model())
    covered = more.pop("scope", None) or scope(*files)
    return Review(covered, backend, protocol, options or ReviewOptions(), **more)


def run(backend, *files, **more):
    """The report of a review that runs to its end."""
    started = review(backend, *files, **more)
    list(started.events())
    return started.report


def closed(message="the engine broke"):
    return Failed(message, EngineClosedError.__name__)


__all__ = ["GENERAL", "NANO"]
