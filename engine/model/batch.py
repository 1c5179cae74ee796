"""The tensors of one step, as the model takes them. Knows no requests and no sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Segment:
    """One request's rows of a batch and where its latents lie.

    Rows `[row, row + length)` of the batch stand at positions `[start, start + length)`; the cache holds positions
    `[0, start)` before the step, `[0, start + length)` once the layer has written. Position p lies in page
    `block_ids[p // block_size]` at slot `p % block_size`.
    """

    row: int
    length: int
    start: int
    block_ids: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Batch:
    """All segments of a step, concatenated. T = rows in all, R = rows whose logits are wanted."""

    token_ids: torch.Tensor  # (T,) int64
    positions: torch.Tensor  # (T,) int64
    slots: torch.Tensor  # (T,) int64: block_id * block_size + offset, where each row's latent is written
    segments: tuple[Segment, ...]
    logit_rows: torch.Tensor  # (R,) int64
