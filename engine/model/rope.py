"""Rotary frequencies, their YaRN interpolation, and the softmax scale that goes with it. Knows no activations.

Plain rope: arXiv 2104.09864. YaRN: arXiv 2309.00071, with the constants as DeepSeek and transformers use them.
"""

from __future__ import annotations

import math

import torch

from engine.model.config import ModelConfig, YarnScaling


def inverse_frequencies(config: ModelConfig) -> torch.Tensor:
    """(rope / 2,) float32: theta ** (-2j / rope), under YaRN blended with the same divided by `factor`.

    A pair that turns more than `beta_fast` times over the original context keeps its frequency, one that turns less than
    `beta_slow` times is interpolated in full, and between the two a linear ramp over the pair's index blends.
    """
    width, theta = config.qk_rope_head_dim, config.rope_theta
    period = theta ** (torch.arange(0, width, 2).to(torch.float32) / width)
    if config.yarn is None:
        return 1.0 / period
    low = max(math.floor(_pair_that_turns(config.yarn.beta_fast, width, theta, config.yarn)), 0)
    high = min(math.ceil(_pair_that_turns(config.yarn.beta_slow, width, theta, config.yarn)), width - 1)
    span = high - low if high != low else 0.001
    ramp = ((torch.arange(width // 2, dtype=torch.float32) - low) / span).clamp(0, 1)
    kept = 1 - ramp
    return 1.0 / (config.yarn.factor * period) * (1 - kept) + 1.0 / period * kept


def rotation_amplitude(config: ModelConfig) -> float:
    """What cosine and sine are multiplied with: mscale(mscale) / mscale(mscale_all_dim), 1 without YaRN."""
    yarn = config.yarn
    if yarn is None:
        return 1.0
    if yarn.mscale and yarn.mscale_all_dim:
        return _mscale(yarn.factor, yarn.mscale) / _mscale(yarn.factor, yarn.mscale_all_dim)
    return _mscale(yarn.factor, 1.0)


def softmax_scale(config: ModelConfig) -> float:
    """(nope + rope) ** -0.5, times mscale(mscale_all_dim) squared under YaRN (1.87 for DeepSeek-V3)."""
    scale = (config.qk_nope_head_dim + config.qk_rope_head_dim) ** -0.5
    if config.yarn is not None and config.yarn.mscale_all_dim:
        scale *= _mscale(config.yarn.factor, config.yarn.mscale_all_dim) ** 2
    return float(scale)


def _mscale(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def _pair_that_turns(turns: float, width: int, theta: float, yarn: YarnScaling) -> float:
    """The (fractional) index of the pair that turns so many times over the original context."""
    context = yarn.original_max_position_embeddings
    return width * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(theta))
