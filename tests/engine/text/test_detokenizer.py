"""Streamed text: never a split character, never frozen, in sum the full decode, and equal to the tokenizers library."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders

from engine.errors import UnsupportedModelError
from engine.text.detokenizer import Detokenizer, TokenBytes
from tests.engine.text.tokenizers import DEEPSEEK_FOLDER, NANO_FOLDER, deepseek, nano, spellable

BOTH = [
    (nano(), tokenizers.Tokenizer.from_file(str(NANO_FOLDER / "tokenizer.json"))),
    (deepseek(), tokenizers.Tokenizer.from_file(str(DEEPSEEK_FOLDER / "tokenizer.json"))),
]
FAMILY = "👩‍👩‍👧‍👦 é 你好 🏳️‍🌈"


def streamed(detokenizer: Detokenizer, ids: list[int]) -> list[str]:
    return [*(detokenizer.push([token]) for token in ids), detokenizer.flush()]


@pytest.mark.parametrize("which", [0, 1], ids=["nano", "deepseek"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_the_sum_of_the_deltas_is_the_librarys_decode_for_any_ids(which, data):
    tokenizer, library = BOTH[which]
    # Few ids spell parts of characters; they are drawn as often as all others together.
    partial = st.sampled_from(
        [tokenizer.encode_text(char)[0] for char in "é你👩🏳—ß한"] + tokenizer.encode_text(FAMILY)
    )
    ids = data.draw(st.lists(partial | st.integers(0, tokenizer.num_ids + 3), max_size=30))
    text = "".join(streamed(tokenizer.detokenizer(), ids))
    assert text == tokenizer.decode(ids)
    assert text == library.decode(
        [token for token in ids if token not in tokenizer.special_ids], skip_special_tokens=False
    )


@pytest.mark.parametrize("which", [0, 1], ids=["nano", "deepseek"])
@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=40) | st.lists(st.sampled_from(FAMILY), max_size=20).map("".join))
def test_streaming_text_never_shows_a_split_character(which, text):
    tokenizer, _ = BOTH[which]
    text = spellable(tokenizer, text)
    deltas = streamed(tokenizer.detokenizer(), tokenizer.encode_text(text))
    assert "".join(deltas) == text
    assert all("\ufffd" not in delta for delta in deltas) or "\ufffd" in text
    position = 0
    for delta in deltas:  # every delta is a whole number of characters of the text
        assert text.startswith(delta, position)
        position += len(delta)


def test_an_emoji_of_several_tokens_comes_out_when_it_is_complete():
    tokenizer = nano()
    ids = tokenizer.encode_text("👩")
    assert len(ids) > 1
    assert streamed(tokenizer.detokenizer(), ids) == [*[""] * (len(ids) - 1), "👩", ""]


def test_invalid_bytes_come_out_at_once_and_text_goes_on():
    tokenizer = nano()
    half = tokenizer.encode_text("👩")[0]
    detokenizer = tokenizer.detokenizer()
    assert detokenizer.push([half]) == ""
    assert detokenizer.push(tokenizer.encode_text("abc")) == "\ufffdabc"
    assert detokenizer.push(tokenizer.encode_text(" def")) == " def"


def test_a_tail_that_was_cut_off_is_flushed():
    tokenizer = nano()
    detokenizer = tokenizer.detokenizer()
    detokenizer.push(tokenizer.encode_text("hi 👩")[:-1])
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.flush() == ""


SENTENCEPIECE = [
    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    {"type": "ByteFallback"},
    {"type": "Fuse"},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
]
LIBRARY_SENTENCEPIECE = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)
PIECES = [
    "▁Hello",
    "▁",
    "▁▁▁",
    "wor",
    "ld",
    "▁你",
    "é",
    "<s>",
    *(f"<0x{byte:02X}>" for byte in "👩".encode()),
]


@pytest.mark.parametrize(
    ("config", "library"),
    [
        ({"type": "Sequence", "decoders": SENTENCEPIECE}, LIBRARY_SENTENCEPIECE),
        (
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
            decoders.Metaspace("▁", "first"),
        ),
        (
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"},
            decoders.Metaspace("▁", "never"),
        ),
    ],
    ids=["sentencepiece", "metaspace", "metaspace-never"],
)
@given(ids=st.lists(st.integers(0, 7) | st.just(-1), max_size=12))
def test_leading_spaces_come_out_as_the_decoder_of_the_file_says(config, library, ids):
    emoji = [8, 9, 10, 11]
    ids = [token for one in ids for token in (emoji if one == -1 else [one])]
    if library is not LIBRARY_SENTENCEPIECE:
        ids = [token for token in ids if token not in emoji]
    table = TokenBytes(config, dict(enumerate(PIECES)).get, frozenset({7}))
    expected = library.decode([PIECES[token] for token in ids if token != 7])
    assert "".join(streamed(Detokenizer(table), ids)) == expected


def test_a_decoder_that_is_not_built_is_refused_by_its_name():
    with pytest.raises(UnsupportedModelError, match="WordPiece"):
        TokenBytes({"type": "WordPiece", "prefix": "##"}, {}.get, frozenset())
    with pytest.raises(UnsupportedModelError, match="no decoder"):
        TokenBytes(None, {}.get, frozenset())


def test_every_token_is_looked_at_once_however_long_the_text_is():
    looked_at: list[int] = []

    class Counting(TokenBytes):
        def of(self, token_id: int, first: bool = False) -> bytes:
            looked_at.append(token_id)
            return super().of(token_id, first)

    counting = Counting({"type": "ByteLevel"}, {1: "a"}.get, frozenset())
    stream = Detokenizer(counting)
    for _ in range(500):
        stream.push([1])
    assert len(looked_at) == 500
