"""A Llama-like layer rewritten as a DeepSeek-V3 layer: grouped-query attention as MLA, one MLP as shared and routed experts.

Knows no files and no training; it is linear algebra in float64.

Attention. A head of the base has H/2 rotary pairs. The F fastest stay rotary: the keys of all G groups stand side by side
in MLA's one shared rotary key, pair j of group g at slot G*j + g, and a head's query is zero except at its own group's
slots. With theta' = sqrt(theta) slot G*j + g turns at theta^(-(G*j + g) / (G*F)) for F = H/4, which for G = 3 is within
21 % of pair j's own frequency. The slow pairs hardly turn within a sentence; they lose their rotation and become the
"nope" part, which goes through the latent together with the values.

Latent. c = L x, where x is the normalised input before the norm's weight and L (kv_lora, hidden) is orthonormal: its
first rows span the rows of the slow keys and the values exactly, `spare` rows fill it up so that |c| hardly varies. MLA
divides c by its root mean square, which is then nearly the constant `rms`, and kv_b multiplies by that constant again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Grouped-query attention of the base, and how many of its head_dim / 2 rotary pairs stay rotary."""

    hidden: int
    heads: int
    groups: int
    head_dim: int
    fast_pairs: int

    @property
    def nope(self) -> int:
        """Width of a head's part without rotation: both halves of each slow pair."""
        return self.head_dim - 2 * self.fast_pairs

    @property
    def rope(self) -> int:
        """Width of the shared rotary key."""
        return 2 * self.fast_pairs * self.groups

    def group(self, head: int) -> int:
        """The key-value group that `head` reads."""
        return head // (self.heads // self.groups)


@dataclass(frozen=True, slots=True)
class BaseAttention:
    """The base's matrices, (out, hidden), rotary pairs half and half: row j of a head turns with row j + head_dim / 2.

    `norm` (hidden,) is the weight of the RMSNorm before them, which stays in front of MLA's matrices too.
    """

    norm: torch.Tensor
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    o: torch.Tensor


def halves_from_neighbours(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows in llama.cpp's order, where a rotary pair's two rows are neighbours, to the order half and half."""
    paired = weight.view(heads, -1, 2, weight.shape[-1])  # (heads, head_dim / 2, 2, hidden)
    return paired.transpose(1, 2).reshape(weight.shape)


def attention_as_mla(
    base: BaseAttention, shape: AttentionShape, spare: torch.Tensor, rms: torch.Tensor
) -> dict[str, torch.Tensor]:
    """MLA's four matrices by their names in a checkpoint.

    spare: (kv_lora - groups * (nope + head_dim), hidden) orthonormal rows, orthogonal to the rows of keys and values.
    rms: scalar, the latent's typical root mean square. The queries carry sqrt((nope + rope) / head_dim), since MLA
    divides the scores by sqrt(nope + rope) where the base divided by sqrt(head_dim).
    """
    q = base.q.double().view(shape.heads, shape.head_dim, shape.hidden)
    k = base.k.double().view(shape.groups, shape.head_dim, shape.hidden)
    v = base.v.double().view(shape.groups, shape.head_dim, shape.hidden)
    norm = base.norm.double()
    half = shape.head_dim // 2
    slow = torch.cat(
        (torch.arange(shape.fast_pairs, half), torch.arange(half + shape.fast_pairs, shape.head_dim))
    )

    slow_keys_and_values = torch.cat((k[:, slow].flatten(0, 1), v.flatten(0, 1))) * norm
    latent = _latent(slow_keys_and_values, spare)
    up = slow_keys_and_values @ latent.T * rms.double()  # (groups * (nope + head_dim), kv_lora)
    num_keys = shape.groups * shape.nope
    k_up = up[:num_keys].view(shape.groups, shape.nope, -1)
    v_up = up[num_keys:].view(shape.groups, shape.head_dim, -1)
    kv_b = torch.cat([m[shape.group(h)] for h in range(shape.heads) for m in (k_up, v_up)])

    q_mla = torch.cat((q[:, slow], _rotary_queries(q, shape)), dim=1)  # (heads, nope + rope, hidden)
    q_mla = q_mla * ((shape.nope + shape.rope) / shape.head_dim) ** 0.5
    return {
        "self_attn.q_proj": q_mla.flatten(0, 1),
        "self_attn.kv_a_proj_with_mqa": torch.cat((latent / norm, _rotary_keys(k, shape))),
        "self_attn.kv_b_proj": kv_b,
        "self_attn.o_proj": base.o,
    }


def _latent(rows: torch.Tensor, spare: torch.Tensor) -> torch.Tensor:
    """(kv_lora, hidden): an orthonormal basis of `rows` by Householder QR, then the spare rows."""
    return torch.cat((torch.linalg.qr(rows.T).Q.T, spare.double()))


def _rotary_keys(k: torch.Tensor, shape: AttentionShape) -> torch.Tensor:
    """(rope, hidden): slot G*j + g holds the two rows of pair j of group g, as neighbours."""
    pairs = k.view(shape.groups, 2, -1, shape.hidden)[:, :, : shape.fast_pairs]  # (groups, 2, fast, hidden)
    return pairs.permute(2, 0, 1, 3).flatten(0, 2)


def _rotary_queries(q: torch.Tensor, shape: AttentionShape) -> torch.Tensor:
    """(heads, rope, hidden): a head's pair j at its own group's slot G*j + g, zero at the other groups'."""
    pairs = q.view(shape.heads, 2, -1, shape.hidden)[:, :, : shape.fast_pairs].transpose(1, 2)
    slots = q.new_zeros(shape.heads, shape.fast_pairs, shape.groups, 2, shape.hidden)
    for head in range(shape.heads):
        slots[head, :, shape.group(head)] = pairs[head]  # (fast, 2, hidden)
    return slots.flatten(1, 3)


def mlp_as_experts(
    gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor, routed: torch.Tensor, shared: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Deal an MLP's neurons out: `shared` to the shared experts, `routed` to the routed ones, in their order.

    gate, up: (neurons, hidden); down: (hidden, neurons). The routed experts stand in one matrix each, w1, w3 (gate, up:
    experts * width rows) and w2 (down: experts * width columns).
    """
    return {
        "mlp.w1": gate[routed],
        "mlp.w3": up[routed],
        "mlp.w2": down[:, routed],
        "mlp.shared_experts.gate_proj": gate[shared],
        "mlp.shared_experts.up_proj": up[shared],
        "mlp.shared_experts.down_proj": down[:, shared],
    }
