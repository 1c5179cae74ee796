"""The review as JSON lines: an event a line while it runs, or all of them at the end. Knows no stream.

Events: start, finding (as it is confirmed), file, progress, and last end; where there is no report, failed.
"""

from __future__ import annotations

import json
from typing import Any

from dsv3chat.review.formats.document import Document, by_place
from dsv3chat.review.formats.json_report import finding_fields, report_fields
from dsv3chat.review.values import ChunkDone, FileDone, FindingFound, ReviewEvent, ReviewStarted


def write_jsonl(document: Document) -> str:
    """The findings by path and line, then the end."""
    findings = by_place(document.report.findings)
    return "".join(_line("finding", **finding_fields(finding)) for finding in findings) + end_line(document)


def event_line(event: ReviewEvent) -> str:
    """The line of an event, "" where it has none: the last one's is `end_line`, which knows the exit code."""
    match event:
        case ReviewStarted():
            return _line(
                "start",
                scope=event.description,
                files=event.num_files,
                chunks=event.num_chunks,
                prompt_tokens=event.prompt_tokens,
                seconds_left=_seconds(event.seconds_left),
                skipped=[{"path": skipped.path, "reason": skipped.reason} for skipped in event.skipped],
            )
        case FindingFound():
            return _line("finding", **finding_fields(event.finding))
        case FileDone():
            return _line(
                "file",
                path=event.path,
                status=event.status,
                findings=event.num_findings,
                reason=event.reason,
                from_cache=event.from_cache,
            )
        case ChunkDone():
            return _line(
                "progress",
                done=event.done_chunks,
                chunks=event.num_chunks,
                seconds_left=_seconds(event.seconds_left),
            )
        case _:
            return ""


def end_line(document: Document) -> str:
    """The whole report but its findings, which have lines of their own, and their number."""
    fields = report_fields(document)
    fields["findings"] = len(fields["findings"])
    return _line("end", **fields)


def _line(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, **fields}) + "\n"


def _seconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
