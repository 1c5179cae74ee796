"""The report in the Reviewdog Diagnostic Format (`reviewdog -f=rdjson`): suggestions replace whole lines. Knows no CI."""

from __future__ import annotations

import json
from typing import Any

from dsv3chat.review.formats.document import TOOL, Document, by_place, statement
from dsv3chat.review.values import Finding, Severity

_SEVERITIES = {
    Severity.CRITICAL: "ERROR",
    Severity.HIGH: "ERROR",
    Severity.MEDIUM: "WARNING",
    Severity.LOW: "INFO",
}


def write_rdjson(document: Document) -> str:
    """New findings only."""
    diagnostics = [_diagnostic(finding) for finding in by_place(document.report.new_findings)]
    return json.dumps({"source": {"name": TOOL}, "diagnostics": diagnostics}, indent=2) + "\n"


def _diagnostic(finding: Finding) -> dict[str, Any]:
    # without columns a range is of whole lines, its end included
    lines = {"start": {"line": finding.line}, "end": {"line": finding.end_line}}
    found: dict[str, Any] = {
        "message": statement(finding),
        "location": {"path": finding.path, "range": lines},
        "severity": _SEVERITIES[finding.severity],
        "code": {"value": finding.rule},
    }
    if finding.suggestion:
        found["suggestions"] = [{"range": lines, "text": finding.suggestion.rstrip("\n")}]
    return found
