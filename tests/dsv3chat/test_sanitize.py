"""Foreign text: no control character is left, nothing else is changed."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from dsv3chat.sanitize import clean, clean_line

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"


@given(st.text(alphabet=st.characters()))
def test_no_control_bidi_or_surrogate_character_is_left(text):
    left = {c for c in clean(text) if unicodedata.category(c) in ("Cc", "Cs") or c in BIDI}
    assert left <= {"\n", "\t"}
    clean(text).encode()


@given(st.text(alphabet=st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters=BIDI)))
def test_ordinary_text_is_unchanged(text):
    assert clean(text) == text


def test_what_was_there_stays_visible():
    assert clean("a\x1b]52;c;aGk=\x07b\x9b2J\x7f") == "a␛]52;c;aGk=␇b\ufffd2J␡"
    assert clean("x\r\ny\rz") == "x\ny␍z"


def test_a_title_is_one_line():
    assert clean_line(" a\n\tb\u2028c ") == "a b c"
