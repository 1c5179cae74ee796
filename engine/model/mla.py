"""Multi-head latent attention of one layer (arXiv 2405.04434, section 2.1). Knows no experts and no scheduler.

Only c_kv (kv_lora_rank values, normalised) and k_pe (rope values, rotated, shared by the heads) are cached per token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.kernels.protocol import Kernels, PagedKeys
from engine.model.batch import Batch, Segment
from engine.model.config import ModelConfig
from engine.model.parameters import AttentionParameters
from engine.model.rope import softmax_scale

LATENT_NORM_EPS = (
    1e-6  # of q_a_norm and kv_a_norm, whatever rms_norm_eps says: DeepSeek's code and transformers agree
)


@dataclass(frozen=True, slots=True)
class AttentionStep:
    """What the attention of every layer shares in one step."""

    rotation: torch.Tensor  # (T, rope / 2) complex64
    slots: torch.Tensor  # (T,) int64
    segments: tuple[tuple[Segment, PagedKeys], ...]

    @classmethod
    def of(
        cls,
        batch: Batch,
        block_size: int,
        inverse_frequencies: torch.Tensor,
        amplitude: float,
        kernels: Kernels,
    ) -> AttentionStep:
        """For the layers whose attention these kernels compute. `inverse_frequencies` (rope / 2,), on any device."""
        frequencies, positions = kernels.receive(inverse_frequencies), kernels.receive(batch.positions)
        rotation = kernels.rotation(positions, frequencies, amplitude)
        keys = (PagedKeys.of(s.block_ids, s.start, s.end, block_size, kernels.device) for s in batch.segments)
        return cls(rotation, kernels.receive(batch.slots), tuple(zip(batch.segments, keys, strict=True)))


class MultiHeadLatentAttention:
    """(T, hidden), normalised -> (T, hidden), and the T new latents written to the layer's pages."""

    def __init__(self, config: ModelConfig, parameters: AttentionParameters, kernels: Kernels) -> None:
        self._parameters = parameters
        self._kernels = kernels
        self._num_heads = config.num_attention_heads
        self._rank = config.kv_lora_rank
        self._nope, self._rope = config.qk_nope_head_dim, config.qk_rope_head_dim
        self._v = config.v_head_dim
        self._scale = softmax_scale(config)

    def __call__(self, x: torch.Tensor, step: AttentionStep, pages: torch.Tensor) -> torch.Tensor:
        k, p = self._kernels, self._parameters
        q = self._queries(x).view(x.shape[0], self._num_heads, self._nope + self._rope)
        q_nope, q_pe = q[:, :, : self._nope], k.rotate(q[:, :, self._nope :], step.rotation)

        latent = k.linear(x, p.kv_a)  # (T, C + rope)
        c_kv = k.rms_norm(latent[:, : self._rank], p.kv_a_norm, LATENT_NORM_EPS)
        k_pe = k.rotate(latent[:, None, self._rank :], step.rotation)[:, 0]
        k.write_latent(pages, step.slots, c_kv, k_pe)

        outs = []
        for segment, keys in step.segments:
            rows = slice(segment.row, segment.row + segment.length)
            attend = k.mla_expanded if self._expands(segment) else k.mla_absorbed
            outs.append(attend(q_nope[rows], q_pe[rows], pages, keys, p.kv_b, self._scale))
        return k.linear(outs[0] if len(outs) == 1 else torch.cat(outs), p.o)

    def _queries(self, x: torch.Tensor) -> torch.Tensor:
        """(T, heads * (nope + rope)), through the low-rank pair where the model has one."""
        k, p = self._kernels, self._parameters
        if p.q is not None:
            return k.linear(x, p.q)
        assert p.q_a is not None
        assert p.q_a_norm is not None
        assert p.q_b is not None
        return k.linear(k.rms_norm(k.linear(x, p.q_a), p.q_a_norm, LATENT_NORM_EPS), p.q_b)

    def _expands(self, segment: Segment) -> bool:
        """The expanded form needs fewer multiplications. One row, a decode step, always stays absorbed.

        Per head, n rows and L keys: absorbed n * L * (2C + rope) + n * (nope + v) * C, expanded L * (nope + v) * C +
        n * L * (nope + rope + v). At nano's shapes and long L that is from 55 rows on, at DeepSeek-V3's from 171.
        """
        n, length = segment.length, segment.end
        weights = (self._nope + self._v) * self._rank
        absorbed = n * length * (2 * self._rank + self._rope) + n * weights
        expanded = length * weights + n * length * (self._nope + self._rope + self._v)
        return n > 1 and expanded < absorbed
