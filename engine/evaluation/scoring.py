"""A text through an engine, window by window: the logits of every counted token, once each. Knows no comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from engine.api import Engine
from engine.errors import PromptError, RequestTooLargeError
from engine.evaluation.windows import WINDOW, Window, windows
from engine.text.tokenizer import Tokenizer

Take: TypeAlias = Callable[[int, torch.Tensor, torch.Tensor], None]
"""`take(first, logits, targets)`: the logits (n, vocab) that predict the counted tokens `first` on, and these tokens (n)."""


@dataclass(frozen=True, slots=True)
class Text:
    """`beginning` stands before each window: the checkpoint's beginning-of-sequence token where it wants one, or nothing."""

    ids: tuple[int, ...]
    beginning: tuple[int, ...]
    windows: tuple[Window, ...]

    @property
    def num_counted(self) -> int:
        """All tokens but the first."""
        return len(self.ids) - 1


def read_text(checkpoint: Path, text: str, max_tokens: int) -> Text:
    """The first `max_tokens` tokens of `text`. PromptError when there are fewer than two."""
    tokenizer = Tokenizer.open(checkpoint)
    ids = tokenizer.encode_text(text)[:max_tokens]
    if len(ids) < 2:
        raise PromptError(
            f"the text has {len(ids)} tokens; at least two are needed, and some hundreds to learn from"
        )
    return Text(tuple(ids), tokenizer.beginning_ids, tuple(windows(len(ids))))


def score(engine: Engine, text: Text, take: Take) -> Iterator[int]:
    """Give every counted token's logits to `take`, on the engine's thread; yields the number of windows done."""
    longest = max(window.stop - window.start for window in text.windows) + len(text.beginning)
    if longest > engine.info.context_tokens:
        raise RequestTooLargeError(
            f"profile {engine.profile.name} has room for {engine.info.context_tokens} tokens of one text, windows of "
            f"{WINDOW} take {longest}; set cache_lens to at least {longest}"
        )
    for done, window in enumerate(text.windows, start=1):
        engine.score(
            [*text.beginning, *text.ids[window.start : window.stop]], _window_rows(text, window, take)
        )
        yield done


def _window_rows(text: Text, window: Window, take: Take) -> Callable[[int, torch.Tensor], None]:
    """What `Engine.score` calls: row r of the window predicts token r + 1 of it, so token r + 1 + shift of the text."""
    shift = window.start - len(text.beginning)

    def on_rows(start: int, logits: torch.Tensor) -> None:
        low = max(start + 1 + shift, window.first)
        high = min(start + len(logits) + 1 + shift, window.stop)
        if low < high:
            offset = low - (start + 1 + shift)
            targets = torch.tensor(text.ids[low:high], dtype=torch.int64)
            take(low - 1, logits[offset : offset + high - low], targets)

    return on_rows
