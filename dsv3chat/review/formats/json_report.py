"""The whole report as one JSON document of its own form, version 1. Knows no consumer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from dsv3chat.review.formats.document import (
    Document,
    by_place,
    computed_per_second,
    fingerprint,
    tool_version,
)
from dsv3chat.review.values import Finding, Report, Skipped

FORMAT, VERSION = "dsv3chat-review", 1


def write_json_report(document: Document) -> str:
    """In ASCII, every control character escaped."""
    return json.dumps(report_fields(document), indent=2) + "\n"


def report_fields(document: Document) -> dict[str, Any]:
    """Everything in the report, findings of every state included."""
    report = document.report
    return {
        "format": FORMAT,
        "version": VERSION,
        "tool_version": tool_version(),
        "started_at": datetime.fromtimestamp(document.started_at, UTC).isoformat(timespec="seconds"),
        "scope": report.description,
        "root": str(report.root),
        "model": report.model,
        "profile": report.profile,
        "protocol": report.protocol,
        "complete": report.complete,
        "interrupted": report.interrupted,
        "fail_on": document.threshold,
        "exit_code": document.exit_code,
        "findings": [finding_fields(finding) for finding in by_place(report.findings)],
        "reviewed": list(report.reviewed),
        "skipped": _places(report.skipped),
        "failed": _places(report.failed),
        "dropped": dict(report.dropped),
        "unused_suppressions": [
            {"path": path, "line": line, "rules": names} for path, line, names in report.unused_suppressions
        ],
        "raw_answers": [
            {"path": path, "line": line, "text": text} for path, line, text in report.raw_answers
        ],
        "usage": usage_fields(report),
        "warnings": [*document.warnings, *report.notes],
    }


def finding_fields(finding: Finding) -> dict[str, Any]:
    """One finding; `code` is the source of its lines."""
    return {
        "path": finding.path,
        "line": finding.line,
        "end_line": finding.end_line,
        "severity": finding.severity.label,
        "rule": finding.rule,
        "title": finding.title,
        "message": finding.message,
        "suggestion": finding.suggestion,
        "confidence": round(finding.confidence, 4),
        "code": finding.line_text,
        "fingerprint": fingerprint(finding),
        "state": finding.state,
    }


def usage_fields(report: Report) -> dict[str, Any]:
    """What the review cost."""
    rate = computed_per_second(report)
    return {
        "chunks": report.num_chunks,
        "cached_chunks": report.cached_chunks,
        "prompt_tokens": report.prompt_tokens,
        "reused_tokens": report.reused_tokens,
        "completion_tokens": report.completion_tokens,
        "seconds": round(report.seconds, 3),
        "tokens_per_s": None if rate is None else round(rate, 2),
    }


def _places(places: tuple[Skipped, ...]) -> list[dict[str, str]]:
    return [{"path": place.path, "reason": place.reason} for place in places]
