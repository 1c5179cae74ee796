"""The output formats by name. Each turns a Document into text; none knows where that goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from dsv3chat.review.formats.document import Document
from dsv3chat.review.formats.github import write_github
from dsv3chat.review.formats.gitlab import write_gitlab
from dsv3chat.review.formats.json_report import write_json_report
from dsv3chat.review.formats.jsonl import write_jsonl
from dsv3chat.review.formats.markdown import write_markdown
from dsv3chat.review.formats.rdjson import write_rdjson
from dsv3chat.review.formats.sarif import write_sarif
from dsv3chat.review.formats.text import write_text

ErrorForm: TypeAlias = Literal["text", "json", "jsonl"]


@dataclass(frozen=True, slots=True)
class Format:
    """`errors`: the form of an error, so that one of a JSON format is JSON too and nobody takes it for a clean report."""

    name: str
    write: Callable[[Document], str]
    suffixes: tuple[str, ...]  # of file names that mean it
    errors: ErrorForm = "text"


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        found.name: found
        for found in (
            Format("text", write_text, (".txt",)),
            Format("json", write_json_report, (".json",), "json"),
            Format("jsonl", write_jsonl, (".jsonl", ".ndjson"), "jsonl"),
            Format("markdown", write_markdown, (".md", ".markdown")),
            Format("sarif", write_sarif, (".sarif", ".sarif.json"), "json"),
            Format("gitlab", write_gitlab, ("gl-code-quality-report.json",), "json"),
            Format("github", write_github, ()),
            Format("rdjson", write_rdjson, (".rdjson",), "json"),
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
