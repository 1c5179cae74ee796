"""The real name of a changed file, from the headers of its diff. Knows no hunk and no disk.

Headers say it in many ways: quoted as in C, with the prefixes a/ b/, i/ w/ or others, with none, with a time after a
tab, twice in one line with spaces inside.
"""

from __future__ import annotations

import os
import re

_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = dict(zip(b"abtnvfr", b"\a\b\t\n\v\f\r", strict=True))
_PREFIX_PAIRS = {
    b"ab",
    b"iw",
    b"ci",
    b"cw",
    b"ow",
    b"12",
    b"wi",
    b"ic",
    b"wc",
    b"wo",
    b"ba",
    b"21",
}  # also of diff -R
DEV_NULL = b"/dev/null"
_MAX_HEADER = 10_000  # bytes; two paths as long as a system takes them


def unquote(name: bytes) -> bytes:
    r"""`"a/\303\244\t.py"` as the bytes it stands for; a name without quotes as it is."""
    quoted = _QUOTED.fullmatch(name)
    return _ESCAPE.sub(_unescape, quoted[1]) if quoted else name


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes([int(code, 8) & 0xFF])
    return bytes([_LETTERS.get(code[0], code[0])])


def side(rest: bytes) -> bytes:
    """The name after `--- ` or `+++ `: unquoted, without the tab and time that may follow it."""
    quoted = _QUOTED.match(rest)
    return unquote(quoted[0]) if quoted else rest.split(b"\t", 1)[0]


def halves(rest: bytes) -> tuple[bytes, bytes] | None:
    """The two names after `diff --git `. Without quotes, the space between them is where both sides name one file."""
    if quoted := _QUOTED.match(rest):
        return unquote(quoted[0]), unquote(rest[quoted.end() + 1 :])
    if rest.endswith(b'"') and (start := rest.find(b' "')) > 0:
        return rest[:start], unquote(rest[start + 1 :])
    if len(rest) > _MAX_HEADER:
        return None
    middle = len(rest) // 2
    left, right = rest[:middle], rest[middle + 1 :]
    if rest[middle : middle + 1] == b" " and left[2:] == right[2:]:
        return left, right
    pairs = ((rest[:i], rest[i + 1 :]) for i, byte in enumerate(rest) if byte == 0x20)
    return max(pairs, key=lambda pair: len(common(*pair) or b""), default=None)


def common(old: bytes, new: bytes) -> bytes | None:
    """The longest path in which both end, None where not even the file's own name agrees."""
    parts: list[bytes] = []
    for left, right in zip(reversed(old.split(b"/")), reversed(new.split(b"/")), strict=False):
        if left != right:
            break
        parts.append(left)
    return b"/".join(reversed(parts)) or None


def candidates(header: tuple[bytes, bytes] | None, old: bytes, new: bytes, moved_to: bytes) -> list[bytes]:
    """What the changed file may be called, the likeliest first; [] where the headers hold no name.

    `header`: both names of `diff --git`; `old`, `new`: those of `---` and `+++`; `moved_to`: that of `rename to`, which
    has no prefix. Absent ones are empty.
    """
    if moved_to:
        return [moved_to]
    two_sided = bool(old and new) and DEV_NULL not in (old, new)
    if header is not None and not two_sided and (name := _without_prefixes(*header)):
        return [name]
    names: list[bytes] = []
    if two_sided:
        names += [name for name in (_without_prefixes(old, new), new) if name]
    else:
        names += [name for name in (new, old) if name and name != DEV_NULL]
    stripped = [name[2:] for name in names if name[1:2] == b"/" and name[:1] in b"abciow12"]
    if not two_sided:
        names = [*stripped, *names]  # one side only: nothing says whether "b/" is a folder
    return [name for name in dict.fromkeys(names) if name]


def _without_prefixes(old: bytes, new: bytes) -> bytes | None:
    if old == new:
        return new
    if old[1:2] == new[1:2] == b"/" and old[:1] + new[:1] in _PREFIX_PAIRS:
        return new[2:]
    return common(old, new)


def readable(name: bytes) -> str:
    """The name as a path; bytes that are no UTF-8 become lone surrogates, as everywhere in Python."""
    return os.fsdecode(name)
