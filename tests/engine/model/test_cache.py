"""The latent cache: its layout and its bytes."""

import torch

from engine.model.cache import LatentCache


def test_layers_are_separate_pages_of_one_allocation():
    cache = LatentCache(3, 5, 16, 7, torch.bfloat16)
    cache[1].fill_(1)
    assert cache[1].shape == (5, 16, 7)
    assert cache[1].is_contiguous()
    assert not cache[0].any()
    assert not cache[2].any()
    assert cache.nbytes == 3 * 5 * 16 * 7 * 2
