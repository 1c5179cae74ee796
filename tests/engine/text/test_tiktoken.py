"""Rank files: the derived merges encode as merging by rank does."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CheckpointError
from engine.events import Message
from engine.text.tiktoken import SPLIT_PATTERN, read_ranks
from engine.text.tokenizer import Tokenizer

CORPUS = (
    "the then there other hello world, it's what we'll HAVE 你好 世界 你们 déjà vu 1234 aaaaaa abababab  \n\n  def f(x):\n".encode()
    * 3
)
NAMED = {"[BOS]": 0, "[EOS]": 1, "<|im_end|>": 2, "<|im_user|>": 3, "<|im_middle|>": 4}
TEMPLATE = "{% for m in messages %}<|im_user|>{{ m.role }}<|im_middle|>{{ m.content }}<|im_end|>{% endfor %}"


def train(corpus: bytes, size: int) -> dict[bytes, int]:
    """Ranks of a byte-pair encoding of `corpus`, pieces ignored, so that the merges are many and cross each other."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    parts = [bytes([byte]) for byte in corpus]
    while len(ranks) < size:
        counts: dict[bytes, int] = {}
        for a, b in itertools.pairwise(parts):
            counts[a + b] = counts.get(a + b, 0) + 1
        best = max(
            (pair for pair in counts if pair not in ranks),
            key=lambda pair: (counts[pair], pair),
            default=None,
        )
        if best is None:
            break
        ranks[best] = len(ranks)
        parts = merge_by_rank(corpus, ranks)
    return ranks


def merge_by_rank(piece: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The definition: join the leftmost adjacent pair of lowest rank until no pair is a token."""
    parts = [piece[n : n + 1] for n in range(len(piece))]
    while True:
        pairs = [(ranks[a + b], n) for n, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in ranks]
        if not pairs:
            return parts
        _, n = min(pairs)
        parts[n : n + 2] = [parts[n] + parts[n + 1]]


def reference(text: str, ranks: dict[bytes, int]) -> list[int]:
    """Pieces by the pattern (the `regex` module's own engine), each a token itself or merged by rank."""
    ids: list[int] = []
    for piece in regex.findall(SPLIT_PATTERN, text, flags=regex.V1):
        data = piece.encode()
        ids += [ranks[data]] if data in ranks else [ranks[part] for part in merge_by_rank(data, ranks)]
    return ids


def write(folder: Path, ranks: dict[bytes, int], **config: object) -> Path:
    lines = [base64.b64encode(token) + b" %d" % rank for token, rank in ranks.items()]
    (folder / "tiktoken.model").write_bytes(b"\n".join(lines) + b"\n")
    decoder = {str(len(ranks) + n): {"content": text, "special": True} for text, n in NAMED.items()}
    values = {
        "added_tokens_decoder": decoder,
        "bos_token": "[BOS]",
        "eos_token": "[EOS]",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(values | config))
    return folder


RANKS = train(CORPUS, 420)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.open(write(tmp_path_factory.mktemp("kimi"), RANKS))


WORDS = st.sampled_from(
    [*CORPUS.decode().split(), " ", "\n", "  ", "'s", "'LL", "你好吗", "ß", "12", "_", "́", "👩", "ＡＢ"]
)


@settings(max_examples=300, deadline=None)
@given(text=st.lists(WORDS | st.text(max_size=4), max_size=12).map("".join))
def test_ids_are_those_of_merging_by_rank(tokenizer, text):
    assert tokenizer.encode_text(text) == reference(text, RANKS)
    assert tokenizer.decode(tokenizer.encode_text(text)) == text


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_set_of_tokens_in_any_order_of_ranks_encodes_by_rank(tmp_path_factory, data):
    letters = st.text("abc", min_size=2, max_size=5).map(str.encode)
    extra = data.draw(st.lists(letters, unique=True, max_size=25))
    ranks = {token: n for n, token in enumerate([*(bytes([byte]) for byte in range(256)), *extra])}
    odd = Tokenizer.open(write(tmp_path_factory.mktemp("ranks"), ranks))
    for text in data.draw(st.lists(st.text("abc", max_size=14), min_size=1, max_size=8)):
        assert odd.encode_text(text) == reference(text, ranks)


def test_control_tokens_come_from_the_config_and_the_rest_is_reserved(tokenizer):
    assert tokenizer.num_ids == len(RANKS) + 256
    assert tokenizer.token_text(len(RANKS) + 2) == "<|im_end|>"
    assert tokenizer.token_text(len(RANKS) + 200) == f"<|reserved_token_{len(RANKS) + 200}|>"
    assert tokenizer.special_ids == frozenset(range(len(RANKS), len(RANKS) + 256))


def test_the_configs_vocabulary_size_bounds_the_reserved_tokens(tmp_path):
    write(tmp_path, RANKS)
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": len(RANKS) + 64}))
    assert Tokenizer.open(tmp_path).num_ids == len(RANKS) + 64


def test_a_chat_has_the_templates_control_tokens_and_no_others(tokenizer):
    content = "hi <|im_end|> [BOS] <|reserved_token_500|>"
    base = len(RANKS)
    expected = [base + 3, *reference("user", RANKS), base + 4, *reference(content, RANKS), base + 2]
    assert tokenizer.encode_chat([Message("user", content)]) == expected


def test_remote_code_in_the_folder_is_never_run(tmp_path):
    write(
        tmp_path, RANKS, auto_map={"AutoTokenizer": ["tokenization_kimi.Kimi", None]}, tokenizer_class="Kimi"
    )
    (tmp_path / "tokenization_kimi.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    assert Tokenizer.open(tmp_path).encode_text("hello")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"!!! 0\n", "tiktoken.model:1"),
        (b"YQ==\n", "tiktoken.model:1"),
        (b"YQ== 0\n", "255 are missing"),
        (b"YQ== x", ":1"),
    ],
)
def test_a_broken_rank_file_is_refused_with_its_line(tmp_path, lines, message):
    (tmp_path / "tiktoken.model").write_bytes(lines)
    with pytest.raises(CheckpointError, match=message):
        read_ranks(tmp_path / "tiktoken.model")


def test_control_tokens_among_the_ranks_are_refused(tmp_path):
    write(tmp_path, RANKS, added_tokens_decoder={"5": {"content": "<|x|>"}})
    with pytest.raises(CheckpointError, match="different models"):
        Tokenizer.open(tmp_path)
