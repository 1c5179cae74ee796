"""Windows and blocks: every token counted once, each with what stands before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.evaluation.windows import Window, blocks, windows


@given(st.integers(2, 3000), st.integers(2, 600), st.data())
def test_every_token_but_the_first_is_counted_once_with_enough_before_it(num_tokens, window, data):
    stride = data.draw(st.integers(1, window - 1))
    found = windows(num_tokens, window, stride)
    assert [t for w in found for t in range(w.first, w.stop)] == list(range(1, num_tokens))
    for w in found:
        assert 0 <= w.start < w.first
        assert w.stop - w.start <= window
    for w in found[1:]:
        assert w.first - w.start >= min(window - stride, w.first)


def test_windows_of_the_documented_sizes():
    assert windows(700) == [Window(0, 1, 512), Window(188, 512, 700)]
    assert windows(900) == [Window(0, 1, 512), Window(256, 512, 768), Window(388, 768, 900)]
    assert windows(100) == [Window(0, 1, 100)]


@given(st.integers(1, 5000), st.integers(1, 200))
def test_blocks_are_neighbours_of_nearly_one_size_and_never_shorter_than_asked(num_values, block):
    found = blocks(num_values, block)
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(num_values))
    lengths = {part.stop - part.start for part in found}
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= min(block, num_values)


@pytest.mark.parametrize("num_values", [1, 63, 127])
def test_a_short_text_is_one_block(num_values):
    assert blocks(num_values, 64) == [slice(0, num_values)]
