"""A review that is ready to run: scope, model, protocol, baseline, and the reports' exit code. Knows no output and no thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from dsv3chat import exit_codes
from dsv3chat.backend import ChatBackend
from dsv3chat.launch import Launch, plan_launch
from dsv3chat.review.baseline import BASELINE_FILE, Baseline, BaselineError
from dsv3chat.review.cache import ReviewCache
from dsv3chat.review.formats import Document
from dsv3chat.review.model import ReviewedModel, choose_protocol, describe_model
from dsv3chat.review.plan import splitter
from dsv3chat.review.protocol import ReviewProtocol
from dsv3chat.review.reviewer import Review
from dsv3chat.review.scope import BadRevisionError, DiffRequest, open_scope
from dsv3chat.review.values import Report, Scope, Severity, Skipped
from dsv3chat.review_command.request import Request
from dsv3chat.settings import Settings
from engine import LoadProgress


@dataclass(frozen=True, slots=True)
class Setup:
    """`warnings` are what a person was told while it was made."""

    request: Request
    launch: Launch
    scope: Scope
    model: ReviewedModel
    protocol: ReviewProtocol
    baseline: Baseline | None
    baseline_file: Path
    cache: ReviewCache
    started_at: float
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str, say: Callable[[str], None]) -> None:
        """Tell a person, and remember it for the reports."""
        self.warnings.append(text)
        say(text)

    def review(
        self, backend: ChatBackend, on_load: Callable[[LoadProgress], None] = lambda progress: None
    ) -> Review:
        """A review of this; it loads the model only when something is left to ask."""
        return Review(
            self.scope,
            backend,
            self.protocol,
            self.request.options,
            model=self.model,
            split=splitter(self.protocol, self.model, self.request.strategy, self.request.context_tokens),
            baseline=self.baseline,
            cache=self.cache,
            on_load=on_load,
        )

    def document(self, report: Report, code: int | None = None) -> Document:
        """A report with what the command makes of it; `code` is the exit code where something else decided it."""
        return Document(
            report,
            self.protocol.rules,
            exit_code(report, self.request.fail_on) if code is None else code,
            self.request.threshold,
            self.started_at,
            tuple(self.warnings),
        )

    def settle(self, report: Report) -> Report:
        """With --update-baseline: write the baseline, in which the findings then are. BaselineError."""
        if not self.request.update_baseline or not report.complete:
            return report
        known = (self.baseline or Baseline()).updated(report, whole_files=not self.scope.is_diff)
        if self.baseline_file.parent.resolve() == self.scope.root.resolve():
            known = known.pruned(self.scope.root)  # its paths are those of the scope
        known.write(self.baseline_file)
        findings = (
            replace(found, state="baseline") if found.state == "new" else found for found in report.findings
        )
        return replace(report, findings=tuple(findings))


def exit_code(report: Report, fail_on: Severity | None) -> int:
    """An execution error outranks findings: a review that is not complete is never 0 or 1."""
    if report.interrupted:
        return exit_codes.INTERRUPTED
    return exit_code_left(report, fail_on)


def exit_code_left(report: Report, fail_on: Severity | None) -> int:
    """Of a review that a person stopped from its screen: no signal came, it is incomplete."""
    if not report.complete:
        return exit_codes.INCOMPLETE
    failing = fail_on is not None and any(finding.severity >= fail_on for finding in report.new_findings)
    return exit_codes.FINDINGS if failing else exit_codes.OK


def open_setup(request: Request, settings: Settings, diff: bytes, say: Callable[[str], None]) -> Setup:
    """Reads the scope and looks at the model, loads nothing. `diff` is what standard input held, with --stdin-diff.

    Raises ScopeError, ProfileError, ModelNotFoundError, BaselineError, click.UsageError for an unknown protocol.
    """
    warnings: list[str] = []

    def warn(text: str) -> None:
        warnings.append(text)
        say(text)

    launch = plan_launch(request.model, request.profile, request.overrides, settings)
    model = describe_model(launch.model, launch.profile)
    protocol = protocol_of(request, model)
    scope = _scope(request, diff, warn)
    baseline_file = request.baseline or scope.root / BASELINE_FILE
    if request.update_baseline and not os.access(baseline_file.parent, os.W_OK):
        raise BaselineError(
            f"the baseline {baseline_file} could not be written: nothing can be written in {baseline_file.parent}"
        )
    scope = _without(scope, (baseline_file, *(target.path for target in request.targets)))
    if request.context_tokens is not None and request.context_tokens > protocol.max_tokens:
        warn(
            f"--context-tokens {request.context_tokens}: {protocol.name} is made for at most {protocol.max_tokens}"
        )
    baseline: Baseline | None = None
    if os.path.exists(baseline_file) or (request.baseline is not None and not request.update_baseline):
        baseline = Baseline.read(baseline_file)
        if request.baseline is None:
            warn(f"{len(baseline)} known findings in {baseline_file} are hidden")
    cache = ReviewCache()
    if cache.notice:
        warn(cache.notice)
    return Setup(
        request, launch, scope, model, protocol, baseline, baseline_file, cache, time.time(), warnings
    )


def protocol_of(request: Request, model: ReviewedModel) -> ReviewProtocol:
    """click.UsageError for a name that there is not."""
    try:
        return choose_protocol(request.protocol, model)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _scope(request: Request, diff: bytes, warn: Callable[[str], None]) -> Scope:
    try:
        return _open(request, diff)
    except BadRevisionError:
        # `--diff src/` gives src/ to --diff; git takes such a word for a path too
        if request.kind != "diff" or not os.path.exists(request.revision):
            raise
        warn(f"--diff: {request.revision} is a path and no revision; these are the changes in it")
        return _open(replace(request, revision="", paths=(request.revision, *request.paths)), diff)


def _without(scope: Scope, own: Iterable[Path]) -> Scope:
    """A scope in which the command's own files are skipped: they quote the code that they are about."""
    places = {os.path.realpath(path) for path in own}
    mine = [file.path for file in scope.files if os.path.realpath(scope.root / file.path) in places]
    if not mine:
        return scope
    skipped = (*scope.skipped, *(Skipped(path, "a file of this command's own") for path in mine))
    return replace(
        scope,
        files=tuple(file for file in scope.files if file.path not in mine),
        skipped=tuple(sorted(skipped, key=lambda place: place.path)),
    )


def _open(request: Request, diff: bytes) -> Scope:
    return open_scope(
        tuple(map(Path, request.paths)),
        diff=_diff(request, diff),
        exclude=request.exclude,
        gitignore=request.gitignore,
        max_file_bytes=request.max_file_bytes,
    )


def _diff(request: Request, text: bytes) -> DiffRequest | None:
    match request.kind:
        case "paths":
            return None
        case "diff":
            return DiffRequest.between(request.revision)
        case "staged":
            return DiffRequest.staged()
        case "uncommitted":
            return DiffRequest.uncommitted()
        case "commit":
            return DiffRequest.commit(request.revision)
        case "stdin":
            return DiffRequest.from_text(text)
