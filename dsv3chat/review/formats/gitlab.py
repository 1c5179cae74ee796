"""The report as GitLab Code Quality wants it: an array with a fingerprint for each finding that no other has. Knows no CI."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

from dsv3chat.review.formats.document import Document, by_place, fingerprint, statement
from dsv3chat.review.values import Severity

_SEVERITIES = {
    Severity.CRITICAL: "blocker",
    Severity.HIGH: "critical",
    Severity.MEDIUM: "major",
    Severity.LOW: "minor",
}


def write_gitlab(document: Document) -> str:
    """New findings only: the format has no word for the others, nor for an incomplete review, which the exit code tells.

    GitLab shows one finding for a fingerprint, so a second of the same code gets one of its own, in the order of lines.
    """
    seen: Counter[str] = Counter()
    entries: list[dict[str, Any]] = []
    for finding in by_place(document.report.new_findings):
        mark = fingerprint(finding)
        seen[mark] += 1
        if seen[mark] > 1:
            mark = hashlib.sha256(f"{mark}:{seen[mark]}".encode()).hexdigest()
        entries.append(
            {
                "description": statement(finding),
                "check_name": finding.rule,
                "fingerprint": mark,
                "severity": _SEVERITIES[finding.severity],
                "location": {"path": finding.path, "lines": {"begin": finding.line, "end": finding.end_line}},
            }
        )
    return json.dumps(entries, indent=2) + "\n"
