"""The weights of a model as a tree of values, named as the paper names them. Knows no files and no arithmetic.

The loader fills it, the model reads it. Norm weights, the router and its bias are float32 tensors, whatever the
checkpoint stored; everything that is multiplied with activations is a Matrix in the format the placement chose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.quant.matrix import Matrix, MatrixStack


@dataclass(frozen=True, slots=True)
class AttentionParameters:
    """Multi-head latent attention. Either `q` or (`q_a`, `q_a_norm`, `q_b`) is there. Rotary pairs are interleaved."""

    q: Matrix | None  # (heads * (nope + rope), hidden)
    q_a: Matrix | None  # (q_lora, hidden)
    q_a_norm: torch.Tensor | None  # (q_lora,)
    q_b: Matrix | None  # (heads * (nope + rope), q_lora)
    kv_a: Matrix  # (kv_lora + rope, hidden)
    kv_a_norm: torch.Tensor  # (kv_lora,)
    kv_b: Matrix  # (heads * (nope + v), kv_lora)
    o: Matrix  # (hidden, heads * v)


@dataclass(frozen=True, slots=True)
class MlpParameters:
    """down(silu(gate x) * up x): a dense layer's MLP, or all shared experts as one."""

    gate: Matrix  # (intermediate, hidden)
    up: Matrix  # (intermediate, hidden)
    down: Matrix  # (hidden, intermediate)


@dataclass(frozen=True, slots=True)
class MoeParameters:
    """Routed experts, their router, and the shared experts."""

    router: torch.Tensor  # (experts, hidden) float32
    correction_bias: torch.Tensor  # (experts,) float32; chooses, does not weigh
    gate: MatrixStack  # (experts, moe_intermediate, hidden)
    up: MatrixStack  # (experts, moe_intermediate, hidden)
    down: MatrixStack  # (experts, hidden, moe_intermediate)
    shared: MlpParameters | None


@dataclass(frozen=True, slots=True)
class LayerParameters:
    input_norm: torch.Tensor  # (hidden,)
    attention: AttentionParameters
    post_attention_norm: torch.Tensor  # (hidden,)
    mlp: MlpParameters | MoeParameters


@dataclass(frozen=True, slots=True)
class ModelParameters:
    embedding: Matrix  # (vocab, hidden)
    layers: tuple[LayerParameters, ...]
    norm: torch.Tensor  # (hidden,)
    head: Matrix  # (vocab, hidden); the embedding itself when tied
