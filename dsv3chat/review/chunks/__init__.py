"""A file cut into the pieces that go to the model, one prompt each. Knows no model and no disk."""

from dsv3chat.review.chunks.budget import MAX_LINE_CHARS, ChunkLimits, numbered
from dsv3chat.review.chunks.split import Strategy, split

__all__ = ["MAX_LINE_CHARS", "ChunkLimits", "Strategy", "numbered", "split"]
