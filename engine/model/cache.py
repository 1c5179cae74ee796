"""The latent cache: per layer and token one compressed key-value vector, in pages. Knows no requests.

Which page belongs to whom is the scheduler's business; a slot that nobody has written holds anything.
"""

from __future__ import annotations

import torch

from engine.quant import fp8, latents


class LatentCache:
    """`cache[layer]` is (num_blocks, block_size, latent_dim): c_kv (kv_lora_rank) and then k_pe (rope), already rotated.

    In fp8 it is (num_blocks, block_size, latent_dim + 2) uint8, rows as engine/quant/latents.py has them.
    """

    def __init__(
        self, num_layers: int, num_blocks: int, block_size: int, latent_dim: int, dtype: torch.dtype
    ) -> None:
        self.block_size = block_size
        width, dtype = _row(latent_dim, dtype)
        self._pages = torch.zeros(num_layers, num_blocks, block_size, width, dtype=dtype)
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


def cache_bytes(num_layers: int, num_tokens: int, latent_dim: int, dtype: torch.dtype) -> int:
    """What a cache for `num_tokens` (whole pages) takes."""
    width, dtype = _row(latent_dim, dtype)
    return num_layers * num_tokens * width * dtype.itemsize


def _row(latent_dim: int, dtype: torch.dtype) -> tuple[int, torch.dtype]:
    """(values, dtype) of a token's row of a layer."""
    return (latent_dim + latents.SCALE_BYTES, torch.uint8) if dtype is fp8.DTYPE else (latent_dim, dtype)
