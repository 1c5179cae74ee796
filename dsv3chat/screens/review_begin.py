"""A review from the chat: what is picked or written after /review, with the chat's own loaded model. Knows no finding."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content

from dsv3chat.backend import ChatBackend
from dsv3chat.engine_backend import EngineBackend
from dsv3chat.review.baseline import BASELINE_FILE, Baseline
from dsv3chat.review.cache import ReviewCache
from dsv3chat.review.formats import Document
from dsv3chat.review.model import ReviewedModel, choose_protocol, describe_model
from dsv3chat.review.reviewer import Review
from dsv3chat.review.scope import DiffRequest, open_scope
from dsv3chat.review.values import Report, Severity
from dsv3chat.sanitize import clean, clean_line
from dsv3chat.screens.picker import Picker
from dsv3chat.screens.review_job import ReviewJob
from dsv3chat.widgets.rows import MUTED
from engine import EngineClosedError, LoadProgress

if TYPE_CHECKING:
    from dsv3chat.app import ChatApp

_CHOICES = (
    ("--uncommitted", "what changed since the last commit"),
    ("--staged", "what the next commit would hold"),
    ("--commit HEAD", "the last commit"),
    (".", "everything in this folder"),
)
USAGE = "/review [PATH...] [--uncommitted | --staged | --diff REV | --commit REV]"


class WordsError(Exception):
    """What stands after /review is not understood; the message says what is."""


def read_words(words: str) -> tuple[list[str], DiffRequest | None]:
    """Paths, and the diff that is asked for. Raises WordsError."""
    try:
        parts = shlex.split(words)
    except ValueError as error:
        raise WordsError(f"/review {words}: {error}; quotes come in pairs") from error
    paths: list[str] = []
    diffs: list[DiffRequest] = []
    rest = iter(parts)
    for part in rest:
        flag, _, value = part.partition("=")
        match flag:
            case "--uncommitted":
                diffs.append(DiffRequest.uncommitted())
            case "--staged":
                diffs.append(DiffRequest.staged())
            case "--diff":
                diffs.append(DiffRequest.between(value or next(rest, "")))
            case "--commit":
                diffs.append(DiffRequest.commit(value or next(rest, "HEAD")))
            case _ if part.startswith("--"):
                raise WordsError(
                    f"/review does not know {flag}; it is {USAGE}, and `dsv3chat review` has more"
                )
            case _:
                paths.append(part)
    if len(diffs) > 1:
        raise WordsError(f"/review takes one kind of change; it is {USAGE}")
    return paths, diffs[0] if diffs else None


class ReviewPicker(Picker):
    """Dismisses with the words of /review."""

    TITLE_TEXT = "Review"
    PLACEHOLDER = "a path, or --diff REV"
    KEYS_TEXT = "⏎ review  ↑↓ choose  type a path, or --diff REV  esc close"

    def lines(self, query: str) -> Sequence[tuple[str, Content]]:
        """The usual scopes; what is typed stands first."""
        typed = query.strip()
        found = [
            (words, Content.assemble((f"{words:16}", "bold"), (help_, MUTED)))
            for words, help_ in _CHOICES
            if typed.lower() in f"{words} {help_}"
        ]
        if typed and typed not in (words for words, _ in found):
            found.insert(0, (typed, Content.assemble((clean_line(typed), "bold"), ("  this path", MUTED))))
        return found


def pick_review(app: ChatApp) -> None:
    """Ask what is to be reviewed, and begin."""
    app.push_screen(ReviewPicker(), lambda words: None if words is None else begin_review(app, words))


def begin_review(app: ChatApp, words: str) -> None:
    """Begin a review of what the words name; without words, ask."""
    if not words.strip():
        pick_review(app)
        return
    try:
        paths, diff = read_words(words)
    except WordsError as error:
        app.notify(clean(str(error)), severity="warning", markup=False, timeout=8)
        return
    app.reviews.open(partial(_prepare, app.backend, app.chat.root, paths, diff))


def describe_backend(backend: ChatBackend) -> ReviewedModel:
    """The chat's model as the reviewer knows it. A backend that is no engine of ours has no digest: nothing is cached."""
    if isinstance(backend, EngineBackend):
        return describe_model(backend.model, backend.profile)
    info = backend.info
    if info is None:
        raise EngineClosedError("no model is loaded")
    return ReviewedModel(
        name=info.name,
        profile=info.profile_name,
        digest="",
        concurrency=1,
        num_parameters=info.num_parameters,
        metadata=info.metadata,
        count_tokens=backend.count_text_tokens,
        count_prompt=backend.count_tokens,
    )


def _prepare(
    backend: ChatBackend,
    root: Path,
    paths: Sequence[str],
    diff: DiffRequest | None,
    on_load: Callable[[LoadProgress], None],
) -> ReviewJob:
    """Blocking. Raises ScopeError, BaselineError, EngineError."""
    began = time.time()
    scope = open_scope([Path(path).expanduser() for path in paths], diff=diff, cwd=root)
    model = describe_backend(backend)
    protocol = choose_protocol(None, model)
    file = scope.root / BASELINE_FILE
    baseline = Baseline.read(file) if os.path.exists(file) else None
    cache = ReviewCache() if model.digest else None
    review = Review(scope, backend, protocol, model=model, baseline=baseline, cache=cache, on_load=on_load)

    def document(report: Report) -> Document:
        failing = any(finding.severity >= Severity.HIGH for finding in report.new_findings)
        code = int(failing) if report.complete else 3
        return Document(report, protocol.rules, code, started_at=began)

    return ReviewJob(review, scope, document, file)
