"""Whole files as chunks: every line once, within the limits, cut between statements."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dsv3chat.review.chunks import MAX_LINE_CHARS, ChunkLimits, numbered, split
from dsv3chat.review.values import SourceFile


def tokens(text):
    """A stand-in for a tokenizer: two bytes a token, so that both limits bind."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 2)


def source(text, language="python", **values):
    lines = tuple(text.split("\n"))
    return SourceFile("src/x.py", language, lines, hashlib.sha256(text.encode()).hexdigest(), **values)


def spans(chunks):
    return [(chunk.start, chunk.end) for chunk in chunks]


PIECES = st.sampled_from(
    [
        "def f(a,\n      b):",
        "    x = 1",
        "    return x",
        "        y = [",
        "        ]",
        "class C:",
        "    def m(self):",
        "if a:",
        "else:",
        "elif b:",
        "for i in x:",
        "try:",
        "except E:",
        "@decorate",
        "# comment",
        "    # comment",
        '"""',
        '    """text',
        "import os",
        "a = 1; b = 2",
        "",
        "   ",
        "\t",
        "}",
        "match x:",
        "    case 1:",
        "async def g():",
        "x = (",
        "é" * 30,
        "\x0c",
    ]
)
TEXTS = st.lists(PIECES, min_size=1, max_size=60).map("\n".join)


@given(
    text=st.one_of(
        TEXTS, st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=400)
    ),
    language=st.sampled_from(["python", "c", "text"]),
    max_lines=st.integers(1, 20),
    max_tokens=st.integers(20, 200),
)
@example(text="if a:\n" + " if b:\n", language="python", max_lines=1, max_tokens=20)
@settings(deadline=None, max_examples=300)
def test_every_line_that_is_not_blank_is_in_exactly_one_chunk_and_every_chunk_fits(
    text, language, max_lines, max_tokens
):
    file = source(text, language)
    chunks = split(file, ChunkLimits(max_lines, max_tokens), tokens)
    covered = [number for chunk in chunks for number in range(chunk.start, chunk.end + 1)]
    assert len(covered) == len(set(covered))
    assert covered == sorted(covered)
    filled = {number for number, line in enumerate(file.lines, 1) if line.strip()}
    assert filled <= set(covered)
    for chunk in chunks:
        assert len(chunk.lines) <= max_lines
        assert tokens(numbered(chunk.lines, chunk.start)) <= max_tokens
        assert chunk.lines[0].strip()
        assert chunk.lines[-1].strip()
        for number in range(chunk.start, chunk.end + 1):
            line = file.lines[number - 1]
            assert chunk.line(number) == line or (len(chunk.lines) == 1 and chunk.line(number).endswith("…"))


def function(name, num_lines):
    return f"def {name}():\n" + "".join(f"    x{i} = {i}\n" for i in range(num_lines - 1))


def test_numbers_stand_before_every_line_as_in_training():
    assert numbered(("def f(x, acc=[]):", "", "    acc.append(x)"), 12) == (
        "12| def f(x, acc=[]):\n13| \n14|     acc.append(x)"
    )


def test_functions_stay_whole_and_share_a_chunk_while_they_fit():
    text = "\n".join(function(f"f{i}", 30) for i in range(5))  # a blank line between two
    assert spans(split(source(text), ChunkLimits(110, 10_000), tokens)) == [(1, 92), (94, 154)]


def test_decorators_and_comments_go_with_what_they_precede():
    text = function("a", 8) + "\n\n# about b\n@decorated\n@twice\n" + function("b", 8)
    assert spans(split(source(text), ChunkLimits(12, 10_000), tokens)) == [(1, 8), (11, 21)]


