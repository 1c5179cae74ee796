"""The keys of the review screen; every one has an id, so that the settings can remap it. Knows no screen.

The bar at the bottom shows those with a label, in this order, as many as fit.
"""

from __future__ import annotations

from textual.binding import Binding


def _key(
    keys: str, action: str, label: str, text: str, display: str | None = None, name: str = ""
) -> Binding:
    verb = action.removeprefix("finding('").removesuffix("')")
    return Binding(
        keys, action, label or text, bool(label), display, tooltip=text, id=f"review.{name or verb}"
    )


_HUNK = "hunk below or above; in a whole file the next finding"
_FILE = "next or previous file with findings"
KEYS = (
    _key("escape", "escape", "stop", "close the filter, stop the review", "esc"),
    _key("escape", "leave", "leave", "after the end: close the filter, leave", "esc"),
    _key("f1", "help", "help", "this page", "F1"),
    _key("enter,d", "discuss", "discuss", "into the chat, with the finding and its code", "⏎ d"),
    _key(
        "a", "finding('apply')", "apply", "put the suggestion into the file, if its lines are still the same"
    ),
    _key("u", "finding('undo')", "", "take the applied suggestion out again"),
    _key("i", "finding('ignore')", "ignore", "write the finding into the baseline; again takes it out"),
    _key(
        "f",
        "finding('false_positive')",
        "false+",
        "the finding is wrong: kept to measure precision; again takes it back",
    ),
    _key("slash", "filter", "filter", "filter by words, high, sev:high, rule:sql, path:src/", "/"),
    _key("e", "finding('export')", "export", "write the report: choose format and file"),
    _key("tab", "pane(1)", "pane", "to the next pane: findings, code, words, files", "tab", "next_pane"),
    _key("f3", "chat", "chat", "into the chat; F3 there comes back", "F3"),
    _key("right_square_bracket", "hunk(1)", "hunk", _HUNK, "[ ]", "next_hunk"),
    _key("n", "file(1)", "file", _FILE, "n p", "next_file"),
    _key("s", "sort", "sort", "by severity, place, confidence, time"),
    _key("b", "hidden", "baseline", "show those in the baseline and the suppressed ones, or not"),
    _key("c", "finding('copy')", "copy", "copy the suggestion, or the finding where there is none"),
    _key("o", "finding('editor')", "editor", "open the file at the finding in $VISUAL or $EDITOR"),
    _key("shift+tab", "pane(-1)", "", "to the pane before", name="previous_pane"),
    _key("left_square_bracket", "hunk(-1)", "", _HUNK, "[ ]", "previous_hunk"),
    _key("p", "file(-1)", "", _FILE, "n p", "previous_file"),
    _key("r", "again", "", "review again after the end; what did not change comes from the cache"),
)
