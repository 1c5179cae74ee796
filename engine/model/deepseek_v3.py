"""DeepseekV3ForCausalLM: token ids of one step to logits. Knows no requests, no sampling and no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import torch

from engine.kernels.protocol import Kernels
from engine.model.batch import Batch
from engine.model.cache import LatentCache
from engine.model.config import ModelConfig
from engine.model.layers import DecoderLayer
from engine.model.mla import AttentionStep
from engine.model.packed_layers import PackedLayers, is_packed
from engine.model.parameters import ModelParameters
from engine.model.places import ModelPlaces, hand_over
from engine.model.rope import inverse_frequencies, rotation_amplitude

Probe = Callable[[int, torch.Tensor], None]


class DeepseekV3:
    """The model as arXiv 2412.19437 describes it, on the kernels that it is given.

    Which rows share a step changes a row's logits only by rounding; where, the kernels' module says.
    """

    def __init__(
        self, config: ModelConfig, parameters: ModelParameters, kernels: Kernels | ModelPlaces
    ) -> None:
        """`kernels`: of all parts, or of each. The parameters of a part lie on its kernels' device."""
        self.config = config
        if not isinstance(kernels, ModelPlaces):
            kernels = ModelPlaces.all_on(kernels, config.num_hidden_layers)
        self._parameters, self._places = parameters, kernels
        self._inverse_frequencies = inverse_frequencies(config)
        self._amplitude = rotation_amplitude(config)
        self._layers = tuple(self._runs())

    def _runs(self) -> Iterator[DecoderLayer | PackedLayers]:
        """Layers one by one, those that are packed in runs."""
        layers, places = self._parameters.layers, self._places.layers
        for packed, run in groupby(range(len(layers)), lambda index: is_packed(layers[index])):
            indices = list(run)
            if packed:
                members = [layers[index] for index in indices]
                yield PackedLayers(self.config, members, places[indices[0]].attention, indices[0])
            else:
                yield from (DecoderLayer(self.config, layers[i], places[i]) for i in indices)

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: LatentCache, probe: Probe | None = None) -> torch.Tensor:
        """Logits (R, vocab) float32 of `batch.logit_rows`, on the head's device; the latents of all T rows are in the
        cache afterwards. `batch` is on the CPU.

        `probe(layer, hidden)` sees the (T, hidden) output of each layer, to find where numbers stop being finite.
        """
        p, k = self._parameters, self._places.embedding
        steps: dict[int, AttentionStep] = {}
        x = k.embed(p.embedding, k.receive(batch.token_ids))  # (T, hidden)
        index = 0
        for layer in self._layers:
            k = layer.kernels
            x = hand_over(x, k)
            if id(k) not in steps:
                steps[id(k)] = AttentionStep.of(
                    batch, cache.block_size, self._inverse_frequencies, self._amplitude, k
                )
            step = steps[id(k)]
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
        x, k = k.take_rows(x, k.receive(batch.logit_rows)), self._places.head  # (R, hidden)
        return k.head(k.rms_norm(hand_over(x, k), p.norm, self.config.rms_norm_eps), p.head)