def test_a_large_class_is_cut_between_its_methods():
    methods = "\n".join(
        "".join(f"    {line}\n" for line in function(f"m{i}", 20).splitlines()) for i in range(4)
    )
    text = f'import os\n\n\nclass C:\n    """Text."""\n\n{methods}'
    chunks = split(source(text), ChunkLimits(45, 10_000), tokens)
    assert spans(chunks) == [(1, 1), (4, 47), (49, 89)]


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        ("try:", "except ValueError:\n    pass"),
        ("if x:", "else:\n    pass"),
        ("for x in y:", "else:\n    pass"),
        ("with x:", ""),
    ],
)
def test_a_header_goes_with_the_first_statement_of_its_block(head, tail):
    text = f"{head}\n" + "".join(f"    x{i} = {i}\n" for i in range(20)) + tail
    for limit in range(3, 15):
        for chunk in split(source(text), ChunkLimits(limit, 10_000), tokens):
            assert not chunk.lines[-1].endswith(":")


def test_a_statement_of_several_lines_is_cut_only_if_it_alone_is_too_large():
    call = "f(\n" + "".join(f"    {i},\n" for i in range(6)) + ")\n"
    text = call * 6
    assert spans(split(source(text), ChunkLimits(17, 10_000), tokens)) == [(1, 16), (17, 32), (33, 48)]
    chunks = split(source(text), ChunkLimits(5, 10_000), tokens)
    assert sum(len(chunk.lines) for chunk in chunks) == 48


def test_a_language_without_grammar_is_cut_at_functions_too():
    body = "".join(f"    x{i} = {i};\n" for i in range(10))
    text = "#include <x.h>\n\n" + "\n".join(f"int f{i}(void)\n{{\n{body}}}\n" for i in range(4))
    chunks = split(source(text, "c"), ChunkLimits(30, 10_000), tokens)
    assert [chunk.lines[0] for chunk in chunks] == ["#include <x.h>", "int f2(void)"]
    assert all(chunk.lines[-1] == "}" for chunk in chunks)


def test_broken_python_is_cut_all_the_same():
    text = "def f(:\n" + "    x = (\n" * 50 + "class\n" * 20
    chunks = split(source(text), ChunkLimits(20, 10_000), tokens)
    assert sum(len(chunk.lines) for chunk in chunks) == 71


def test_deep_nesting_needs_no_deep_stack():
    text = "".join(f"{' ' * i}if x:\n" for i in range(1000)) + " " * 1000 + "y = 1\n"
    chunks = split(source(text), ChunkLimits(110, 100_000_000), tokens)
    assert sum(len(chunk.lines) for chunk in chunks) == 1001


@pytest.mark.parametrize("language", ["python", "text"])
def test_one_megabyte_on_one_line_is_cut_and_marked(language):
    file = source("a = 1\nDATA = '" + "x" * 1_000_000 + "'\nb = 2\n", language)
    chunks = split(file, ChunkLimits(), tokens)
    (chunk,) = chunks
    assert chunk.line(2) == file.lines[1][:MAX_LINE_CHARS] + "…"
    small = split(file, ChunkLimits(110, 100), tokens)
    assert [c.start for c in small] == [1, 2, 3]
    assert small[1].lines[0].endswith("…")
    assert tokens(numbered(small[1].lines, 2)) <= 100


def test_counting_costs_one_or_two_counts_a_chunk():
    counts = []

    def count(text):
        counts.append(len(text))
        return -(-len(text) // 3)

    text = "\n\n".join(function(f"f{i}", 20) for i in range(200))
    chunks = split(source(text), ChunkLimits(), count)
    assert len(counts) <= 2 * len(chunks)
    assert len(chunks) < 60


def test_the_chunks_of_a_file_do_not_depend_on_others_and_are_the_same_every_time():
    file = source("\n\n".join(function(f"f{i}", 20) for i in range(50)))
    first = split(file, ChunkLimits(), tokens)
    split(source("é" * 5000), ChunkLimits(), tokens)
    assert split(file, ChunkLimits(), tokens) == first


def test_an_empty_file_has_no_chunks():
    assert split(source(""), ChunkLimits(), tokens) == ()
    assert split(SourceFile("x.py", "python", (), ""), ChunkLimits(), tokens) == ()
