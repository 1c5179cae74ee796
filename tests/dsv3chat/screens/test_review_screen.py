"""The review as a person meets it: it fills while it works, and every finding can be dealt with from the keyboard."""

from __future__ import annotations

import pytest

SIZES = [(120, 36), (80, 24)]


@pytest.mark.parametrize("size", SIZES)
async def test_it_shows_files_findings_code_and_words(opened, size):
    async with opened(size=size) as s:
        print(s.text)
        assert "eval of input" in s.text
