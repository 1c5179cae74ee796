"""Stop strings: exact, whatever the chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RequestError
from engine.text.stop import StopFinder


def run(stops: tuple[str, ...], chunks: list[str]) -> tuple[str, bool]:
    finder, given_out = StopFinder(stops), ""
    for chunk in chunks:
        text, stopped = finder.push(chunk)
        given_out += text
        if stopped:
            assert finder.flush() == ""
            return given_out, True
    return given_out + finder.flush(), False


def by_character(stops: tuple[str, ...], text: str) -> tuple[str, bool]:
    """The definition: the first stop string that is complete ends the text where it began."""
    for end in range(1, len(text) + 1):
        complete = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if complete:
            return text[: end - max(complete)], True
    return text, False


@pytest.mark.parametrize(
    "chunks",
    [
        ["alpha beta gamma"],
        ["alpha be", "ta gamma"],
        ["alpha ", "beta", " ", "gam", "ma"],
        list("alpha beta gamma"),
    ],
)
def test_a_stop_string_that_crosses_tokens_leaves_exactly_what_stood_before(chunks):
    assert run(("beta gamma",), chunks) == ("alpha ", True)


@given(
    stops=st.lists(st.text("abé", min_size=1, max_size=4), max_size=4).map(tuple),
    text=st.text("abé", max_size=30),
    data=st.data(),
)
def test_the_result_does_not_depend_on_the_chunks(stops, text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert run(stops, chunks) == by_character(stops, text)


def test_only_a_possible_prefix_is_held_back_and_released_at_the_end():
    finder = StopFinder(("STOP",))
    assert finder.push("go on ST") == ("go on ", False)
    assert finder.push("UP, ST") == ("STUP, ", False)
    assert finder.flush() == "ST"


def test_after_a_stop_nothing_more_is_given_out():
    finder = StopFinder(("x",))
    assert finder.push("ax") == ("a", True)
    assert finder.push("more") == ("", True)


def test_an_empty_stop_string_is_refused():
    with pytest.raises(RequestError, match="empty"):
        StopFinder(("a", ""))
