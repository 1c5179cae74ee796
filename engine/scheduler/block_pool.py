"""Pages as integers: who holds which, which can be reused for a prefix, which is taken next. Knows no tensors.

Knows no requests either: whoever holds a page calls `release`.

A page is in one of three states, and `num_free + num_reusable + num_used == num_blocks` holds after each call:
used (at least one holder), reusable (no holder, its content can still be found by its tokens), free.
Only full pages are found, so a shared page is never written again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class PageKey:
    """What a full page holds: its tokens, after the tokens of all pages before it.

    `digest` = BLAKE2b-128 of (parent digest, tokens) finds a page; equality then compares tokens and parent too.
    """

    digest: bytes
    parent: bytes  # the digest of the page before; empty at the first page
    tokens: bytes  # int64, native byte order


def page_key(parent: PageKey | None, tokens: bytes) -> PageKey:
    """The key of the page that holds `tokens` (int64 each) behind the page of `parent`."""
    before = b"" if parent is None else parent.digest
    return PageKey(blake2b(before + tokens, digest_size=16).digest(), before, tokens)


class BlockPool:
    """`num_blocks` pages of `block_size` tokens. Every call costs O(pages it names), a search a few microseconds."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.num_free = num_blocks
        self._is_free = bytearray(b"\x01") * num_blocks
        self._num_holders = [0] * num_blocks
        self._key_of: list[PageKey | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}  # digest: the page that lookups find
        self._reusable: OrderedDict[int, None] = OrderedDict()  # the least recently used page first

    @property
    def num_reusable(self) -> int:
        """Pages without a holder, kept only because a later prompt may begin with their tokens."""
        return len(self._reusable)

    @property
    def num_available(self) -> int:
        """Pages that `allocate` can hand out: the free ones and the reusable ones."""
        return self.num_free + len(self._reusable)

    @property
    def num_used(self) -> int:
        """Pages with at least one holder."""
        return self.num_blocks - self.num_available

    def num_pages(self, num_tokens: int) -> int:
        """Pages that hold `num_tokens` tokens."""
        return -(-num_tokens // self.block_size)

    def match(self, keys: Sequence[PageKey]) -> list[int]:
        """The pages that hold the longest stored prefix of `keys`, in order. Holds none of them: see `acquire`."""
        found: list[int] = []
        for key in keys:
            block_id = self._block_of.get(key.digest)
            if block_id is None or self._key_of[block_id] != key:
                break
            found.append(block_id)
        return found

    def is_reusable(self, block_id: int) -> bool:
        """Nobody holds the page, and its content can be found."""
        return block_id in self._reusable

    def num_holders(self, block_id: int) -> int:
        """How many requests hold the page."""
        return self._num_holders[block_id]

    def acquire(self, block_ids: Iterable[int]) -> None:
        """One more holder for each of these pages, which `match` found."""
        for block_id in block_ids:
            self._num_holders[block_id] += 1
            self._reusable.pop(block_id, None)

    def allocate(
        self, count: int, after: int | None = None, room: int = 0, keep_clear: Sequence[range] = ()
    ) -> list[int]:
        """`count` pages with one holder each, consecutive and ascending where that is possible.

        `after` is the page they should follow. `room` >= count is what the holder is likely to need in all: where a
        new run begins, the least recently used reusable pages are given up together until so many are free, and the
        next calls find neighbours. `keep_clear` are the pages into which other holders grow, used last.
        """
        assert count <= self.num_available, f"{count} pages asked for, {self.num_available} available"
        taken: list[int] = []
        block_id = self.num_blocks if after is None else after + 1
        while len(taken) < count:
            if block_id >= self.num_blocks or not self._is_free[block_id]:
                length = max(count, room) - len(taken)
                while self.num_free < length and self._reusable:
                    self._evict()
                block_id = self._find_run(length, keep_clear)
            self._is_free[block_id] = 0
            self.num_free -= 1
            self._num_holders[block_id] = 1
            taken.append(block_id)
            block_id += 1
        return taken

    def publish(self, block_id: int, key: PageKey) -> None:
        """The page is full and holds what `key` says: later prompts may reuse it."""
        self._key_of[block_id] = key
        self._claim(block_id, key)

    def release(self, block_ids: Sequence[int]) -> None:
        """One holder less for each page. The last pages become the oldest, so that a prefix outlives its tail."""
        for block_id in reversed(block_ids):
            self._num_holders[block_id] -= 1
            assert self._num_holders[block_id] >= 0, f"page {block_id} is released more often than held"
            if self._num_holders[block_id]:
                continue
            key = self._key_of[block_id]
            if key is not None and self._claim(block_id, key):
                self._reusable[block_id] = None
            else:
                self._free(block_id)

    def clear(self) -> None:
        """Forget every stored prefix: what computes the cache has changed. Nobody may hold a page."""
        assert self.num_used == 0, f"{self.num_used} pages are in use while the prefixes are cleared"
        while self._reusable:
            self._evict()

    def _claim(self, block_id: int, key: PageKey) -> bool:
        """Make lookups of `key` find this page. False: another page that is in use has the same content."""
        other = self._block_of.get(key.digest)
        if other is not None and other != block_id:
            if self._num_holders[other]:
                return False
            del self._reusable[other]
            self._free(other)
        self._block_of[key.digest] = block_id
        return True

    def _evict(self) -> None:
        block_id, _ = self._reusable.popitem(last=False)
        key = self._key_of[block_id]
        assert key is not None
        del self._block_of[key.digest]
        self._free(block_id)

    def _free(self, block_id: int) -> None:
        self._key_of[block_id] = None
        self._is_free[block_id] = 1
        self.num_free += 1

    def _find_run(self, length: int, keep_clear: Sequence[range]) -> int:
        """The first page of a run of `length` free pages, else of the half, and so on; outside of `keep_clear` first."""
        open_pages = bytearray(self._is_free)
        for pages in keep_clear:
            stop = min(pages.stop, self.num_blocks)
            if pages.start < stop:
                open_pages[pages.start : stop] = bytes(stop - pages.start)
        while length > 0:
            start = open_pages.find(b"\x01" * length)
            if start >= 0:
                return start
            length //= 2
        return self._is_free.find(1)
