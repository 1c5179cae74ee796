"""Markdown as rows: growing equals whole, nothing is wider than asked, what is copied is what was written."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from textual.content import Content

from dsv3chat.widgets.layout import Document
from dsv3chat.widgets.rows import Row, copy_rows, wrap

MARKDOWN = """# Title

Hello **bold _both_** `x[1]` [link](http://a.b) [red]x
second line, which is long and goes on and on until it has to be wrapped at the edge of the screen.

- one
- two
  1. deep 日本語の長いテキストがここにあります
- three

> quote
> more

| a | b |
|--:|---|
| 1 | a long cell that is wrapped when the screen is narrow |

```python
def f(x):
    return x + 1  # a comment that is longer than a narrow screen is wide, by far
```
"""
PIECES = st.lists(
    st.sampled_from([*"ab [](){}`*_#>|-\n\t", "```", "\n\n", "- ", "1. ", "日", "\x1b[31m", "| "]),
    max_size=60,
)


def plain(rows: list[Row]) -> list[str]:
    return [row.content.plain for row in rows]


def everything(rows: list[Row]) -> str:
    return copy_rows((row, 0, None) for row in rows)


@settings(max_examples=150, deadline=None)
@given(PIECES, st.integers(20, 60))
def test_rows_never_exceed_the_width_and_hold_no_control_character(pieces, width):
    for row in Document("".join(pieces)).rows(width):
        assert row.content.cell_length <= width
        assert row.content.plain.isprintable()


@pytest.mark.parametrize("size", [1, 3, 17])
def test_a_growing_document_ends_as_the_whole_one(size):
    grown = Document()
    for start in range(0, len(MARKDOWN), size):
        grown.append(MARKDOWN[start : start + size])
        grown.rows(50)
    assert plain(grown.rows(50)) == plain(Document(MARKDOWN).rows(50))
    assert plain(grown.rows(31)) == plain(Document(MARKDOWN).rows(31))


def test_settled_rows_are_the_same_objects_so_that_only_new_ones_are_drawn():
    document = Document("one\n\ntwo\n\nthree")
    before = document.rows(40)
    document.append(" more")
    after = document.rows(40)
    assert [a is b for a, b in zip(before, after, strict=True)] == [True, True, True, False, False]


def test_a_code_block_is_copied_as_it_was_written_at_any_width():
    code = "def f(x):\n\n    return x + 1  # a comment that is longer than this screen is wide"
    for width in (24, 40, 100):
        rows = Document(f"```python\n{code}\n```").rows(width)
        assert everything(rows).strip("\n") == code


def test_a_wrapped_paragraph_is_copied_without_the_wrapping():
    text = "a paragraph that is long enough to be wrapped several times at this width"
    assert everything(Document(text).rows(24)) == text


def test_an_unclosed_fence_shows_its_text_and_what_follows_grows_inside():
    document = Document("```\nfirst [\n")
    assert any("first [" in line for line in plain(document.rows(40)))
    document.append("second")
    assert document.code_blocks == ["first [\nsecond"]


def test_links_show_their_address_and_carry_no_action():
    rows = Document("[here](http://evil.example/x) ![pic](http://evil.example/p)").rows(100)
    assert "here (http://evil.example/x)" in rows[0].content.plain
    assert "[image: pic] (http://evil.example/p)" in rows[0].content.plain
    assert all(not row.action for row in rows)
    assert all(not getattr(span.style, "link", None) for row in rows for span in row.content.spans)


def test_entities_cannot_smuggle_control_characters():
    assert "\u202e" not in everything(Document("a&#x202e;b&#x9b;c").rows(40))


@given(st.text(alphabet="ab 日\t", max_size=80), st.integers(8, 30))
@example("\t\t a", 8)
def test_wrapped_lines_and_their_glue_are_the_text(text, width):
    lines = wrap(Content(text), width)
    joined = "".join(line.plain + glue for line, glue in lines)
    assert joined.removesuffix("\n").rstrip() == Content(text).expand_tabs(4).plain.rstrip()
