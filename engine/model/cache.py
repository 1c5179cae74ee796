"""The latent cache: per layer and token one compressed key-value vector, in pages. Knows no requests.

Which page belongs to whom is the scheduler's business; a slot that nobody has written holds anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from engine.quant import fp8, latents


class LatentCache:
    """`cache[layer]` is (num_blocks, block_size, latent_dim): c_kv (kv_lora_rank) and then k_pe (rope), already rotated.

    In fp8 it is (num_blocks, block_size, latent_dim + 2) uint8, rows as engine/quant/latents.py has them.
    """

    def __init__(
        self,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        latent_dim: int,
        dtype: torch.dtype,
        devices: Sequence[torch.device] | None = None,
    ) -> None:
        """`devices`: where each layer's pages lie, the device of its attention; None: all on the CPU."""
        self.block_size = block_size
        devices = [torch.device("cpu")] * num_layers if devices is None else devices
        width, dtype = _row(latent_dim, dtype)
        self._pages = {
            device: torch.zeros(count, num_blocks, block_size, width, dtype=dtype, device=device)
            for device, count in Counter(devices).items()
        }
        layers_of = {device: iter(pages.unbind(0)) for device, pages in self._pages.items()}
        self._layers = tuple(next(layers_of[device]) for device in devices)

    def __getitem__(self, layer: int) -> torch.Tensor:
        return self._layers[layer]

    @property
    def pages(self) -> tuple[torch.Tensor, ...]:
        """Every layer's pages, in order."""
        return self._layers

    @property
    def nbytes(self) -> int:
        return sum(pages.nbytes for pages in self._pages.values())


def cache_bytes(num_layers: int, num_tokens: int, latent_dim: int, dtype: torch.dtype) -> int:
    """What a cache for `num_tokens` (whole pages) takes."""
    width, dtype = _row(latent_dim, dtype)
    return num_layers * num_tokens * width * dtype.itemsize


def _row(latent_dim: int, dtype: torch.dtype) -> tuple[int, torch.dtype]:
    """(values, dtype) of a token's row of a layer."""
    return (latent_dim + latents.SCALE_BYTES, torch.uint8) if dtype is fp8.DTYPE else (latent_dim, dtype)
