"""Reports for the tests of the formats: harmless ones, and ones that hold what an attacker would put there."""

from pathlib import Path

from dsv3chat.review.formats import Document
from dsv3chat.review.nano_protocol import NANO
from dsv3chat.review.values import Finding, Report, Severity, Skipped

HOSTILE = (
    "<img src=x onerror=alert(1)> ![p](http://evil.example/p.png) @octocat #1 [a](javascript:1)\n"
    "::error file=a.py::owned\x1b]52;c;AAAA\x07\x1b[2J \u202e `` ``` </details> %0A {0} {name} [x](1)"
)
ODD_PATHS = [
    "my dir/x.py",
    "a#b.py",
    "100% done.py",
    "naïve.py",
    "a:b,c?.py",
    "tab\tnew\nline.py",
    "日本/語.py",
]


def finding(path="src/app.py", line=12, **fields):
    values = {
        "end_line": line,
        "severity": Severity.HIGH,
        "rule": "mutable-default",
        "title": "Default list is shared",
        "message": "The default list is shared between calls.",
        "suggestion": "def f(x, acc=None):",
        "confidence": 0.934,
        "line_text": "    def f(x, acc=[]):",
        "fingerprint": "ab" * 32,
    }
    return Finding(path, line, **(values | fields))


def report(*findings, **fields):
    values = {
        "description": "src",
        "root": Path("/home/me/my project"),
        "model": "nano",
        "profile": "nano-cpu",
        "protocol": "nano",
        "findings": findings,
        "reviewed": tuple(sorted({found.path for found in findings} or {"src/app.py"})),
        "skipped": (Skipped("data.bin", "binary"),),
        "failed": (),
        "num_chunks": 3,
        "prompt_tokens": 900,
        "reused_tokens": 300,
        "completion_tokens": 60,
        "seconds": 12.0,
    }
    return Report(**(values | fields))


def document(*findings, exit_code=0, warnings=(), **fields):
    return Document(report(*findings, **fields), NANO.rules, exit_code, "high", 1_700_000_000.0, warnings)


def incomplete(*findings, **fields):
    failed = (Skipped("src/b.py", "the answer was cut at 1024 tokens"),)
    return document(*findings, exit_code=3, complete=False, failed=failed, **fields)
