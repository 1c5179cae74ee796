"""Foreign text made fit for a terminal: answers, prompts, file names, titles, errors. Knows no widget.

A control character is shown as a visible stand-in and never reaches the terminal, so no text can move the cursor, write
the clipboard (OSC 52), open a link (OSC 8) or reverse the reading order.
"""

from __future__ import annotations

_REPLACEMENT = 0xFFFD
_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))


def _table() -> dict[int, int]:
    table = {
        code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)
    }  # U+2400: pictures of C0
    table[0x7F] = 0x2421
    table.update(dict.fromkeys((*range(0x80, 0xA0), *_BIDI, *range(0xD800, 0xE000)), _REPLACEMENT))
    table.update({0x2028: 0x0A, 0x2029: 0x0A})  # line and paragraph separator
    return table


_TABLE = _table()


def clean(text: str) -> str:
    r"""`text` without control characters other than \n and \t, at the same length but for \r\n, which becomes \n.

    C0 and DEL become their control pictures (ESC is shown as ␛), C1 (0x80 to 0x9f), bidi controls and lone surrogates
    become U+FFFD, the Unicode line separators become \n.
    """
    return text.replace("\r\n", "\n").translate(_TABLE)


def clean_line(text: str) -> str:
    """`clean` for titles, names and other single lines: every run of white space becomes one space."""
    return " ".join(clean(text).split())
