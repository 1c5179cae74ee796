"""The built-in text: prose, dialogue, instructions, code, minutes, about 2,200 tokens of nano's. Knows no tokenizer."""

from __future__ import annotations

from pathlib import Path

MAX_TOKENS = 2048
"""Of a text that are scored unless more or fewer are asked for."""


def builtin_text() -> str:
    """Written for this purpose, so no model has learnt it by heart."""
    return (Path(__file__).parent / "text.txt").read_text(encoding="utf-8")
