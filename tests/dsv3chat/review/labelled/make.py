"""Makes rules.jsonl from cases/*.txt: of each case the code with its planted defect, then its clean twin.

Knows no model and no reviewer. Run it after a change of a case: `python tests/dsv3chat/review/labelled/make.py`.

A case is a header and lines of code, each behind one mark:

    === src/lists/last.py:4 off-by-one      path, number of the first line, rule
     def last(items):                       (space) in both
    !    return items[len(items)]           !  in the code with the defect only; the finding stands here
    +    return items[len(items) - 1]       +  in the clean twin only

and `-`: with the defect only, no finding here; `=`: in both, and with the defect the finding stands here. So the twins
differ in just what makes one of them right. An empty line is an empty line of both.

Where a finding stands: on the line one would change or delete. An exception that is swallowed stands on its `except`
line, a leak where the resource is opened, a change of a container that is being walked over where it is changed,
code that is never reached on its first line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_HEADER = re.compile(r"=== (?P<path>\S+):(?P<start>\d+) (?P<rule>[a-z-]+)")


@dataclass(frozen=True, slots=True)
class Case:
    """A planted defect and its clean twin. `line` is the true number of the finding's line."""

    path: str
    start: int
    rule: str
    line: int
    defect: str
    clean: str

    def rows(self) -> list[dict[str, object]]:
        place = {"path": self.path, "start": self.start}
        finding = {"line": self.line, "rule": self.rule}
        return [
            {**place, "code": self.defect, "findings": [finding]},
            {**place, "code": self.clean, "findings": []},
        ]


def read_cases(text: str) -> Iterator[Case]:
    """ValueError with the header for a case without exactly one finding, or a line without a mark."""
    for block in text.split("\n=== "):
        header, *lines = ("=== " + block.removeprefix("=== ")).rstrip().split("\n")
        found = _HEADER.fullmatch(header)
        if found is None:
            raise ValueError(f"{header!r}: expected === PATH:START RULE")
        start = int(found["start"])
        defect: list[str] = []
        clean: list[str] = []
        numbers: list[int] = []
        for line in lines:
            mark, code = line[:1] or " ", line[1:]
            if mark not in " -+!=":
                raise ValueError(f"{header}: {line!r} has no mark")
            if mark in "!=":
                numbers.append(start + len(defect))
            if mark != "+":
                defect.append(code)
            if mark in " +=":
                clean.append(code)
        if len(numbers) != 1:
            raise ValueError(f"{header}: {len(numbers)} lines with a finding, expected one")
        yield Case(found["path"], start, found["rule"], numbers[0], "\n".join(defect), "\n".join(clean))


def all_cases() -> list[Case]:
    return [case for file in sorted((HERE / "cases").glob("*.txt")) for case in read_cases(file.read_text())]


def rules_jsonl() -> str:
    rows = (row for case in all_cases() for row in case.rows())
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    (HERE / "rules.jsonl").write_text(rules_jsonl(), encoding="utf-8")
