"""Which comments let which findings be."""

import pytest

from dsv3chat.review.suppression import find_suppressions


@pytest.mark.parametrize(
    "comment",
    [
        "# dsv3: ignore",
        "// dsv3:ignore",
        "-- dsv3: ignore",
        "/* dsv3: ignore */",
        "; dsv3: ignore",
        "% dsv3: ignore",
        "<!-- dsv3: ignore -->",
        "#dsv3: ignore because it is meant",
    ],
)
def test_every_comment_sign_is_known(comment):
    (found,) = find_suppressions((f"code {comment}", "next"), "text")
    assert found.names == ()
    assert found.covers(1, 1, "bug")
    assert not found.covers(2, 2, "bug")


@pytest.mark.parametrize(
    "text", ["dsv3: ignore", "# dsv3: ignored", "# dsv3: ignore-me", "# see dsv3: ignore"]
)
def test_what_only_looks_like_one_is_none(text):
    assert find_suppressions((text,), "text") == ()


def test_alone_on_its_line_it_speaks_of_the_next_line():
    (found,) = find_suppressions(("", "   # dsv3: ignore", "x = 1", "y = 2"), "python")
    assert found.covers(3, 3, "bug")
    assert not found.covers(4, 4, "bug")


def test_inside_a_finding_of_several_lines_it_covers_it():
    (found,) = find_suppressions(("a", "b  // dsv3: ignore", "c"), "c")
    assert found.covers(1, 3, "bug")


def test_brackets_name_categories_or_rules():
    (found,) = find_suppressions(("x  # dsv3: ignore[security, off-by-one]",), "python")
    assert found.covers(1, 1, "sql-injection")
    assert found.covers(1, 1, "security")
    assert found.covers(1, 1, "off-by-one")
    assert not found.covers(1, 1, "missing-call")


def test_in_python_a_string_is_no_comment():
    assert find_suppressions(('x = "# dsv3: ignore"', '"""', "# dsv3: ignore", '"""'), "python") == ()
    (found,) = find_suppressions(('x = "# dsv3: ignore"  # dsv3: ignore[bug]',), "python")
    assert found.names == ("bug",)


def test_in_python_that_does_not_parse_the_text_decides():
    (found,) = find_suppressions(
        (
            "def f(:",
            '  x = """  # dsv3: ignore',
        ),
        "python",
    )
    assert found.line == 2
