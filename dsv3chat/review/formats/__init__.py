"""The output formats by name. Each turns a Document into text; none knows where that goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dsv3chat.review.formats.document import Document
from dsv3chat.review.formats.github import write_github
from dsv3chat.review.formats.gitlab import write_gitlab
from dsv3chat.review.formats.json_report import write_error, write_json_report
from dsv3chat.review.formats.jsonl import error_line, write_jsonl
from dsv3chat.review.formats.markdown import write_markdown
from dsv3chat.review.formats.rdjson import write_rdjson
from dsv3chat.review.formats.sarif import write_sarif
from dsv3chat.review.formats.text import write_text


@dataclass(frozen=True, slots=True)
class Format:
    """`error` (message, kind, exit code) writes what stands in place of a report; None: an error is words on standard error."""

    name: str
    write: Callable[[Document], str]
    suffixes: tuple[str, ...]  # of file names that mean it
    error: Callable[[str, str, int], str] | None = None


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        found.name: found
        for found in (
            Format("text", write_text, (".txt",)),
            Format("json", write_json_report, (".json",), write_error),
            Format("jsonl", write_jsonl, (".jsonl", ".ndjson"), error_line),
            Format("markdown", write_markdown, (".md", ".markdown")),
            Format("sarif", write_sarif, (".sarif", ".sarif.json"), write_error),
            Format("gitlab", write_gitlab, ("gl-code-quality-report.json",), write_error),
            Format("github", write_github, ()),
            Format("rdjson", write_rdjson, (".rdjson",), write_error),
        )
    }
)


def format_of_file(name: str) -> Format | None:
    """The format that a file's name means, the longest ending first; None when it means none."""
    fitting = [
        (suffix, found)
        for found in FORMATS.values()
        for suffix in found.suffixes
        if name.lower().endswith(suffix)
    ]
    return max(fitting, key=lambda pair: len(pair[0]))[1] if fitting else None


__all__ = ["FORMATS", "Document", "Format", "format_of_file"]
