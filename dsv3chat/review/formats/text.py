"""The report as lines that grep and editors understand: `path:line: severity rule: message`. Knows no terminal.

Text of models and files goes out as it is; whoever writes to a terminal cleans it.
"""

from __future__ import annotations

from dsv3chat.review.formats.document import (
    Document,
    by_place,
    code_line,
    conclusion,
    counted,
    one_line,
    shown_path,
    statement,
    unused,
)
from dsv3chat.review.values import Finding


def write_text(document: Document) -> str:
    """Findings by path and line, what was not reviewed and why, and one sentence at the end."""
    report = document.report
    lines = [line for finding in by_place(report.new_findings) for line in finding_lines(finding)]
    lines += [
        f"{shown_path(path)}:{line}: {unused(names)}" for path, line, names in report.unused_suppressions
    ]
    lines += [
        f"{shown_path(failed.path)}: not reviewed: {one_line(failed.reason)}" for failed in report.failed
    ]
    cached = report.cached_chunks
    lines.append(
        conclusion(report) + (f"; {counted(cached, 'chunk')} from the review cache" if cached else "")
    )
    return "\n".join(lines) + "\n"


def finding_lines(finding: Finding) -> list[str]:
    """The line with place and statement, the source line, and the suggestion where there is one."""
    place = f"{shown_path(finding.path)}:{finding.line}"
    lines = [
        f"{place}: {finding.severity.label} {finding.rule}: {statement(finding)} ({finding.confidence:.2f})"
    ]
    margin = max(6, len(str(finding.line)) + 2)
    lines += [f"{finding.line:{margin}}| {code_line(text)}" for text in finding.line_text.split("\n")[:1]]
    lines += [
        f"{'fix':>{margin}}| {code_line(text)}" for text in finding.suggestion.split("\n") if text.strip()
    ]
    return lines
