"""The flags of `dsv3chat review` as one checked value. Knows no model and reads nothing but names of files.

What cannot be combined is refused with the reason, before anything is read or loaded.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import click

from dsv3chat.review.chunks import Strategy
from dsv3chat.review.formats import FORMATS, Format, format_of_file
from dsv3chat.review.values import ReviewOptions, Severity

Kind: TypeAlias = Literal["paths", "diff", "staged", "uncommitted", "commit", "stdin"]

_SCOPES = {
    "diff": "--diff",
    "staged": "--staged",
    "uncommitted": "--uncommitted",
    "commit": "--commit",
    "stdin_diff": "--stdin-diff",
}
_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1000, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9}
_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Target:
    """A file that the report is written to."""

    format: Format
    path: Path

    def __str__(self) -> str:
        return f"{self.format.name} → {self.path}"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. `stdout` None: standard output gets nothing; `fail_on` None: findings never fail."""

    paths: tuple[str, ...]
    kind: Kind
    revision: str  # of --diff ("" for none) and --commit
    strategy: Strategy
    context_tokens: int | None
    options: ReviewOptions
    fail_on: Severity | None
    stdout: Format | None
    format_given: bool
    targets: tuple[Target, ...]
    baseline: Path | None
    update_baseline: bool
    exclude: tuple[str, ...]
    gitignore: bool
    max_file_bytes: int
    protocol: str | None
    dry_run: bool
    evaluate: Path | None
    model: str | None
    profile: str | None
    overrides: tuple[str, ...]

    @property
    def is_diff(self) -> bool:
        return self.kind != "paths"

    @property
    def threshold(self) -> str:
        """--fail-on's word."""
        return "none" if self.fail_on is None else self.fail_on.label


def read_request(flags: Mapping[str, Any]) -> Request:
    """click.UsageError for what does not fit together."""
    kind, revision = _scope(flags)
    _refuse_combinations(flags, kind)
    targets = _targets(flags["output"], flags["output_format"])
    stdout: Format | None = FORMATS[flags["output_format"] or "text"]
    if flags["output_format"] and any(target.format is stdout for target in targets):
        stdout = None  # -f sarif -o FILE: the file gets it
    fail_on = flags["fail_on"]
    return Request(
        paths=tuple(flags["paths"]),
        kind=kind,
        revision=revision,
        strategy=flags["strategy"],
        context_tokens=flags["context_tokens"],
        options=ReviewOptions(
            min_confidence=flags["min_confidence"],
            max_findings=flags["max_findings"],
            passes=flags["passes"],
            verify=flags["verify"],
            seed=flags["seed"],
            context_findings=flags["context_findings"],
            max_prompt_tokens=flags["budget"],
            resume=flags["resume"],
        ),
        fail_on=None if fail_on == "none" else Severity[fail_on.upper()],
        stdout=stdout,
        format_given=flags["output_format"] is not None,
        targets=targets,
        baseline=None if flags["baseline"] is None else Path(flags["baseline"]),
        update_baseline=flags["update_baseline"],
        exclude=tuple(flags["exclude"]),
        gitignore=not flags["no_gitignore"],
        max_file_bytes=flags["max_file_bytes"],
        protocol=flags["protocol"],
        dry_run=flags["dry_run"],
        evaluate=None if flags["evaluate"] is None else Path(flags["evaluate"]),
        model=flags["model"],
        profile=flags["profile"],
        overrides=tuple(flags["overrides"]),
    )


