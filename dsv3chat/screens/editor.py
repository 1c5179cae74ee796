"""The input in the person's own editor, the app suspended meanwhile. Knows no widget."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from textual.app import App, SuspendNotSupported


class EditorError(Exception):
    """The text was not edited; the message says why and what to do."""


def edit_text(app: App[None], text: str) -> str:
    """`text` as $VISUAL or $EDITOR (vi without either) left it. Raises EditorError."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="dsv3chat-") as folder:
        path = Path(folder) / "message.md"
        path.write_text(text, encoding="utf-8")
        try:
            with app.suspend():
                result = subprocess.run([*shlex.split(editor), str(path)], check=False)
        except SuspendNotSupported:
            raise EditorError("this terminal cannot be handed to an editor") from None
        except (OSError, ValueError) as error:
            raise EditorError(f"{editor} did not start: {error}; set EDITOR to another one") from error
        if result.returncode:
            raise EditorError(f"{editor} ended with {result.returncode}; the input stays as it was")
        return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
