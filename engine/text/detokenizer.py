"""Token ids back to text, whole or as a stream. Knows no model and no template.

Every token stands for bytes, and a stream of bytes is decoded as UTF-8 incrementally: bytes that may still become a
character wait, bytes that no longer can become U+FFFD at once (one for each maximal invalid part, the Unicode standard's
recommended practice, section 3.9). Whole and streamed decoding share this path, so that they are equal by construction.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.errors import UnsupportedModelError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_utf8_decoder = codecs.getincrementaldecoder("utf-8")


def byte_alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's table).

    Bytes that are printable in Latin-1 stand for themselves, the other 68 are numbered from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


class TokenBytes:
    """The bytes of each token, as tokenizer.json's `decoder` says: byte-level BPE, or SentencePiece style with ▁.

    `strip_spaces`: how many leading spaces of a text the decoder takes away (SentencePiece puts one there).
    `strip_first_token`: Metaspace instead drops every ▁ of the first token.
    """

    def __init__(
        self, decoder: Mapping[str, Any] | None, token_of: Callable[[int], str | None], skip: frozenset[int]
    ) -> None:
        self._token_of = token_of
        self._skip = skip
        self._cache: dict[int, bytes] = {}
        self._byte_of: dict[str, int] | None = None
        self._byte_fallback = False
        self._replacements: list[tuple[str, str]] = []
        self.strip_spaces = 0
        self.strip_first_token = ""
        for step in _steps(decoder):
            self._take(step)

    def _take(self, step: Mapping[str, Any]) -> None:
        match step:
            case {"type": "ByteLevel"}:
                self._byte_of = {char: byte for byte, char in byte_alphabet().items()}
            case {"type": "ByteFallback"}:
                self._byte_fallback = True
            case {"type": "Fuse"}:
                pass  # joining the tokens is what a stream does anyway
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)}:
                self._replacements.append((old, new))
            case {"type": "Strip", "content": " ", "start": int(count), "stop": 0}:
                self.strip_spaces = count
            case {"type": "Metaspace", "replacement": str(mark)}:
                self._replacements.append((mark, " "))
                if step.get("prepend_scheme", "always") != "never":
                    self.strip_first_token = mark
            case _:
                raise UnsupportedModelError(
                    f"tokenizer.json's decoder has the step {dict(step)}, which is not built; built are ByteLevel, and "
                    "Metaspace, Replace, ByteFallback, Fuse, Strip of leading spaces"
                )

    def of(self, token_id: int, first: bool = False) -> bytes:
        """The token's bytes; empty for control tokens and for ids that no token has. `first`: it begins the text."""
        if first and self.strip_first_token:
            return self._compute(token_id, first=True)
        found = self._cache.get(token_id)
        if found is None:
            found = self._cache[token_id] = self._compute(token_id, first=False)
        return found

    def is_text(self, token_id: int) -> bool:
        """Whether the id is a token that has text: not a control token, not a gap."""
        return token_id not in self._skip and self._token_of(token_id) is not None

    def _compute(self, token_id: int, first: bool) -> bytes:
        token = None if token_id in self._skip else self._token_of(token_id)
        if token is None:
            return b""
        if self._byte_of is not None:
            known = [self._byte_of.get(char) for char in token]
            numbers = [byte for byte in known if byte is not None]
            return bytes(numbers) if len(numbers) == len(known) else token.encode()
        if self._byte_fallback and (match := _BYTE_TOKEN.fullmatch(token)):
            return bytes([int(match[1], 16)])
        if first:
            token = token.replace(self.strip_first_token, "")
        for old, new in self._replacements:
            token = token.replace(old, new)
        return token.encode()


class Detokenizer:
    """Text of a growing sequence of ids. The sum of what it gives out is `Tokenizer.decode` of all ids."""

    def __init__(self, token_bytes: TokenBytes) -> None:
        self._token_bytes = token_bytes
        self._utf8 = _utf8_decoder(errors="replace")
        self._at_start = True
        self._strip = token_bytes.strip_spaces

    def push(self, ids: Iterable[int]) -> str:
        """Take the next ids; the characters that are complete now. Constant time a token."""
        data = bytearray()
        for token_id in ids:
            data += self._token_bytes.of(token_id, self._at_start)
            if self._at_start and self._token_bytes.is_text(token_id):
                self._at_start = False
        return self._stripped(self._utf8.decode(bytes(data)))

    def flush(self) -> str:
        """The end: a character that was cut off becomes U+FFFD. Ids may follow; they continue the same text."""
        return self._stripped(self._utf8.decode(b"", True))

    def _stripped(self, text: str) -> str:
        while self._strip and text:
            if text[0] != " ":
                self._strip = 0
            else:
                text = text[1:]
                self._strip -= 1
        return text


def _steps(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if decoder is None:
        raise UnsupportedModelError(
            "tokenizer.json has no decoder, so ids cannot become text; expected ByteLevel or a SentencePiece style one"
        )
    if decoder.get("type") == "Sequence":
        return [step for part in decoder.get("decoders", []) for step in _steps(part)]
    return [decoder]
