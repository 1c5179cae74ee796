"""DeepseekV3ForCausalLM: token ids of one step to logits. Knows no requests, no sampling and no files."""

from __future__ import annotations

from collections.abc import Callable

import torch

from engine.kernels.protocol import Kernels
from engine.model.batch import Batch
from engine.model.cache import LatentCache
from engine.model.config import ModelConfig
from engine.model.layers import DecoderLayer
from engine.model.mla import AttentionStep
from engine.model.parameters import ModelParameters
from engine.model.rope import inverse_frequencies, rotation_amplitude

Probe = Callable[[int, torch.Tensor], None]


class DeepseekV3:
    """The model as arXiv 2412.19437 describes it, on the kernels that it is given.

    Which rows share a step changes a row's logits only by rounding; where, the kernels' module says.
    """

    def __init__(self, config: ModelConfig, parameters: ModelParameters, kernels: Kernels) -> None:
        self.config = config
        self._parameters, self._kernels = parameters, kernels
        self._inverse_frequencies = inverse_frequencies(config)
        self._amplitude = rotation_amplitude(config)
        self._layers = tuple(DecoderLayer(config, layer, kernels) for layer in parameters.layers)

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: LatentCache, probe: Probe | None = None) -> torch.Tensor:
        """Logits (R, vocab) float32 of `batch.logit_rows`; the latents of all T rows are in the cache afterwards.

        `probe(layer, hidden)` sees the (T, hidden) output of each layer, to find where numbers stop being finite.
        """
        k, p = self._kernels, self._parameters
        rotation = k.rotation(batch.positions, self._inverse_frequencies, self._amplitude)
        step = AttentionStep.of(batch, rotation, cache.block_size)
        x = k.embed(p.embedding, batch.token_ids)  # (T, hidden)
        for index, layer in enumerate(self._layers):
            x = layer(x, step, cache[index])
            if probe is not None:
                probe(index, x)
        x = k.take_rows(x, batch.logit_rows)  # (R, hidden)
        return k.head(k.rms_norm(x, p.norm, self.config.rms_norm_eps), p.head)
