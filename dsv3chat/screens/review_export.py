"""The report into a file: a format and a name, both in one field. Knows the formats and no report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from textual.content import Content

from dsv3chat.review.formats import FORMATS, Format, format_of_file
from dsv3chat.sanitize import clean_line
from dsv3chat.screens.picker import Picker
from dsv3chat.widgets.rows import MUTED

_NAMES = {"text": "review.txt", "github": "review.github.txt", "gitlab": "gl-code-quality-report.json"}


class ExportScreen(Picker):
    """Dismisses with `FORMAT FILE`. Typing narrows the formats, or names the file; its ending chooses the format."""

    TITLE_TEXT = "Export"
    PLACEHOLDER = "a format, or a file's name"
    KEYS_TEXT = "⏎ write  ↑↓ format  type a file's name  esc close"

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def lines(self, query: str) -> Sequence[tuple[str, Content]]:
        """A line a format, with the file that would be written."""
        typed = query.strip()
        meant = format_of_file(typed) if typed else None
        if meant is not None:
            return [self._line(meant, typed)]
        named = [found for found in FORMATS.values() if typed.lower() in found.name]
        if named:
            return [self._line(found, self._free(_name(found))) for found in named]
        return [self._line(found, f"{typed}{Path(_name(found)).suffix}") for found in FORMATS.values()]

    def _exists(self, name: str) -> bool:
        return os.path.lexists(self._root / os.path.expanduser(name))

    def _free(self, name: str) -> str:
        """The name, or the first with a number that is free."""
        stem, suffix = os.path.splitext(name)
        numbered = (f"{stem}-{number}{suffix}" for number in range(2, 10_000))
        return next((n for n in chain((name,), numbered) if not self._exists(n)), name)

    def _line(self, found: Format, name: str) -> tuple[str, Content]:
        note = "  exists and is not overwritten" if self._exists(name) else ""
        line = Content.assemble((f"{found.name:9} ", "bold"), clean_line(name), (note, MUTED))
        return f"{found.name} {name}", line


def _name(found: Format) -> str:
    """The name that a file of this format is given."""
    return _NAMES.get(found.name) or f"review{found.suffixes[0]}"
