"""The bytes of a file as text: UTF-8, UTF-16 with its mark, or Latin-1. Knows no path."""

from __future__ import annotations

import codecs
import re

_CONTROLS = re.compile(
    rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]"
)  # never in text; bell, tab to carriage return and ESC may be


class NotTextError(Exception):
    """The bytes are no text; the message says what gives it away."""


def decode(data: bytes) -> tuple[str, str]:
    """(text with \\n line ends and no byte order mark, name of the encoding). Raises NotTextError."""
    text, encoding = _decode(data)
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def _decode(data: bytes) -> tuple[str, str]:
    for mark, codec in ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
        if data.startswith(mark):
            try:
                return data.decode(codec), "UTF-16"
            except UnicodeDecodeError:
                break
    if b"\0" in data:
        raise NotTextError(f"is binary (a zero byte at offset {data.index(0)})")
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError as error:
        if control := _CONTROLS.search(data):
            raise NotTextError(f"is binary (a control byte at offset {control.start()})") from error
    try:
        # Bytes 0x80 to 0x9f are controls in Latin-1 and typographic characters in Windows' variant of it.
        windows = re.search(rb"[\x80-\x9f]", data) is not None
        return (data.decode("cp1252"), "Windows-1252") if windows else (data.decode("latin-1"), "Latin-1")
    except UnicodeDecodeError as error:
        raise NotTextError(f"is neither UTF-8 nor Latin-1 text (byte at offset {error.start})") from error
