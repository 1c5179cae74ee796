"""What every output format is given, and the words they share. Knows no format and writes nothing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version

from dsv3chat.review.rules import RULES, Rule
from dsv3chat.review.values import Finding, Report, Severity

TOOL = "dsv3chat review"


@dataclass(frozen=True, slots=True)
class Document:
    """A report that is to be written. `rules` is the protocol's whole list, so that it is the same in every report.

    `threshold` is --fail-on; `started_at` is in seconds since 1970, UTC; `warnings` are what a person was told meanwhile.
    """

    report: Report
    rules: tuple[Rule, ...]
    exit_code: int
    threshold: str = "high"
    started_at: float = 0.0
    warnings: tuple[str, ...] = ()


def tool_version() -> str:
    """This program's version."""
    return version("dsv3chat")


def one_line(text: str) -> str:
    """Foreign text as a part of one line: every run of white space, line ends of all kinds included, is one space."""
    return " ".join(text.split())


def shown_path(path: str) -> str:
    """A path as the start of a line: no line end in it, and no `:` before it, which a CI system could take for a command."""
    shown = "".join("\N{SYMBOL FOR NEWLINE}" if character in _LINE_ENDS else character for character in path)
    return f"./{shown}" if shown.startswith((":", "#")) else shown


_LINE_ENDS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")


def code_line(text: str) -> str:
    """A line of source as one line, its indentation kept."""
    return "".join(" " if character in _LINE_ENDS else character for character in text).rstrip()


def statement(finding: Finding) -> str:
    """Title and message as one line, never empty. A title that the message begins with, or that is the rule's, is left out."""
    title, message = one_line(finding.title), one_line(finding.message)
    rule = RULES.get(finding.rule)
    if (
        not title
        or message.startswith(title.rstrip("."))
        or (message and rule is not None and title == rule.title)
    ):
        return message or title or finding.rule
    return f"{title.rstrip('.')}: {message}" if message else title


def by_place(findings: Iterable[Finding]) -> list[Finding]:
    """By path, line and rule, whatever finished first."""
    return sorted(findings, key=lambda finding: (finding.path, finding.line, finding.rule))


def fingerprint(finding: Finding) -> str:
    """The finding's own fingerprint, or one of path, rule and code where it has none; never of the message."""
    if finding.fingerprint:
        return finding.fingerprint
    code = "\0".join((finding.path, finding.rule, one_line(finding.line_text)))
    return hashlib.sha256(code.encode("utf-8", "surrogateescape")).hexdigest()


def unused(names: str) -> str:
    """A comment that lets nothing be; `names` are the rules in it, "" for all."""
    return f"unused suppression: {one_line(names)}" if names.strip() else "unused suppression"


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def severities(findings: Iterable[Finding]) -> str:
    """`1 critical, 2 high`, the worst first; "" for none."""
    counts = Counter(finding.severity for finding in findings)
    return ", ".join(
        f"{counts[level]} {level.label}" for level in sorted(Severity, reverse=True) if counts[level]
    )


def conclusion(report: Report) -> str:
    """The review in one sentence. It says "no findings" only of files that were reviewed."""
    found = report.new_findings
    files = counted(len(report.reviewed), "file")
    what = f"{counted(len(found), 'finding')} ({severities(found)})" if found else "no findings"
    parts = [f"{what} in {files}" if report.reviewed else "nothing was reviewed"]
    for state, words in (("baseline", "in the baseline"), ("suppressed", "suppressed")):
        number = sum(finding.state == state for finding in report.findings)
        if number:
            parts.append(f"{number} {words}")
    if report.skipped:
        parts.append(f"{counted(len(report.skipped), 'file')} skipped")
    if not report.complete:
        parts.insert(0, f"INCOMPLETE: {why_incomplete(report)}")
    return "; ".join(parts)


def why_incomplete(report: Report) -> str:
    """In a few words; "" for a complete report."""
    if report.complete:
        return ""
    reasons = ["interrupted"] if report.interrupted else []
    if report.failed:
        reasons.append(f"{counted(len(report.failed), 'file')} not reviewed to the end")
    return ", ".join(reasons) or "stopped before the end"


def computed_per_second(report: Report) -> float | None:
    """Tokens that the model computed, in and out, over the whole time; None where it computed none."""
    computed = report.prompt_tokens - report.reused_tokens + report.completion_tokens
    return computed / report.seconds if computed > 0 and report.seconds > 0 else None
