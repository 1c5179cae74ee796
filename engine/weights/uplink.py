"""Finished matrices into a device's memory, through one pinned buffer. Knows no checkpoint and no format.

The driver copies from pinned memory at the bus's rate and on its own; from other memory it copies twice. Two halves take
turns: while one is on its way the other is filled.
"""

from __future__ import annotations

import torch

from engine.quant.matrix import Matrix

BUFFER_BYTES = 64 << 20


class Uplink:
    """Copies to one device; `close` waits for the last copy. On the CPU, where nothing is to be pinned, it just copies."""

    def __init__(self, device: torch.device, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.device = device
        self._half = buffer_bytes // 2
        self._next = 0
        self._pinned: list[torch.Tensor] = []
        self._sent: list[torch.cuda.Event] = []
        if device.type == "cuda":
            buffer = torch.empty(2 * self._half, dtype=torch.uint8, pin_memory=True)
            self._pinned = [buffer[: self._half], buffer[self._half :]]
            with torch.cuda.device(device):
                self._sent = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]

    def matrix(self, target: Matrix, source: Matrix) -> None:
        """All parts of a matrix into one of the same format and shape."""
        for mine, other in (
            (target.data, source.data),
            (target.scale, source.scale),
            (target.zero, source.zero),
        ):
            if mine is not None and other is not None:
                self.tensor(mine, other)

    def tensor(self, target: torch.Tensor, source: torch.Tensor) -> None:
        """`source`, contiguous and on the CPU, into `target`; it may be overwritten at once."""
        if not self._pinned:
            target.copy_(source)
            return
        into, values = (tensor.view(-1).view(torch.uint8) for tensor in (target, source))
        with torch.cuda.device(self.device):
            for start in range(0, len(values), self._half):
                stop = min(start + self._half, len(values))
                event, pinned = self._sent[self._next], self._pinned[self._next][: stop - start]
                event.synchronize()
                pinned.copy_(values[start:stop])
                into[start:stop].copy_(pinned, non_blocking=True)
                event.record()
                self._next = 1 - self._next

    def close(self) -> None:
        """Every copy has arrived, and the buffer is given back."""
        for event in self._sent:
            event.synchronize()
        self._pinned, self._sent = [], []
