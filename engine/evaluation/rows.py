"""The reference's logits of every counted token, on the disk: exact, and no second model in memory. Knows no engine."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import torch

from engine.errors import EngineError


class RowFile:
    """(tokens, vocabulary) in float32, in a file without a name that goes when it is closed or the process ends."""

    def __init__(self, folder: Path, num_tokens: int, vocab_size: int) -> None:
        """EngineError when `folder` has no room for it."""
        needed, free = num_tokens * vocab_size * 4, shutil.disk_usage(folder).free
        if needed > free:
            raise EngineError(
                f"the reference's logits of {num_tokens} tokens take {needed / 1e9:.2f} GB in {folder}, where "
                f"{free / 1e9:.2f} GB are free; take fewer tokens, or set DSV3CHAT_CACHE_DIR to another disk"
            )
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by __exit__
        self._rows = np.memmap(self._file, np.float32, "w+", shape=(num_tokens, vocab_size))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, first: int, logits: torch.Tensor) -> None:
        """Rows `first` on = `logits`."""
        self._rows[first : first + len(logits)] = logits.numpy()

    def read(self, first: int, count: int) -> torch.Tensor:
        """Rows [first, first + count); shares memory with the file."""
        return torch.from_numpy(self._rows[first : first + count])
