"""What the keys of the review do with a finding and with the report. Knows the screen's verbs, not its panes."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from textual.content import Content

from dsv3chat.review.apply import ApplyError
from dsv3chat.review.baseline import BaselineError
from dsv3chat.sanitize import clean_line
from dsv3chat.screens.editor import EditorError, open_at
from dsv3chat.screens.review_export import ExportScreen
from dsv3chat.screens.review_state import Item
from dsv3chat.screens.review_words import as_text, question
from dsv3chat.widgets.message import grouped
from dsv3chat.widgets.rows import MUTED

if TYPE_CHECKING:
    from dsv3chat.screens.review import ReviewScreen


_OUTLOOK_S = 0.5  # a report of two thousand findings takes 6 ms


class ReviewActions:
    """Each does it, or says why not."""

    def __init__(self, screen: ReviewScreen) -> None:
        self._screen = screen
        self._outlook: tuple[object, str] = (None, "")
        self._outlook_at = 0.0

    def perform(self, verb: str) -> None:
        """Do what a key asks for."""
        match verb:
            case "apply":
                self.apply()
            case "undo":
                self.undo()
            case "ignore":
                self.ignore()
            case "false_positive":
                self.mark_false()
            case "copy":
                self.copy()
            case "export":
                self.export()
            case "editor":
                self.edit()

    def _item(self) -> Item | None:
        item = self._screen.current
        if item is None:
            self._screen.say("there is no finding here")
        return item

    def apply(self) -> None:
        """Put the suggestion into its file, if its lines are still those that were reviewed."""
        screen, item = self._screen, self._item()
        if item is None:
            return
        if item.mark == "applied":
            screen.say("the suggestion is applied; u undoes it")
            return
        try:
            screen.session.apply(item)
        except ApplyError as error:
            screen.say(f"not applied: {error}", "warning")
        else:
            screen.say(f"applied to {item.finding.path}; u undoes it")
            screen.item_changed()

    def undo(self) -> None:
        """Take the suggestion out again: this finding's, else the one applied last."""
        screen = self._screen
        try:
            undone = screen.session.undo(screen.current)
        except ApplyError as error:
            screen.say(f"not undone: {error}", "warning")
            return
        if undone is None:
            screen.say("nothing is applied")
        else:
            screen.say(f"{undone.finding.path}:{undone.finding.line} is as it was")
            screen.item_changed()

    def ignore(self) -> None:
        """Into the baseline, or out of it."""
        screen, item = self._screen, self._item()
        if item is None:
            return
        if item.finding.state != "new":
            screen.say(f"the finding is {_KNOWN[item.finding.state]} already")
            return
        try:
            path = screen.session.ignore(item)
        except BaselineError as error:
            screen.say(str(error), "error")
            return
        screen.say(f"written to {path}" if item.mark == "ignored" else f"taken out of {path}")
        screen.item_changed()

    def mark_false(self) -> None:
        """It is wrong; the mark is kept to measure precision."""
        screen, item = self._screen, self._item()
        if item is None:
            return
        try:
            screen.session.mark_false(item)
        except OSError as error:
            screen.say(f"not kept: {error}", "error")
            return
        screen.say("kept as a false positive" if item.mark == "false" else "no longer a false positive")
        screen.item_changed()

    def copy(self) -> None:
        """The suggestion; the finding where there is none."""
        item = self._item()
        if item is not None and item.finding.suggestion:
            self.to_clipboard(item.finding.suggestion, "the suggestion")
        elif item is not None:
            self.to_clipboard(as_text(item.finding), "the finding")

    def to_clipboard(self, text: str, what: str) -> None:
        """Into the terminal's clipboard (OSC 52)."""
        self._screen.app.copy_to_clipboard(text)
        self._screen.say(f"{what} is copied ({grouped(len(text))} characters)")

    def export(self) -> None:
        """Choose a format and a file; the report is written as it stands."""
        screen = self._screen
        root = screen.chat_app.chat.root

        def write(chosen: str | None) -> None:
            if chosen is None:
                return
            name, _, file = chosen.partition(" ")
            path = root / os.path.expanduser(file)
            try:
                screen.session.export(name, path)
            except FileExistsError:
                screen.say(f"not exported: {path} exists; give another name", "error")
            except (OSError, ValueError) as error:
                screen.say(f"not exported to {path}: {getattr(error, 'strerror', None) or error}", "error")
            else:
                partial = " (the review still runs: what there is so far)" if screen.session.running else ""
                screen.say(f"exported to {path}{partial}")

        if screen.session.job is None:
            screen.say("there is nothing to export yet")
        else:
            screen.app.push_screen(ExportScreen(root), write)

    def edit(self) -> None:
        """The file at the finding's line, or at the first line in sight, in the person's editor."""
        screen, source = self._screen, self._screen.view.code.source
        scope = screen.session.state.scope
        if source is None or scope is None:
            screen.say("there is no file here")
            return
        path = scope.root / source.path
        if not os.path.isfile(path):
            screen.say(f"{source.path}: there is no such file on this disk", "warning")
            return
        item = screen.current
        here = item is not None and item.finding.path == source.path
        line = item.finding.line if item is not None and here else screen.view.code.shown_number
        try:
            open_at(screen.app, path, line)
        except EditorError as error:
            screen.say(str(error), "warning")

    def discuss(self) -> None:
        """Into the chat: a question about the finding, its code attached as data."""
        screen = self._screen
        scope = screen.session.state.scope
        item = self._item()
        if item is None or scope is None:
            return
        source = screen.session.state.sources.get(item.finding.path)
        draft = question(item.finding, scope.root, source, screen.chat_app.chat.root)
        screen.reviews.to_chat(draft)

    def outlook(self, width: int) -> Content:
        """What the exit code will be, and what the command writes; in a chat what an export would say."""
        session = self._screen.session
        job = session.job
        if job is None or not self._screen.reviews.alone:
            return Content("")
        running = session.running and not session.stopping
        key = (running, session.state.num_hidden, len(session.state.items), session.state.report)
        now = time.monotonic()
        if self._outlook[0] != key and (not running or now >= self._outlook_at):
            self._outlook_at = now + _OUTLOOK_S
            document = session.document(as_if_complete=True)
            will = "will be " if session.running else ""
            words = (
                f"exit code {will}{document.exit_code} (--fail-on {document.threshold})" if document else ""
            )
            self._outlook = (key, words)
        wide = width >= 100
        words = self._outlook[1] if wide else self._outlook[1].partition(" (")[0]
        parts = [words, *(job.outputs if wide else ())]
        return Content.styled(clean_line(" · ".join(part for part in parts if part)), MUTED)


_KNOWN = {"baseline": "in the baseline", "suppressed": "suppressed by a comment"}
