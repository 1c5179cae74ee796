"""The input, or a file, in the person's own editor, the app suspended meanwhile. Knows no widget."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from textual.app import App, SuspendNotSupported


class EditorError(Exception):
    """The text was not edited; the message says why and what to do."""


_COLON = {"code", "codium", "code-insiders", "cursor", "zed", "subl", "hx", "helix"}  # FILE:LINE
_GOTO = {"code", "codium", "code-insiders", "cursor"}  # and a flag before it


def edit_text(app: App[None], text: str) -> str:
    """`text` as $VISUAL or $EDITOR (vi without either) left it. Raises EditorError."""
    with tempfile.TemporaryDirectory(prefix="dsv3chat-") as folder:
        path = Path(folder) / "message.md"
        path.write_text(text, encoding="utf-8")
        _run(app, [str(path)], "the input stays as it was")
        return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n")


def open_at(app: App[None], path: Path, line: int) -> None:
    """The file in $VISUAL or $EDITOR (vi without either), at a line. Raises EditorError."""
    name = Path(_editor().split()[0]).name
    file = str(path.absolute())
    if name in _COLON:
        arguments = [*(["--goto"] if name in _GOTO else []), f"{file}:{line}"]
    else:
        arguments = [f"+{line}", file]
    _run(app, arguments, "")


def _editor() -> str:
    named = (os.environ.get(variable, "").strip() for variable in ("VISUAL", "EDITOR"))
    return next(filter(None, named), "vi")


def _run(app: App[None], arguments: list[str], otherwise: str) -> None:
    editor = _editor()
    try:
        with app.suspend():
            result = subprocess.run([*shlex.split(editor), *arguments], check=False)
    except SuspendNotSupported:
        raise EditorError("this terminal cannot be handed to an editor") from None
    except (OSError, ValueError) as error:
        raise EditorError(f"{editor} did not start: {error}; set EDITOR to another one") from error
    if result.returncode:
        raise EditorError(
            "; ".join(part for part in (f"{editor} ended with {result.returncode}", otherwise) if part)
        )