def parse_size(text: str) -> int:
    """`1MB`, `512 KiB`, `2000`: in bytes. ValueError for anything else and for nothing."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"{text!r} is no size; write bytes, or a number with KB, MB, KiB or MiB")
    size = int(float(match[1]) * _UNITS[match[2].lower()])
    if size < 1:
        raise ValueError(f"{text!r} is less than one byte")
    return size


def _scope(flags: Mapping[str, Any]) -> tuple[Kind, str]:
    given = [name for name in _SCOPES if flags[name] not in (None, False)]
    if len(given) > 1:
        first, second = (_SCOPES[name] for name in given[:2])
        raise click.UsageError(f"{first} and {second} exclude each other: each names the changes to review")
    if not given:
        return "paths", ""
    name = given[0]
    kind: Kind = "stdin" if name == "stdin_diff" else name  # type: ignore[assignment]
    revision = flags[name] if name in ("diff", "commit") else ""
    if name == "commit" and not revision.strip():
        raise click.UsageError("--commit is empty; give a commit, as in --commit HEAD~1")
    return kind, revision


def _refuse_combinations(flags: Mapping[str, Any], kind: Kind) -> None:
    if kind == "paths":
        if flags["strategy"] == "hunk":
            raise click.UsageError(
                "--strategy hunk needs a diff: add --diff, --staged, --commit or --stdin-diff"
            )
        if flags["context_findings"]:
            raise click.UsageError(
                "--context-findings needs a diff: without one a finding may stand on any line already"
            )
    if flags["dry_run"] and (flags["output"] or flags["output_format"] not in (None, "text", "json")):
        raise click.UsageError(
            "--dry-run makes no report: it prints text, or JSON with -f json, and writes no file"
        )
    if flags["dry_run"] and flags["update_baseline"]:
        raise click.UsageError("--dry-run finds nothing that --update-baseline could write")
    if flags["update_baseline"] and flags["max_findings"] is not None:
        raise click.UsageError(
            "--update-baseline with --max-findings would leave out what is beyond the limit; take one of them"
        )
    if flags["evaluate"] is not None:
        _refuse_with_evaluate(flags, kind)


def _refuse_with_evaluate(flags: Mapping[str, Any], kind: Kind) -> None:
    """Labelled chunks are the scope and their labels the baseline."""
    unfit = {
        "PATH": flags["paths"],
        "a diff": kind != "paths",
        "--baseline": flags["baseline"] is not None,
        "--update-baseline": flags["update_baseline"],
        "--resume": flags["resume"],
        "--dry-run": flags["dry_run"],
        "--exclude": flags["exclude"],
        "-o": flags["output"],
    }
    for name, given in unfit.items():
        if given:
            raise click.UsageError(
                f"--evaluate and {name} exclude each other: the labelled file is the whole scope"
            )
    if flags["output_format"] not in (None, "text", "json"):
        raise click.UsageError(f"--evaluate prints text or json, not {flags['output_format']}")


def _targets(outputs: Sequence[str], output_format: str | None) -> tuple[Target, ...]:
    targets = tuple(_target(text, output_format) for text in outputs)
    seen: set[Path] = set()
    for target in targets:
        place = Path(os.path.abspath(target.path))
        if place in seen:
            raise click.UsageError(f"-o names {target.path} twice; a file holds one report")
        seen.add(place)
    return targets


def _target(text: str, output_format: str | None) -> Target:
    """FORMAT=FILE; of a FILE alone the format is the one that its name means, else -f's. `.json` is several: -f says which."""
    prefix, equals, rest = text.partition("=")
    if equals and re.fullmatch(r"\w+", prefix):
        if prefix not in FORMATS:
            near = difflib.get_close_matches(prefix, FORMATS, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(FORMATS)}"
            raise click.UsageError(f"-o {text}: {prefix} is no format; {hint}")
        return _checked(FORMATS[prefix], rest, text)
    meant = format_of_file(Path(text).name)
    if output_format is not None and (meant is None or meant.name == "json"):
        meant = FORMATS[output_format]
    if meant is None:
        known = ", ".join(FORMATS)
        raise click.UsageError(f"-o {text}: which format? Write -o FORMAT={text} with one of {known}")
    return _checked(meant, text, text)


def _checked(found: Format, name: str, text: str) -> Target:
    """A place where a file can be made, as far as that can be known before a long review."""
    if not name or name == "-":
        raise click.UsageError(f"-o {text} names no file; standard output gets what -f says")
    path = Path(name)
    if os.path.isdir(path):
        raise click.UsageError(f"-o {text}: {path} is a folder; give the name of a file")
    if not os.path.isdir(path.parent):
        raise click.UsageError(f"-o {text}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise click.UsageError(f"-o {text}: nothing can be written in {path.parent}")
    return Target(found, path)
