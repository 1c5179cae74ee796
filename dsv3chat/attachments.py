"""Files named in a message with @: finds the names and reads the files. Knows no screen and no model.

`@src/a.py` is a file, `@src/a.py:10-40` its lines, `@src/a.py:10-` the lines from there on, `@src/` a folder's listing,
`@"my file.py"` a name with spaces. In backticks or a fenced block an @ names nothing.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dsv3chat.conversation import Attachment
from dsv3chat.file_listing import Candidate, complete_path, listing, walk
from dsv3chat.file_text import NotTextError, decode

__all__ = ["AttachmentError", "Candidate", "Reference", "complete_path", "find_references", "load_attachment"]

MAX_FILE_BYTES = 32 * 1024**2
MAX_LISTED = 1000  # paths in a folder's listing
_BEFORE = r"(?<![^\s(\[{<,;:])"  # a letter before the @ makes it an e-mail address, a quote a package's name in code
_REFERENCE = re.compile(_BEFORE + r'@(?:"(?P<quoted>[^"\n]+)"(?P<lines>:\d+(?:-\d*)?)?|(?P<plain>[^\s"`]+))')
_LINES = re.compile(r"(?P<path>.+?):(?P<first>\d+)(?:(?P<dash>-)(?P<last>\d*))?")
_CODE = re.compile(
    r"^(?P<fence>```+|~~~+).*?(?:^(?P=fence)[`~]*[ \t]*$|\Z)|`[^`\n]+`", re.DOTALL | re.MULTILINE
)
_DECORATOR = re.compile(r"[\w.=]+\(")  # a call, not a name
_SUFFIXES = re.compile(
    r"\.(c|cc|cfg|cpp|cs|css|csv|cu|diff|go|h|hpp|html|ini|ipynb|java|js|json|jsonl|jsx|kt|log|lua|md|mjs|patch|php|pl|py"
    r"|pyi|rb|rs|rst|scala|sh|sql|svelte|swift|tex|toml|ts|tsv|tsx|txt|vue|xml|yaml|yml|zig)",
    re.IGNORECASE,
)


class AttachmentError(Exception):
    """The file cannot be attached; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`label` is what stands after the @; lines count from 1, both ends belong to it.

    Without first_line it is the whole file; with first_line alone everything from that line on.
    """

    label: str
    path: str
    first_line: int | None = None
    last_line: int | None = None


def find_references(text: str, root: Path | None = None) -> list[Reference]:
    """The files that `text` names, in order, each once. `root` (the current folder if None) decides what exists.

    A name that exists is a reference; one that does not is a slip worth an error when it has a slash, lines, quotes or
    the suffix of a text file, and else (`@property`, `@someone`) plain text.
    """
    root = Path.cwd() if root is None else root
    code = [m.span() for m in _CODE.finditer(text)]
    found: list[Reference] = []
    for match in _REFERENCE.finditer(text):
        if any(start <= match.start() < end for start, end in code):
            continue
        if match["quoted"]:
            found.append(_with_lines(match["quoted"] + (match["lines"] or ""), root))
        elif (reference := _plain(match["plain"], root)) is not None:
            found.append(reference)
    return list(dict.fromkeys(found))


def _plain(token: str, root: Path) -> Reference | None:
    """The longest beginning of `token` that exists, closing punctuation taken off at its end; else what looks like a file.

    A bracket that closes what the token did not open ends the name, unless the file is really called so.
    """
    shorter = token
    for candidate in dict.fromkeys((token, _until_unopened(token))):
        shorter = candidate
        while shorter:
            reference = _with_lines(shorter, root)
            named = any(c.isalnum() for c in shorter) or shorter.endswith("/")
            if named and _exists(root, reference.path):
                return reference
            if shorter[-1] not in ".,;:!?)]}>'*":
                break
            shorter = shorter[:-1]
    if not shorter or _DECORATOR.match(token):
        return None
    reference = _with_lines(shorter, root)
    suffix = _SUFFIXES.fullmatch(os.path.splitext(reference.path)[1])
    looks = "/" in reference.path or reference.first_line is not None or suffix is not None
    return reference if looks and any(c.isalnum() for c in reference.path) else None


def _until_unopened(token: str) -> str:
    """`token` up to the first bracket in it that closes none of its own: `a.py` of `a.py]x[/]`, all of `src/[id]/a.ts`."""
    opened: list[str] = []
    for place, character in enumerate(token):
        if character in "([{":
            opened.append(character)
        elif character in ")]}" and (not opened or opened.pop() + character not in ("()", "[]", "{}")):
            return token[:place]
    return token


def _with_lines(label: str, root: Path) -> Reference:
    match = _LINES.fullmatch(label)
    if match is None or _exists(root, label):
        return Reference(label, label)
    first = int(match["first"])
    last = int(match["last"]) if match["last"] else None if match["dash"] else first
    return Reference(label, match["path"], first, last)


def _exists(root: Path, path: str) -> bool:
    try:
        return os.path.lexists(root / os.path.expanduser(path))
    except ValueError:  # a NUL in the name
        return False


def load_attachment(
    reference: Reference, root: Path, count_tokens: Callable[[str], int], limit: int | None = None
) -> Attachment:
    """Read the file, its lines, or the folder's listing. `limit`: the most tokens. Raises AttachmentError.

    The text has \\n line ends and no BOM. The label names another encoding than UTF-8, which the model and the person see.
    """
    name = f"@{reference.label}"
    path, status = _locate(reference, root)
    if stat.S_ISDIR(status.st_mode):
        if reference.first_line is not None:
            raise AttachmentError(f"{name}: is a folder and has no lines")
        return _sized(reference.label, _folder_text(path, root.resolve()), count_tokens, limit)
    if not stat.S_ISREG(status.st_mode):
        raise AttachmentError(f"{name}: is neither a file nor a folder")
    if status.st_size > MAX_FILE_BYTES:
        size, most = status.st_size / 1024**2, MAX_FILE_BYTES // 1024**2
        raise AttachmentError(f"{name}: has {size:.0f} MiB; the most that is read is {most} MiB")
    try:
        text, encoding = decode(path.read_bytes())
    except OSError as error:
        raise AttachmentError(f"{name}: cannot be read: {error.strerror}") from error
    except NotTextError as error:
        raise AttachmentError(f"{name}: {error}") from error
    label = reference.label if encoding == "UTF-8" else f"{reference.label} ({encoding})"
    return _sized(label, _lines_of(text, reference), count_tokens, limit)


def _locate(reference: Reference, root: Path) -> tuple[Path, os.stat_result]:
    """The real place, links followed, which must lie below the real root."""
    name = f"@{reference.label}"
    try:
        real_root = root.resolve()
        path = (real_root / os.path.expanduser(reference.path)).resolve()
        if not path.is_relative_to(real_root):
            raise AttachmentError(
                f"{name}: lies outside the working folder {real_root}; copy it there to attach it"
            )
        return path, path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        near = _nearest(reference.path, root)
        hint = f"did you mean {' or '.join(near)}?" if near else "in backticks it is plain text"
        raise AttachmentError(f"{name}: there is no such file; {hint}") from error
    except RuntimeError as error:  # Python 3.11 and 3.12 raise it for a loop of links
        raise AttachmentError(f"{name}: the link leads to itself") from error
    except (OSError, ValueError) as error:
        raise AttachmentError(
            f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def _nearest(path: str, root: Path) -> list[str]:
    by_name: dict[str, str] = {}
    for known in listing(root).paths:
        by_name.setdefault(known.rstrip("/").rpartition("/")[2], known)
        if len(by_name) >= 20_000:
            break
    name = path.rstrip("/").rpartition("/")[2]
    return ["@" + by_name[n] for n in difflib.get_close_matches(name, by_name, n=3, cutoff=0.6)]


def _lines_of(text: str, reference: Reference) -> str:
    first = reference.first_line
    if first is None:
        return text
    lines = text.removesuffix("\n").split("\n") if text else []
    last = len(lines) if reference.last_line is None else reference.last_line
    if not 1 <= first <= last <= len(lines):
        have = f"lines 1 to {len(lines)}" if lines else "no lines"
        raise AttachmentError(f"@{reference.label}: the file has {have}")
    return "\n".join(lines[first - 1 : last])


def _folder_text(folder: Path, root: Path) -> str:
    """The paths below the folder, relative to it, sizes beside them."""
    inside = folder.relative_to(root).as_posix()
    prefix = "" if inside == "." else inside + "/"
    files = [p for p in listing(root).paths if p.startswith(prefix) and not p.endswith("/")]
    if not files:  # ignored by git, or empty
        prefix, root = "", folder
        files = list(islice(walk(folder), MAX_LISTED + 1))
    lines = []
    for path in files[:MAX_LISTED]:
        try:
            lines.append(f"{path.removeprefix(prefix)}  {os.stat(root / path).st_size} bytes")
        except OSError:
            continue
    if len(files) > MAX_LISTED:
        lines.append("... and more files")
    return "\n".join(lines) if lines else "(no files)"


def _sized(label: str, text: str, count_tokens: Callable[[str], int], limit: int | None) -> Attachment:
    num_lines = text.count("\n") + (not text.endswith("\n")) if text else 0
    if (
        limit is not None
        and len(text) > 16 * limit
        and (at_least := count_tokens(text[: 16 * limit])) > limit
    ):
        num_tokens, how = at_least, "more than "  # the rest need not be counted
    else:
        num_tokens, how = count_tokens(text), ""
    if limit is not None and num_tokens > limit:
        fitting = num_lines * limit // (2 * num_tokens)
        part = f"@{label.partition(':')[0].partition(' (')[0]}:1-{fitting}"
        advice = f"attach a part of it, like {part}" if fitting else "its lines are too long to attach a part"
        raise AttachmentError(
            f"@{label}: has {how}{num_tokens} tokens in {num_lines} line{'s' if num_lines != 1 else ''}, "
            f"the context has room for {limit}; {advice}"
        )
    return Attachment(label, text, num_lines, num_tokens)
