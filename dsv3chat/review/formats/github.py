"""The report as workflow commands, which GitHub Actions shows as annotations of lines. Knows no terminal.

A value must not end its command or begin another: `%`, line ends, and in properties `:` and `,` are percent-encoded.
"""

from __future__ import annotations

from dsv3chat.review.formats.document import Document, by_place, conclusion, one_line, statement, unused
from dsv3chat.review.values import Severity

_COMMANDS = {
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "notice",
}


def write_github(document: Document) -> str:
    """One command for each new finding, one for each file that was not reviewed, and the conclusion as a notice."""
    report = document.report
    lines = [
        _command(
            _COMMANDS[finding.severity],
            f"{statement(finding)} ({finding.severity.label}, {finding.confidence:.2f})",
            file=finding.path,
            line=str(finding.line),
            endLine=str(finding.end_line),
            title=finding.rule,
        )
        for finding in by_place(report.new_findings)
    ]
    lines += [
        _command(
            "warning", f"not reviewed: {one_line(failed.reason)}", file=failed.path, title="not reviewed"
        )
        for failed in report.failed
    ]
    lines += [
        _command("notice", unused(names), file=path, line=str(line), title="unused suppression")
        for path, line, names in report.unused_suppressions
    ]
    lines.append(
        _command("notice" if report.complete else "warning", conclusion(report), title="dsv3chat review")
    )
    return "\n".join(lines) + "\n"


def _command(name: str, message: str, **properties: str) -> str:
    pairs = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    return f"::{name} {pairs}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
