"""Notices that an answer goes round in circles. Knows token ids only.

A model whose attention is too coarse repeats a phrase for ever. An n-gram of NGRAM tokens counts as worn when it has
stood in the answer at least twice before; the answer loops when nearly all of its last WINDOW tokens end worn n-grams.
So a passage may come twice, as code does that is shown and then shown corrected; a chorus, a table's rule or a list of
like lines may come often, as long as something new stands between.
"""

from __future__ import annotations

from collections import deque

NGRAM = 6
WINDOW = 160  # tokens: at the worst two periods and this many are lost before the guard stops
SHARE = 0.95


class LoopGuard:
    """`push` each token of an answer; True from the token on at which it loops."""

    def __init__(self) -> None:
        self._last: deque[int] = deque(maxlen=NGRAM)
        self._seen: dict[tuple[int, ...], int] = {}
        self._worn: deque[bool] = deque(maxlen=WINDOW)
        self._num_worn = 0

    def push(self, token_id: int) -> bool:
        """Constant time; memory grows by an entry a token."""
        self._last.append(token_id)
        gram = tuple(self._last)
        count = self._seen.get(gram, 0)
        self._seen[gram] = count + 1
        if len(self._worn) == WINDOW and self._worn[0]:
            self._num_worn -= 1
        worn = len(gram) == NGRAM and count >= 2
        self._worn.append(worn)
        self._num_worn += worn
        return len(self._worn) == WINDOW and self._num_worn >= SHARE * WINDOW
