"""The latent cache: per layer and token one compressed key-value vector, in pages. Knows no requests.

Which page belongs to whom is the scheduler's business; a slot that nobody has written holds anything.
"""

from __future__ import annotations

import torch


class LatentCache:
    """`cache[layer]` is (num_blocks, block_size, latent_dim): c_kv (kv_lora_rank) and then k_pe (rope), already rotated."""

    def __init__(
        self, num_layers: int, num_blocks: int, block_size: int, latent_dim: int, dtype: torch.dtype
    ) -> None:
        self.block_size = block_size
        self._pages = torch.zeros(num_layers, num_blocks, block_size, latent_dim, dtype=dtype)
        self._layers = self._pages.unbind(0)

    def __getitem__(self, layer: int) -> torch.Tensor:
        return self._layers[layer]

    @property
    def pages(self) -> tuple[torch.Tensor, ...]:
        """Every layer's pages, in order."""
        return self._layers

    @property
    def nbytes(self) -> int:
        return self._pages.nbytes
