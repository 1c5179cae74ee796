"""What a person said of findings: a file of JSON lines in the state folder, to measure precision by. Knows no screen."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from dsv3chat.review.values import Finding
from engine.paths import private_dir, state_dir

Verdict: TypeAlias = Literal["false", "applied", "withdrawn"]


def marks_path() -> Path:
    """Where the file lies, whether or not it exists."""
    return state_dir() / "review-marks.jsonl"


def add_mark(
    finding: Finding, verdict: Verdict, root: Path, model: str, protocol: str, path: Path | None = None
) -> None:
    """Append one line. `withdrawn` takes back what was said before of the same root and fingerprint. Raises OSError."""
    path = path or marks_path()
    record = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "verdict": verdict,
        "root": str(root),
        "model": model,
        "protocol": protocol,
        "path": finding.path,
        "line": finding.line,
        "end_line": finding.end_line,
        "severity": finding.severity.label,
        "rule": finding.rule,
        "confidence": round(finding.confidence, 4),
        "title": finding.title,
        "message": finding.message,
        "suggestion": finding.suggestion,
        "line_text": finding.line_text,
        "fingerprint": finding.fingerprint,
    }
    private_dir(path.parent)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "ab") as file:  # one write: two programs never mix their lines
        file.write(json.dumps(record).encode() + b"\n")
