"""JSON Schemas as token masks, through llguidance: what the next token of an answer may be, and which tokens must follow.

Knows no tensors, no scheduler and no sampling.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from engine.errors import GrammarError
from engine.sampling import JsonSchema
from engine.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

MAX_KEPT = 32  # compiled schemas, some 20 KB each
MAX_SCHEMA_BYTES = 1 << 20

_FORM: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


def read_schema(path: Path) -> JsonSchema:
    """The JSON Schema in a file, checked as far as no tokenizer is needed. GrammarError with the file and the reason."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SCHEMA_BYTES + 1)
        if len(data) > MAX_SCHEMA_BYTES:
            raise GrammarError(
                f"{path}: a schema has at most {MAX_SCHEMA_BYTES >> 20} MiB, this file has more"
            )
        schema = data.decode("utf-8-sig")
    except OSError as error:
        raise GrammarError(f"{path}: the schema cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise GrammarError(f"{path}: a schema is JSON in UTF-8, this is not: {error.reason}") from error
    try:
        if fault := LLMatcher.validate_grammar(_grammar(schema)):
            raise GrammarError(f"the JSON Schema cannot be used as a grammar: {fault}")
    except GrammarError as error:
        raise GrammarError(f"{path}: {error}") from error
    return JsonSchema(schema)


class Grammars:
    """Compiles schemas for one tokenizer and keeps the latest MAX_KEPT. Any thread may ask.

    end_ids: the end-of-turn tokens, allowed where the answer may end and nowhere else.
    num_ids: how many ids may be sampled at all, the width of the masks.

    The vocabulary is read at the first schema, which takes 0.4 s for nano's 49 thousand tokens and 1.1 s for DeepSeek's
    129 thousand (one core of a Zen 3 EPYC); a review's schema then compiles in 1.5 ms, one that is kept is copied in 0.05 ms.
    """

    def __init__(self, tokenizer: Tokenizer, end_ids: Collection[int], num_ids: int) -> None:
        self._tokenizer = tokenizer
        self._end_ids = tuple(end for end in end_ids if end < num_ids)
        self._num_ids = num_ids
        self._vocabulary: LLTokenizer | None = None
        self._compiled: OrderedDict[str, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, grammar: JsonSchema, thinking: bool) -> AnswerGrammar:
        """The state of a new answer; `thinking`: the answer proper begins after the tag that closes thinking.

        GrammarError for what is no JSON Schema, or uses what llguidance does not know.
        """
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = _vocabulary(self._tokenizer, self._end_ids, self._num_ids)
            matcher = self._compiled.get(grammar.schema)
        if matcher is None:
            matcher = _compile(grammar.schema, self._vocabulary)
        with self._lock:
            self._compiled[grammar.schema] = matcher
            self._compiled.move_to_end(grammar.schema)
            if len(self._compiled) > MAX_KEPT:
                self._compiled.popitem(last=False)
            own = matcher.deep_copy()
        think_ids = self._tokenizer.think_ids
        opens_after = think_ids[1] if thinking and think_ids is not None else None
        return AnswerGrammar(own, self._num_ids, self._end_ids, opens_after)


class AnswerGrammar:
    """How far one answer has come in its grammar.

    opens_after: the token that closes the thinking before the answer; until it comes, every token but the end of turn
    is allowed. None: the grammar holds from the first token on.
    `ended`: the answer is complete and nothing can follow. `error`: why the grammar cannot go on, empty while it can.
    """

    def __init__(
        self, matcher: LLMatcher, num_ids: int, end_ids: Collection[int], opens_after: int | None
    ) -> None:
        self._matcher = matcher
        self._num_ids = num_ids
        self._opens_after = opens_after
        num_words = (num_ids + 32) // 32  # one bit an id, and one for a stand-in end of turn
        self._bits = np.zeros(num_words, dtype=np.int32)
        self._while_thinking = np.ones(num_ids, dtype=np.bool_)
        self._while_thinking[list(end_ids)] = False

    @property
    def ended(self) -> bool:
        return self._opens_after is None and self._matcher.is_stopped() and not self.error

    @property
    def error(self) -> str:
        """llguidance's message, e.g. that a limit of its parser is reached."""
        return self._matcher.get_error()

    def begin(self) -> tuple[int, ...]:
        """The tokens with which the answer must begin."""
        return self._forced() if self._opens_after is None else ()

    def push(self, token_id: int) -> tuple[int, ...]:
        """Take a sampled token; the tokens that must follow it, which are taken too.

        The tokens are those into which the tokenizer cuts the forced text where it stands. One that what follows could
        still lengthen is not forced: the model chooses it, as it does where it was trained.
        """
        if self._opens_after is not None:
            if token_id != self._opens_after:
                return ()
            self._opens_after = None
        elif not self._matcher.consume_token(token_id):
            return ()
        return self._forced()

    def _forced(self) -> tuple[int, ...]:
        forced: list[int] = []
        while tokens := self._matcher.compute_ff_tokens():
            if not self._matcher.consume_tokens(tokens):
                break
            forced += tokens
        return tuple(forced)

    def mask(self) -> NDArray[np.bool_]:
        """(num_ids) True for each id that may come next. In an answer that `error` says cannot go on it means nothing.

        Mean over the answers of reviews, each with a schema of its own, on one core of a Zen 3 EPYC: 0.05 to 0.1 ms for
        nano's vocabulary, 0.1 to 0.19 ms for DeepSeek's, the most 1 ms at the first string of a schema. `push` adds 0.03 and
        0.05 ms, of which a forced token costs nothing.
        """
        if self._opens_after is not None:
            return self._while_thinking
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        allowed = np.unpackbits(self._bits.view(np.uint8), count=self._num_ids, bitorder="little")
        return allowed.view(np.bool_)


class _Vocabulary:
    """A tokenizer as llguidance asks for it: the bytes of every token, and an encoder of text in the middle of a text.

    Control tokens have no bytes that a grammar could ask for. One id more than there are stands for the end of turn
    where a model has none; masks do not reach it.
    """

    def __init__(self, tokenizer: Tokenizer, end_ids: Collection[int], num_ids: int) -> None:
        self._encode = tokenizer.continuation_encoder()
        self.tokens = [tokenizer.token_bytes(token_id) for token_id in range(num_ids)] + [b""]
        self.eos_token_id = next(iter(end_ids), num_ids)
        self.bos_token_id = None
        self.special_token_ids = sorted(
            {token_id for token_id in tokenizer.special_ids if token_id < num_ids} | {*end_ids, num_ids}
        )

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode())


def _vocabulary(tokenizer: Tokenizer, end_ids: Collection[int], num_ids: int) -> LLTokenizer:
    source = _Vocabulary(tokenizer, end_ids, num_ids)
    return LLTokenizer(TokenizerWrapper(source), eos_token=list(end_ids) or [source.eos_token_id])


def _grammar(schema: str) -> str:
    try:
        return LLMatcher.grammar_from_json_schema(schema, overrides=_FORM)
    except ValueError as error:
        raise GrammarError(
            f"this is not a JSON Schema: {error}; expected the text of a JSON object, such as "
            '{"type":"object","properties":{...}}'
        ) from error


def _compile(schema: str, vocabulary: LLTokenizer) -> LLMatcher:
    limits = LLParserLimits(verbose_errors=False)
    matcher = LLMatcher(vocabulary, _grammar(schema), log_level=0, limits=limits)
    if matcher.is_error():
        raise GrammarError(f"the JSON Schema cannot be used as a grammar: {matcher.get_error()}")
    return matcher
