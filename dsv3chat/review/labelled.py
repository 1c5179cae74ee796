"""Labelled chunks from a JSON lines file: code, and the findings that belong to it. Knows no model and no score.

One object a line: {"path", "start", "code", "findings": [{"line", "rule"}]}. `start` is the file's number of the code's
first line, and so counts `line`. Further keys, such as a severity, are allowed and not used. Empty lines are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from dsv3chat.review.protocol import ReviewProtocol
from dsv3chat.review.scope.languages import TEXT, language_of
from dsv3chat.review.values import Chunk

Label: TypeAlias = tuple[int, str]  # (line, rule): what a finding is compared by


class LabelledFileError(ValueError):
    """The file cannot be used; the message begins with its name and, where there is one, the line number."""


@dataclass(frozen=True, slots=True)
class LabelledChunk:
    """A chunk and what is to be found in it; without labels it is clean. `source_line` is its line in the file."""

    chunk: Chunk
    labels: frozenset[Label]
    source_line: int


def read_labelled(file: Path, protocol: ReviewProtocol) -> tuple[LabelledChunk, ...]:
    """Every chunk of `file`, which `protocol` must be able to answer. LabelledFileError at the first that is wrong."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabelledFileError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise LabelledFileError(f"{file}: is not UTF-8 (byte at offset {error.start})") from error
    chunks = tuple(_chunks(text, str(file), protocol))
    if not chunks:
        raise LabelledFileError(f"{file}: holds no chunk; expected one JSON object a line")
    return chunks


def _chunks(text: str, file: str, protocol: ReviewProtocol) -> Iterator[LabelledChunk]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield _chunk(line, number, protocol)
            except (ValueError, RecursionError) as error:
                raise LabelledFileError(f"{file}:{number}: {error}") from error


def _chunk(line: str, number: int, protocol: ReviewProtocol) -> LabelledChunk:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"found {_kind(row)}; expected an object with path, start, code and findings")
    path, code = _text(row, "path"), _text(row, "code")
    start = _number(row, "start")
    if start < 1:
        raise ValueError(f"start is {start}; lines count from 1")
    lines = tuple(code.replace("\r\n", "\n").removesuffix("\n").split("\n"))
    if not code.strip():
        raise ValueError("code is empty")
    language = _language(path, lines[0], protocol)
    if reason := protocol.skip_reason(language):
        raise ValueError(f"{path} is {language}: {reason}")
    chunk = Chunk(path, language, start, lines)
    findings = row.get("findings")
    if not isinstance(findings, list):
        raise ValueError(f"findings is {_kind(findings)}; expected a list, empty where the code is clean")
    return LabelledChunk(chunk, frozenset(_label(found, chunk, protocol) for found in findings), number)


def _language(path: str, first_line: str, protocol: ReviewProtocol) -> str:
    """By the path; where that says nothing, a protocol of one language is taken at its word."""
    language = language_of(path, first_line)
    if language == TEXT and protocol.languages is not None and len(protocol.languages) == 1:
        return next(iter(protocol.languages))
    return language


def _label(found: object, chunk: Chunk, protocol: ReviewProtocol) -> Label:
    if not isinstance(found, dict):
        raise ValueError(f"a finding is {_kind(found)}; expected an object with line and rule")
    line, rule = _number(found, "line"), _text(found, "rule")
    if not chunk.start <= line <= chunk.end:
        raise ValueError(
            f"a finding stands on line {line}, the code on lines {chunk.start} to {chunk.end} "
            "(lines count as in the file: the first one is `start`)"
        )
    if protocol.rule(rule) is None:
        known = ", ".join(known.name for known in protocol.rules)
        raise ValueError(f"rule {rule!r} is none of the protocol {protocol.name}; known are {known}")
    return line, rule


def _text(row: dict[str, object], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is {_kind(value)}; expected text")
    return value


def _number(row: dict[str, object], key: str) -> int:
    value = row.get(key)
    if type(value) is not int:
        raise ValueError(f"{key} is {_kind(value)}; expected a whole number")
    return value


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number"}
    return kinds.get(type(value), "a number with a fraction")
