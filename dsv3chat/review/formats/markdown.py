"""The report as a comment on a pull request. Knows no forge; whatever files and models say stays text.

No markup of theirs survives: HTML and Markdown are escaped, and mentions, references, links and images come apart, as a
comment is posted with the rights of whoever runs the review. Source stands in fences longer than any run of backticks in it.
"""

from __future__ import annotations

import re

from dsv3chat.review.formats.document import (
    Document,
    by_place,
    code_line,
    conclusion,
    counted,
    one_line,
    shown_path,
    statement,
)
from dsv3chat.review.values import Finding, Severity
from dsv3chat.sanitize import clean

_MARKS = {Severity.CRITICAL: "🟥", Severity.HIGH: "🟥", Severity.MEDIUM: "🟧", Severity.LOW: "🟦"}
_APART = "\N{ZERO WIDTH SPACE}"
_LIVE = re.compile(r"@(?=\w)|#(?=\d)|\bGH-(?=\d)|:(?=//)|\bwww(?=\.)", re.IGNORECASE)
_MARKUP = re.compile(r"[\\`*_\[\]~$|]|^(?=[-+=#])")  # the last: a list, a rule or a heading
_NUMBERED = re.compile(r"^(\d+)(?=[.)])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_SHOWN_FAILURES = 20


def write_markdown(document: Document) -> str:
    """A heading, the conclusion, each new finding with its line, and what was not reviewed."""
    report = document.report
    parts = ["## Code review", f"**{escaped(conclusion(report))}**"]
    parts += [_finding(finding) for finding in by_place(report.new_findings)]
    if report.failed:
        shown = [
            f"- {code_span(shown_path(failed.path))}: {escaped(one_line(failed.reason))}"
            for failed in report.failed[:_SHOWN_FAILURES]
        ]
        left = len(report.failed) - len(shown)
        parts.append("\n".join(["### Not reviewed", "", *shown, *([f"- and {left} more"] if left else [])]))
    if report.unused_suppressions:
        unused = [
            f"- {code_span(f'{shown_path(path)}:{line}')}: {escaped(names or 'all')}"
            for path, line, names in report.unused_suppressions
        ]
        parts.append("\n".join(["### Unused suppressions", "", *unused]))
    model = " · ".join(escaped(one_line(name)) for name in (report.model, report.profile) if name)
    parts.append(
        f"<sub>{counted(report.num_chunks, 'chunk')} of {escaped(report.description)} · {model}</sub>"
    )
    return "\n\n".join(parts) + "\n"


def _finding(finding: Finding) -> str:
    where = code_span(f"{shown_path(finding.path)}:{finding.line}")
    head = f"{_MARKS[finding.severity]} **{finding.severity.label}** {where} {code_span(finding.rule)} ({finding.confidence:.2f})"
    parts = [f"### {head}", escaped(statement(finding))]
    if finding.suggestion:
        before = [f"-{code_line(line)}" for line in finding.line_text.split("\n")]
        after = [f"+{code_line(line)}" for line in finding.suggestion.rstrip("\n").split("\n")]
        parts.append(fenced("\n".join(before + after), "diff"))
    else:
        parts.append(fenced("\n".join(code_line(line) for line in finding.line_text.split("\n"))))
    return "\n\n".join(parts)


def escaped(text: str) -> str:
    """Foreign text as Markdown text: no control characters, no markup, nothing that links or calls anybody."""
    text = _LIVE.sub(lambda match: match.group() + _APART, one_line(clean(text)))
    text = _MARKUP.sub(lambda match: "\\" + match.group(), text)
    text = _NUMBERED.sub(r"\1\\", text)
    return "".join(_HTML.get(character, character) for character in text)


def code_span(text: str) -> str:
    """Foreign text as inline code, within longer quotes than it holds."""
    text = one_line(clean(text))
    quotes = "`" * (longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{quotes}{pad}{text}{pad}{quotes}"


def fenced(text: str, language: str = "") -> str:
    """Foreign text as a code block, within a longer fence than it holds."""
    fence = "`" * max(3, longest_run(text) + 1)
    return f"{fence}{language}\n{clean(text)}\n{fence}"


def longest_run(text: str) -> int:
    """The most backticks in a row."""
    return max((len(run) for run in re.findall("`+", text)), default=0)
