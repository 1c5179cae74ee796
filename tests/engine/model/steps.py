"""Steps by hand for tests of the model: pages per request, batches, and a cache whose unwritten slots are NaN."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from engine.kernels.protocol import Kernels
from engine.model.batch import Batch, Segment
from engine.model.cache import LatentCache
from engine.model.deepseek_v3 import DeepseekV3
from engine.profile.values import Precision, Profile
from engine.weights.checkpoint import Checkpoint
from engine.weights.loader import load
from engine.weights.placement import place
from tests.engine.checkpoints import transformers_model, write_checkpoint

BLOCK_SIZE = 16
Chunk = tuple[
    Sequence[int], int, Sequence[int]
]  # token ids of the chunk, its first position, the request's pages


def build(
    config: dict[str, Any], kernels: Kernels, precision: Precision = "native", seed: int = 0
) -> tuple[DeepseekV3, Any]:
    """The model over a random checkpoint of `config`, and transformers' model over the same values."""
    with tempfile.TemporaryDirectory() as folder:
        values = write_checkpoint(Path(folder), config, seed=seed)
        checkpoint = Checkpoint.open(Path(folder))
        weights = load(checkpoint, place(checkpoint, Profile(precision=precision)))
    return DeepseekV3(checkpoint.config, weights.parameters, kernels), transformers_model(config, values)


def poisoned_cache(model: DeepseekV3, num_blocks: int, dtype: torch.dtype = torch.float32) -> LatentCache:
    config = model.config
    cache = LatentCache(config.num_hidden_layers, num_blocks, BLOCK_SIZE, config.latent_dim, dtype)
    for layer in range(config.num_hidden_layers):
        cache[layer].fill_(torch.nan)
    return cache


def shuffled_blocks(num_blocks: int, seed: int = 0) -> list[int]:
    return torch.randperm(num_blocks, generator=torch.Generator().manual_seed(seed)).tolist()


def random_ids(length: int, vocab_size: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, vocab_size, (length,), generator=generator).tolist()


def batch(chunks: Iterable[Chunk], logit_rows: Sequence[int] | None = None) -> Batch:
    """One step of these chunks; logits of every row unless told."""
    ids: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    segments = []
    for tokens, start, blocks in chunks:
        segments.append(Segment(len(ids), len(tokens), start, tuple(blocks)))
        ids += tokens
        for position in range(start, start + len(tokens)):
            positions.append(position)
            slots.append(blocks[position // BLOCK_SIZE] * BLOCK_SIZE + position % BLOCK_SIZE)
    rows = range(len(ids)) if logit_rows is None else logit_rows
    as_tensor = (torch.tensor(values, dtype=torch.int64) for values in (ids, positions, slots))
    token_ids, position_ids, slot_ids = as_tensor
    return Batch(
        token_ids, position_ids, slot_ids, tuple(segments), torch.tensor(list(rows), dtype=torch.int64)
    )


def in_chunks(
    model: DeepseekV3,
    cache: LatentCache,
    ids: Sequence[int],
    blocks: Sequence[int],
    size: int,
    start: int = 0,
) -> torch.Tensor:
    """Log-probabilities (len(ids) - start, vocab) of a request alone, `size` tokens a step, from position `start`."""
    parts = [
        model.forward(batch([(ids[at : at + size], at, blocks)]), cache)
        for at in range(start, len(ids), size)
    ]
    return torch.log_softmax(torch.cat(parts), dim=1)


def expected(oracle: Any, ids: Sequence[int]) -> torch.Tensor:
    """transformers' log-probabilities (len(ids), vocab), one pass over the whole."""
    with torch.inference_mode():
        return torch.log_softmax(oracle(torch.tensor([list(ids)])).logits[0].float(), dim=1)


def difference(got: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference; NaN, which compares with nothing, is infinite."""
    return float((got - wanted).abs().nan_to_num(torch.inf).max())
