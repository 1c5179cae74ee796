"""The pull request comment: what a model or a file says calls nobody, links nowhere and is no markup."""

import re

import pytest
from markdown_it import MarkdownIt

from dsv3chat.review.formats.markdown import code_span, escaped, fenced, write_markdown
from tests.dsv3chat.review.formats.reports import HOSTILE, ODD_PATHS, document, finding, incomplete

RENDERER = MarkdownIt("gfm-like", {"linkify": False, "html": True})


def tokens_of(text):
    found = []
    for token in RENDERER.parse(text):
        found += [token, *(token.children or [])]
    return found


def test_hostile_text_makes_no_html_image_link_mention_or_reference():
    text = write_markdown(
        document(
            finding(message=HOSTILE, title=HOSTILE, suggestion=HOSTILE, line_text=HOSTILE, path="`@a`<b>.py")
        )
    )
    tokens = tokens_of(text)
    ours = {"<sub>", "</sub>"}
    assert {token.content for token in tokens if token.type == "html_inline"} <= ours
    assert not any(token.type in ("html_block", "image", "link_open") for token in tokens)
    plain = "".join(token.content for token in tokens if token.type == "text")
    assert not re.search(r"@\w|#\d|://|www\.", plain)
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_no_angle_bracket_of_foreign_text_is_left():
    assert escaped("a < b > c <d") == "a &lt; b &gt; c &lt;d"


@pytest.mark.parametrize(
    "text",
    [
        "*a* _b_ **c** `d` ~e~",
        "# heading",
        "- item",
        "1. item",
        "12. item",
        "7) item",
        "+ item",
        "---",
        "===",
        "> quote",
        "a | b",
        "&lt; &amp;",
        "\\* \\",
        "[a]: http://x",
        "<https://x.example>",
        "$x$",
        "!x",
    ],
)
def test_escaped_text_reads_as_it_was_written(text):
    inline = [token for token in tokens_of(escaped(text)) if token.type in ("text", "text_special")]
    shown = "".join(token.content for token in inline).replace("\u200b", "")
    assert shown == text
    assert {token.type for token in tokens_of(escaped(text))} <= {
        "paragraph_open", "paragraph_close", "inline", "text", "text_special",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["``` \n````\n", "a`b", "`", "~~~\n"])
def test_source_cannot_leave_its_fence_or_its_span(text):
    (block,) = [token for token in tokens_of(fenced(text)) if token.type != "text"]
    assert (block.type, block.content.rstrip("\n")) == ("fence", text.rstrip("\n"))
    spans = [token for token in tokens_of(code_span(text)) if token.type == "code_inline"]
    assert [span.content for span in spans] == [" ".join(text.split())]


@pytest.mark.parametrize("path", ODD_PATHS)
def test_each_finding_has_a_heading_with_its_place(path):
    text = write_markdown(document(finding(path)))
    headings = [line for line in text.splitlines() if line.startswith("### ")]
    assert len(headings) == 1
    assert "**high**" in headings[0]
    assert "`mutable-default` (0.93)" in headings[0]


def test_a_suggestion_is_shown_as_a_diff():
    text = write_markdown(document(finding()))
    assert "```diff\n-    def f(x, acc=[]):\n+def f(x, acc=None):\n```" in text
    assert "```\n    def f(x, acc=[]):\n```" in write_markdown(document(finding(suggestion="")))


def test_what_was_not_reviewed_stands_in_the_comment():
    text = write_markdown(incomplete(finding()))
    assert "**INCOMPLETE" in text
    assert "### Not reviewed" in text
    assert "`src/b.py`" in text
