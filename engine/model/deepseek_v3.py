"""DeepseekV3ForCausalLM: token ids of one step to logits. Knows no requests, no sampling and no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import torch

from engine.kernels.protocol import Kernels
from engine.model.batch import Batch
from engine.model.cache import LatentCache
from engine.model.config import ModelConfig
from engine.model.layers import DecoderLayer
from engine.model.mla import AttentionStep
from engine.model.packed_layers import PackedLayers, is_packed
from engine.model.parameters import LayerParameters, ModelParameters
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
        self._layers = tuple(self._runs(parameters.layers))

    def _runs(self, layers: Sequence[LayerParameters]) -> Iterator[DecoderLayer | PackedLayers]:
        """Layers one by one, those that are packed in runs."""
        for packed, run in groupby(enumerate(layers), lambda item: is_packed(item[1])):
            members = list(run)
            if packed:
                assert self._kernels.layers is not None, "packed weights need kernels that read them"
                first = members[0][0]
                yield PackedLayers(self.config, [p for _, p in members], self._kernels.layers, first)
            else:
                yield from (DecoderLayer(self.config, p, self._kernels) for _, p in members)

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: LatentCache, probe: Probe | None = None) -> torch.Tensor:
        """Logits (R, vocab) float32 of `batch.logit_rows`; the latents of all T rows are in the cache afterwards.

        `probe(layer, hidden)` sees the (T, hidden) output of each layer, to find where numbers stop being finite.
        """
        k, p = self._kernels, self._parameters
        rotation = k.rotation(batch.positions, self._inverse_frequencies, self._amplitude)
        step = AttentionStep.of(batch, rotation, cache.block_size)
        x = k.embed(p.embedding, batch.token_ids)  # (T, hidden)
        index = 0
        for layer in self._layers:
            if isinstance(layer, DecoderLayer):
                x = layer(x, step, cache[index])
                index += 1
                if probe is not None:
                    probe(index - 1, x)
                continue
            if probe is None:
                x = layer(x, step, cache.pages)
            else:
                for one in range(index, index + len(layer)):
                    x = layer(x, step, cache.pages, only=one)
                    probe(one, x)
            index += len(layer)
        x = k.take_rows(x, batch.logit_rows)  # (R, hidden)
        return k.head(k.rms_norm(x, p.norm, self.config.rms_norm_eps), p.head)
