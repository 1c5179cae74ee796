"""From hunk to hunk and from file to file. Knows the review screen's panes and changes no finding."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsv3chat.screens.review import ReviewScreen


def next_hunk(screen: ReviewScreen, step: int) -> None:
    """Show the next hunk, or the one before; in a file without hunks go to its next finding."""
    source, code = screen.view.code.source, screen.view.code
    if source is None:
        return
    lines = {item.finding.line for item in screen.findings.items if item.finding.path == source.path}
    starts = [hunk.start for hunk in source.hunks] or sorted(lines)
    here = code.shown_number
    ahead = [n for n in starts if (n > here if step > 0 else n < here)]
    if not ahead:
        screen.say("there is none further " + ("down" if step > 0 else "up"))
        return
    number = ahead[0] if step > 0 else ahead[-1]
    if source.hunks:
        code.go_to(number)
        screen.view.show_place(number)
    else:
        _go_to(screen, source.path, number)


def next_file(screen: ReviewScreen, step: int) -> None:
    """Go to the first finding of the next file that has one, around the ends."""
    item = screen.current
    if item is None:
        return
    paths = sorted({listed.finding.path for listed in screen.findings.items})
    path = paths[(paths.index(item.finding.path) + step) % len(paths)]
    _go_to(screen, path)


def _go_to(screen: ReviewScreen, path: str, number: int | None = None) -> None:
    for place, item in enumerate(screen.findings.items):
        if item.finding.path == path and number in (None, item.finding.line):
            screen.findings.move_to(place)
            screen.moved()
            return
