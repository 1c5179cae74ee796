"""The baseline: a file of findings that are known and let be, by fingerprint. Knows no reviewer and no severity."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dsv3chat.review.values import Finding, Report

BASELINE_FILE = ".dsv3-baseline.json"  # in the scope's root, where no other is named
_VERSION = 1
_KEYS = ("fingerprint", "path", "rule")  # of a finding, in the order of Entry


class BaselineError(Exception):
    """The file cannot be read, understood or written; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A known finding. Path and rule are for people and for pruning; the fingerprint decides."""

    fingerprint: str
    path: str
    rule: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """Known findings. Every change is a new value; `write` puts it into a file."""

    entries: Mapping[str, Entry] = field(default_factory=dict)  # by fingerprint

    @classmethod
    def read(cls, file: Path) -> Baseline:
        """The baseline in `file`. BaselineError, also when it is absent: a baseline that is asked for is there."""
        try:
            text = file.read_text("utf-8")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise BaselineError(
                f"the baseline {file} cannot be read: {why}; make one with --update-baseline"
            ) from error
        try:
            entries = _entries(text)
        except _WrongError as error:
            raise BaselineError(
                f"the baseline {file} is not one: {error}; restore it, or delete it and make one with --update-baseline"
            ) from error
        return cls({entry.fingerprint: entry for entry in entries})

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self.entries

    def __len__(self) -> int:
        return len(self.entries)

    def adding(self, findings: Iterable[Finding]) -> Baseline:
        """With these findings too."""
        return Baseline(dict(self.entries) | {f.fingerprint: _entry(f) for f in findings})

    def removing(self, fingerprints: Iterable[str]) -> Baseline:
        """Without these."""
        gone = set(fingerprints)
        return Baseline({key: entry for key, entry in self.entries.items() if key not in gone})

    def updated(self, report: Report, *, whole_files: bool) -> Baseline:
        """As the report has it: its findings are added, suppressed ones aside; what its files no longer have is pruned.

        Entries of files that the report did not review, or not completely, stay. `whole_files` False (a diff) prunes
        nothing, since the rest of each file was not looked at; neither does a report that left findings out.
        """
        known = [finding for finding in report.findings if finding.state != "suppressed"]
        reviewed = set(report.reviewed) - {failed.path for failed in report.failed}
        if not whole_files or report.dropped.get(OVER_LIMIT):
            reviewed = set()
        kept = {key: entry for key, entry in self.entries.items() if entry.path not in reviewed}
        return Baseline(kept).adding(known)

    def pruned(self, root: Path) -> Baseline:
        """Without the entries of files that are no longer below `root`."""
        return Baseline(
            {key: entry for key, entry in self.entries.items() if os.path.lexists(root / entry.path)}
        )

    def text(self) -> str:
        """The file's content: sorted, so that equal baselines are equal files."""
        entries = sorted(self.entries.values(), key=lambda e: (e.path, e.rule, e.fingerprint))
        findings = [{"path": e.path, "rule": e.rule, "fingerprint": e.fingerprint} for e in entries]
        return json.dumps({"version": _VERSION, "findings": findings}, indent=1, ensure_ascii=True) + "\n"

    def write(self, file: Path) -> None:
        """Replace `file` at once: it is the old one or the new one, whatever happens. BaselineError."""
        try:
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=file.parent, prefix=f".{file.name}.", delete=False
            ) as stream:
                temporary = Path(stream.name)
            try:
                temporary.write_text(self.text(), "utf-8")
                temporary.chmod(0o644)
                temporary.replace(file)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise BaselineError(f"the baseline {file} cannot be written: {error.strerror}") from error


OVER_LIMIT = "over --max-findings"  # a reason of Report.dropped


class _WrongError(Exception):
    """The text is no baseline; in which way."""


def _entries(text: str) -> list[Entry]:
    """Raises _WrongError."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise _WrongError(
            f"it is no JSON (line {error.lineno}, column {error.colno}: {error.msg.lower()})"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets as deep
        raise _WrongError("it is no JSON of a form that a baseline has") from error
    if not isinstance(found, dict) or not isinstance(found.get("findings"), list):
        raise _WrongError('expected is an object with "version" and a list "findings"')
    if found.get("version") != _VERSION:
        raise _WrongError(f"it has version {json.dumps(found.get('version'))}, this program reads {_VERSION}")
    for number, entry in enumerate(found["findings"], 1):
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in _KEYS):
            raise _WrongError(f"finding {number} lacks one of {', '.join(_KEYS)}, each a text")
    return [Entry(*(entry[key] for key in _KEYS)) for entry in found["findings"]]


def _entry(finding: Finding) -> Entry:
    return Entry(finding.fingerprint, finding.path, finding.rule)
