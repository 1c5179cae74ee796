"""The latent cache: its layout and its bytes."""

import pytest
import torch

from engine.model.cache import LatentCache, cache_bytes


def test_layers_are_separate_pages_of_one_allocation():
    cache = LatentCache(3, 5, 16, 7, torch.bfloat16)
    cache[1].fill_(1)
    assert cache[1].shape == (5, 16, 7)
    assert cache[1].is_contiguous()
    assert not cache[0].any()
    assert not cache[2].any()
    assert cache.nbytes == 3 * 5 * 16 * 7 * 2


@pytest.mark.parametrize(
    ("dtype", "row_bytes"), [(torch.float32, 28), (torch.bfloat16, 14), (torch.float8_e4m3fn, 9)]
)
def test_bytes_are_known_before_there_is_a_cache(dtype, row_bytes):
    assert (
        LatentCache(3, 5, 16, 7, dtype).nbytes == cache_bytes(3, 5 * 16, 7, dtype) == 3 * 5 * 16 * row_bytes
    )
