"""`tiktoken.model` (Moonlight, Kimi-K2) in the form of a tokenizer.json. Runs no code of a checkpoint.

A rank file lists a token's bytes and its rank. Merging by rank joins, again and again, the leftmost adjacent pair whose
joined bytes have the lowest rank. As a list of merges: every split of every token into two tokens, ordered by the joined
token's rank. Of a token's splits only one can ever meet: inside the span that ends as this token, no merge crosses
the span's border, so the merges within run as they run for the token alone, whatever stands around it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError
from engine.text.detokenizer import byte_alphabet

NUM_RESERVED = 256  # ids after the ranks that the family keeps for control tokens

_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SPLIT_PATTERN = "|".join(
    (
        r"[\p{Han}]+",
        f"{_LEAD}{_UPPER}*{_LOWER}+{_CONTRACTION}",
        f"{_LEAD}{_UPPER}+{_LOWER}*{_CONTRACTION}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)
"""How the Moonlight and Kimi-K2 tokenizers cut text into pieces before merging (Oniguruma syntax)."""


def read_ranks(path: Path) -> dict[bytes, int]:
    """`base64 rank` a line. Every byte must be a token, and ranks must count from 0; else CheckpointError with the line."""
    ranks: dict[bytes, int] = {}
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            encoded, rank = line.split()
            ranks[base64.b64decode(encoded, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise CheckpointError(
                f"{path}:{number}: expected `base64 rank`: {error}; download it again"
            ) from error
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing or sorted(ranks.values()) != list(range(len(ranks))):
        raise CheckpointError(
            f"{path} holds {len(ranks)} tokens; expected ranks 0 to n-1, each once, and all 256 single bytes "
            f"({len(missing)} are missing); download it again"
        )
    return ranks


def merges_of(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every split of every token into two tokens, ordered by the joined token's rank."""
    return [
        (token[:cut], token[cut:])
        for token in sorted(ranks, key=ranks.__getitem__)
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    ]


def tiktoken_json(path: Path, config: Mapping[str, Any], vocab_size: int | None) -> dict[str, Any]:
    """The content of a tokenizer.json with the ranks of `path` and the control tokens of tokenizer_config.json.

    Ids after the ranks that the config does not name are `<|reserved_token_N|>`, up to `vocab_size` (config.json's).
    """
    ranks = read_ranks(path)
    alphabet = byte_alphabet()

    def spelled(token: bytes) -> str:
        return "".join(alphabet[byte] for byte in token)

    names = {
        int(key): str(token["content"]) for key, token in (config.get("added_tokens_decoder") or {}).items()
    }
    low = sorted(number for number in names if number < len(ranks))
    if low:
        raise CheckpointError(
            f"tokenizer_config.json gives id {low[0]} to {names[low[0]]!r}, and {path} uses ids 0 to {len(ranks) - 1} for "
            "its ranks; the two files come from different models: download both again"
        )
    end = max(vocab_size or len(ranks) + NUM_RESERVED, *(number + 1 for number in names), len(ranks))
    added = [
        {"id": number, "content": names.get(number, f"<|reserved_token_{number}|>"), "special": True}
        for number in range(len(ranks), end)
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": SPLIT_PATTERN},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {
            "type": "BPE",
            "vocab": {spelled(token): rank for token, rank in ranks.items()},
            "merges": [[spelled(a), spelled(b)] for a, b in merges_of(ranks)],
            "ignore_merges": True,  # a piece that is a token itself is taken as it is
        },
    }
