"""The report as SARIF 2.1.0 in the subset and with the demands of GitHub code scanning. Knows no upload.

GitHub rejects a whole file for one result without a place, a line 0 or two rules with one id; it tells results apart by
rule id and partialFingerprints, and orders security findings by the rule's security-severity.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from urllib.parse import quote_from_bytes

from dsv3chat.review.formats.document import (
    TOOL,
    Document,
    by_place,
    fingerprint,
    statement,
    tool_version,
    why_incomplete,
)
from dsv3chat.review.rules import Rule
from dsv3chat.review.scope.paths import NOT_UTF8, undo_shown
from dsv3chat.review.values import Finding, Report, Severity, Skipped

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FINGERPRINT_KEY = "dsv3chatReview/v1"
ROOT = "%SRCROOT%"

Level: TypeAlias = Literal["error", "warning", "note"]

_LEVELS: dict[Severity, Level] = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
}
_SUPPRESSIONS = {
    "baseline": {"kind": "external", "status": "accepted", "justification": "in the baseline file"},
    "suppressed": {"kind": "inSource", "status": "accepted"},
}
_RULE_LEVELS: dict[str, Level] = {
    "bug": "error",
    "security": "error",
    "concurrency": "error",
    "performance": "note",
}
# GitHub's scale: above 9 critical, from 7 high, from 4 medium
_CRITICAL_SCORE, _SECURITY_SCORE = 9.5, 7.5
_MEDIUM_SCORES = {"weak-hash": 5.5, "insecure-temp-file": 5.5, "debug-enabled": 6.5}
_PLACEHOLDER = re.compile(r"\{(\d+)\}")


def write_sarif(document: Document) -> str:
    """One run. Baseline and suppressed findings are in it, as suppressed results."""
    report = document.report
    findings = by_place(report.findings)
    rules = {rule.name: rule for rule in document.rules}
    for name in sorted({finding.rule for finding in findings} - rules.keys()):
        rules[name] = Rule(name, "bug", name, f"{name}.")
    positions = {name: position for position, name in enumerate(rules)}
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": TOOL,
                "version": tool_version(),
                "semanticVersion": tool_version(),
                "rules": [_rule(rule) for rule in rules.values()],
            }
        },
        "invocations": [_invocation(document)],
        "originalUriBaseIds": {ROOT: {"uri": _root_uri(report)}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(finding, positions[finding.rule]) for finding in findings],
        "properties": {"model": report.model, "profile": report.profile, "protocol": report.protocol},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def relative_uri(path: str) -> str:
    """A path below the root as a relative URI: each part percent-encoded, so that decoding gives the bytes of the path back."""
    return "/".join(quote_from_bytes(os.fsencode(part), safe="") for part in path.split("/"))


def _root_uri(report: Report) -> str:
    return f"file://{relative_uri(report.root.absolute().as_posix()).rstrip('/')}/"


def _rule(rule: Rule) -> dict[str, Any]:
    level = _RULE_LEVELS.get(rule.category, "warning")
    properties: dict[str, Any] = {"tags": ["code-review", rule.category], "precision": "medium"}
    if rule.category == "security":
        score = _CRITICAL_SCORE if rule.critical else _MEDIUM_SCORES.get(rule.name, _SECURITY_SCORE)
        properties["security-severity"] = f"{score:.1f}"
    else:
        properties["problem.severity"] = "recommendation" if level == "note" else level
    text = f"{rule.description} A language model reports this: read the line before changing it."
    return {
        "id": rule.name,
        "name": "".join(part.capitalize() for part in rule.name.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.description},
        "help": {"text": text},
        "defaultConfiguration": {"level": level},
        "properties": properties,
    }


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    location = {"artifactLocation": _artifact(finding.path), "region": region(finding)}
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rule_index,
        "level": _LEVELS[finding.severity],
        "message": {"text": _message(statement(finding))},
        "locations": [{"physicalLocation": location}],
        "partialFingerprints": {FINGERPRINT_KEY: fingerprint(finding)},
        "rank": round(100 * min(1.0, max(0.0, finding.confidence)), 1),
        "properties": {"severity": finding.severity.label, "confidence": round(finding.confidence, 4)},
    }
    if finding.suggestion:
        result["fixes"] = [_fix(finding)]
    if finding.state in _SUPPRESSIONS:
        result["suppressions"] = [_SUPPRESSIONS[finding.state]]
    return result


def region(finding: Finding) -> dict[str, Any]:
    """The code of the finding's lines without indentation; all four fields, counted from 1, the end column exclusive."""
    first, end_line, end_column = _extent(finding)
    indentation = len(first) - len(first.lstrip())
    start_column = indentation + 1 if first.strip() else 1
    return {
        "startLine": finding.line,
        "startColumn": start_column,
        "endLine": end_line,
        "endColumn": max(end_column, start_column) if end_line == finding.line else end_column,
        "snippet": {"text": finding.line_text},
    }


def _extent(finding: Finding) -> tuple[str, int, int]:
    """The first line, and where the last one ends; where its text is not known the region ends with the lines that are."""
    lines = finding.line_text.split("\n")[: finding.end_line - finding.line + 1]
    return lines[0], finding.line + len(lines) - 1, len(lines[-1].rstrip()) + 1


def _fix(finding: Finding) -> dict[str, Any]:
    lines = finding.line_text.split("\n")[: finding.end_line - finding.line + 1]
    deleted = {
        "startLine": finding.line,
        "startColumn": 1,
        "endLine": finding.line + len(lines) - 1,
        "endColumn": len(lines[-1]) + 1,
    }
    replacement = {"deletedRegion": deleted, "insertedContent": {"text": finding.suggestion.rstrip("\n")}}
    change = {"artifactLocation": _artifact(finding.path), "replacements": [replacement]}
    return {"description": {"text": "The model's suggestion."}, "artifactChanges": [change]}


def _artifact(path: str) -> dict[str, str]:
    return {"uri": relative_uri(path), "uriBaseId": ROOT}


def _message(text: str) -> str:
    """No placeholder ({0}) and no embedded link ([text](1)) of the format in it. Other braces stay single: viewers show them as they are."""
    return _PLACEHOLDER.sub(r"{{\1}}", text).replace("](", "\\](")


def _invocation(document: Document) -> dict[str, Any]:
    report = document.report
    notes = [
        *_notifications(report.failed, "error", "not reviewed"),
        *_notifications(report.skipped, "note", "skipped"),
    ]
    if not report.complete:
        notes.insert(0, {"level": "error", "message": {"text": f"incomplete: {why_incomplete(report)}"}})
    notes += [
        {"level": "warning", "message": {"text": _message(text)}}
        for text in (*document.warnings, *report.notes)
    ]
    invocation: dict[str, Any] = {
        "executionSuccessful": report.complete,
        "exitCode": document.exit_code,
        "startTimeUtc": _utc(document.started_at),
        "endTimeUtc": _utc(document.started_at + report.seconds),
    }
    return {**invocation, "toolExecutionNotifications": notes} if notes else invocation


def _notifications(places: Iterable[Skipped], level: Level, words: str) -> Iterable[dict[str, Any]]:
    for place in places:
        path, what = place.path, place.reason
        if place.reason == NOT_UTF8:  # the URI has the file's own bytes, which no viewer can show
            path, what = undo_shown(place.path), f"{place.path}: {place.reason}"
        location = {"physicalLocation": {"artifactLocation": _artifact(path)}}
        yield {
            "level": level,
            "message": {"text": _message(f"{words}: {what}")},
            "locations": [location],
        }


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
