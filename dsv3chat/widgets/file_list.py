"""The files of a review with their state, folder by folder. Knows what a line shows, not where it comes from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from textual.content import Content

from dsv3chat.review.values import Severity
from dsv3chat.sanitize import clean_line
from dsv3chat.widgets.lines import LineView, padded
from dsv3chat.widgets.rows import MUTED, Row
from dsv3chat.widgets.severity import FILE_SIGNS, FILE_STYLES, STYLES

_MANY = 50  # lines that are drawn one by one


class ListedFile(Protocol):
    """What the list shows of a file."""

    @property
    def path(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def num_chunks(self) -> int: ...
    @property
    def done_chunks(self) -> int: ...
    @property
    def counts(self) -> Mapping[Severity, int]: ...


class FileList(LineView):
    """A line a folder, and below it a line a file. The cursor stands on a file."""

    HAS_CURSOR = True
    ALLOW_SELECT = False

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._entries: list[str | ListedFile] = []  # folder or file
        self._places: dict[str, int] = {}

    def show(self, files: Iterable[ListedFile]) -> None:
        """List these, which come by path; the cursor stays on its file."""
        current = self.current
        by_folder: dict[str, list[ListedFile]] = {}
        for file in files:
            by_folder.setdefault(file.path.rpartition("/")[0], []).append(file)
        self._entries = []
        for folder, inside in sorted(by_folder.items()):
            if folder:
                self._entries.append(folder)
            self._entries += inside
        self._places = {e.path: i for i, e in enumerate(self._entries) if not isinstance(e, str)}
        self.cursor = self._places.get(current.path, 0) if current is not None else 0
        self.show_lines(len(self._entries))

    @property
    def current(self) -> ListedFile | None:
        """The file under the cursor; below a folder's line the first one of it."""
        for entry in self._entries[self.cursor :]:
            if not isinstance(entry, str):
                return entry
        return None

    def go(self, index: int) -> None:
        """To a file: over the line of a folder in the direction of the move, at the ends back to the nearest file."""
        last = self.num_lines - 1
        index = max(0, min(index, last))
        step = -1 if index < self.cursor else 1
        there = [
            *range(index, last + 1 if step > 0 else -1, step),
            *range(index, -1 if step > 0 else last + 1, -step),
        ]
        found = next((i for i in there if not isinstance(self._entries[i], str)), None)
        if found is not None:
            super().go(found)

    def go_to(self, path: str) -> None:
        """Put the cursor on a file."""
        if path in self._places:
            self.move_to(self._places[path])

    def files_changed(self, paths: Collection[str]) -> None:
        """Draw their lines anew."""
        if len(paths) > _MANY:
            self.show_lines(self.num_lines)
            return
        for path in paths:
            if path in self._places:
                self.line_changed(self._places[path])

    def follow_running(self) -> None:
        """Bring the last of those into sight that are being reviewed."""
        running = (i for i, e in enumerate(self._entries) if not isinstance(e, str) and e.status == "running")
        for last in running:
            self.bring_into_sight(last + 1)

    def refresh_running(self) -> None:
        """Draw those in sight anew that are being reviewed."""
        top = self.scroll_offset.y
        for index in range(top, min(top + self.size.height, len(self._entries))):
            entry = self._entries[index]
            if not isinstance(entry, str) and entry.status == "running":
                self.line_changed(index)

    def line(self, index: int, width: int) -> Row:
        """A folder's name, or sign, name, and counts or state in a word."""
        entry = self._entries[index]
        arrow = "▸" if index == self.cursor else " "
        if isinstance(entry, str):
            return Row(padded(Content.styled(f"{arrow}{clean_line(entry)}/", "bold"), width))
        sign = Content.styled(FILE_SIGNS.get(entry.status, "?"), FILE_STYLES.get(entry.status, ""))
        tail = _tail(entry)
        room = width - tail.cell_length - 5
        if room < 8:
            tail = tail.truncate(max(0, width - 14), ellipsis=True)
            room = width - tail.cell_length - 5
        name = Content(clean_line(entry.path.rpartition("/")[2]))
        muted = entry.status in ("skipped", "queued")
        return Row(
            Content.assemble(
                f"{arrow} ", sign, " ", padded(name.stylize(MUTED) if muted else name, room), " ", tail
            )
        )


def _tail(file: ListedFile) -> Content:
    match file.status:
        case "running":
            share = f" {file.done_chunks}/{file.num_chunks}" if file.num_chunks > 1 else ""
            return Content.styled(f"running{share}", FILE_STYLES["running"])
        case "skipped":
            return Content.styled(f"skip: {clean_line(file.reason)}", MUTED)
        case "failed" | "stopped":
            return Content.styled(file.status, FILE_STYLES[file.status])
    if not any(file.counts.values()):
        return Content.styled(
            "queued" if file.status == "queued" else "clean", FILE_STYLES.get(file.status, "")
        )
    parts = [
        Content.styled(f"{severity.label[0].upper()}{file.counts[severity]}", STYLES[severity])
        for severity in sorted(Severity, reverse=True)
        if file.counts.get(severity)
    ]
    return Content(" ").join(parts)
