"""The closed form against plain grouped-query attention and a plain MLP, in float64 on random small shapes."""

import json

import pytest
import torch

from dsv3chat.nano import DATA_DIR
from dsv3chat.nano.closed_form import (
    AttentionShape,
    BaseAttention,
    attention_as_mla,
    halves_from_neighbours,
    mlp_as_experts,
)
from dsv3chat.nano.recipe import SHAPE

SHAPES = [
    AttentionShape(hidden=40, heads=3, groups=3, head_dim=8, fast_pairs=2),
    AttentionShape(hidden=48, heads=6, groups=2, head_dim=8, fast_pairs=1),
    AttentionShape(hidden=64, heads=4, groups=1, head_dim=12, fast_pairs=3),
    AttentionShape(hidden=72, heads=9, groups=3, head_dim=8, fast_pairs=3),
]


def random_base(shape, generator):
    def matrix(rows, columns):
        return torch.randn(rows, columns, dtype=torch.float64, generator=generator) / columns**0.5

    kv, qo = shape.groups * shape.head_dim, shape.heads * shape.head_dim
    norm = 0.5 + torch.rand(shape.hidden, dtype=torch.float64, generator=generator)
    return BaseAttention(
        norm,
        matrix(qo, shape.hidden),
        matrix(kv, shape.hidden),
        matrix(kv, shape.hidden),
        matrix(shape.hidden, qo),
    )


def spare_rows(base, shape, count):
    """Orthonormal rows orthogonal to those of the slow keys and the values."""
    half, fast = shape.head_dim // 2, shape.fast_pairs
    slow = [r for r in range(shape.head_dim) if r % half >= fast]
    k = base.k.view(shape.groups, shape.head_dim, -1)[:, slow].flatten(0, 1)
    rows = torch.cat((k, base.v)) * base.norm
    full = torch.linalg.qr(rows.T, mode="complete").Q.T
    return full[len(rows) : len(rows) + count], rows


def turned(pair, angle):
    a, b = pair[..., 0], pair[..., 1]
    return torch.stack((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)


def attend(q, k, v, scale):
    """q, k: (heads, tokens, dim), v: (heads, tokens, v_dim); causal."""
    scores = q @ k.transpose(1, 2) * scale
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return scores.masked_fill(~mask, float("-inf")).softmax(-1) @ v


def grouped_query_attention(x, base, shape, frequencies):
    """Rotary pairs half and half; frequencies: (head_dim / 2,)."""
    tokens, half = len(x), shape.head_dim // 2
    angle = torch.arange(tokens, dtype=torch.float64).unsqueeze(1) * frequencies  # (tokens, half)
    heads = []
    for weight, count in ((base.q, shape.heads), (base.k, shape.groups), (base.v, shape.groups)):
        heads.append(
            (x @ weight.T).view(tokens, count, 2, half).permute(1, 0, 3, 2)
        )  # (count, tokens, half, 2)
    q, k = (turned(m, angle).transpose(2, 3).flatten(2) for m in heads[:2])
    v = heads[2].transpose(2, 3).flatten(2)
    of_head = [shape.group(h) for h in range(shape.heads)]
    out = attend(q, k[of_head], v[of_head], shape.head_dim**-0.5)
    return out.transpose(0, 1).flatten(1) @ base.o.T


def latent_attention(x, mla, shape, frequencies, rms):
    """MLA as the paper writes it, with the latent divided by the constant `rms`; frequencies: one a rotary slot."""
    tokens = len(x)
    angle = torch.arange(tokens, dtype=torch.float64).unsqueeze(1) * frequencies  # (tokens, rope / 2)
    q = (x @ mla["self_attn.q_proj"].T).view(tokens, shape.heads, -1).transpose(0, 1)
    q_nope, q_pe = q.split((shape.nope, shape.rope), -1)
    compressed = x @ mla["self_attn.kv_a_proj_with_mqa"].T
    latent, k_pe = compressed[:, : -shape.rope] / rms, compressed[:, -shape.rope :]
    kv = (latent @ mla["self_attn.kv_b_proj"].T).view(tokens, shape.heads, -1).transpose(0, 1)
    k_nope, v = kv.split((shape.nope, shape.head_dim), -1)
    q_pe, k_pe = (turned(m.unflatten(-1, (-1, 2)), angle).flatten(-2) for m in (q_pe, k_pe))
    k = torch.cat((k_nope, k_pe.expand(shape.heads, -1, -1)), -1)
    out = attend(torch.cat((q_nope, q_pe), -1), k, v, (shape.nope + shape.rope) ** -0.5)
    return out.transpose(0, 1).flatten(1) @ mla["self_attn.o_proj"].T


@pytest.mark.parametrize("shape", SHAPES)
def test_mla_equals_grouped_query_attention_when_slow_pairs_stand_still(shape):
    generator = torch.Generator().manual_seed(shape.hidden)
    base = random_base(shape, generator)
    spare, _ = spare_rows(base, shape, 4)
    rms = torch.tensor(1.3)
    mla = attention_as_mla(base, shape, spare, rms)
    x = torch.randn(13, shape.hidden, dtype=torch.float64, generator=generator) * base.norm
    fast = torch.tensor([0.9**j for j in range(shape.fast_pairs)], dtype=torch.float64)
    slow = torch.zeros(shape.head_dim // 2 - shape.fast_pairs, dtype=torch.float64)

    expected = grouped_query_attention(x, base, shape, torch.cat((fast, slow)))
    found = latent_attention(x, mla, shape, fast.repeat_interleave(shape.groups), rms.double())

    assert expected.abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_latent_is_orthonormal_and_holds_slow_keys_and_values_exactly(shape):
    base = random_base(shape, torch.Generator().manual_seed(7))
    spare, rows = spare_rows(base, shape, 3)
    mla = attention_as_mla(base, shape, spare, torch.tensor(1.0))
    latent = mla["self_attn.kv_a_proj_with_mqa"][: -shape.rope] * base.norm
    torch.testing.assert_close(
        latent @ latent.T, torch.eye(len(latent), dtype=torch.float64), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(rows @ latent.T @ latent, rows, rtol=0, atol=1e-12)


def test_rotary_slots_of_nano_turn_within_21_percent_of_the_bases_pairs():
    config = json.loads((DATA_DIR / "config.json").read_text("utf-8"))
    assert (config["qk_rope_head_dim"], config["qk_nope_head_dim"]) == (SHAPE.rope, SHAPE.nope)
    for pair in range(SHAPE.fast_pairs):
        base_frequency = 100_000.0 ** (-2 * pair / SHAPE.head_dim)
        for group in range(SHAPE.groups):
            slot = SHAPE.groups * pair + group
            frequency = config["rope_theta"] ** (-2 * slot / SHAPE.rope)
            assert 0.785 < frequency / base_frequency < 1.001


def test_neighbouring_rows_come_apart_into_halves():
    heads, half = 2, 3
    rows = torch.arange(heads * 2 * half, dtype=torch.float64).unsqueeze(1)
    assert halves_from_neighbours(rows, heads).flatten().tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


def test_shared_and_routed_experts_together_are_the_mlp():
    generator = torch.Generator().manual_seed(3)
    gate, up, down_t = torch.randn(3, 24, 10, dtype=torch.float64, generator=generator)
    x = torch.randn(5, 10, dtype=torch.float64, generator=generator)
    order = torch.randperm(24, generator=generator)
    parts = mlp_as_experts(gate, up, down_t.T, routed=order[:16], shared=order[16:])

    def mlp(g, u, d):
        return (torch.nn.functional.silu(x @ g.T) * (x @ u.T)) @ d.T

    shared = mlp(*(parts[f"mlp.shared_experts.{n}_proj"] for n in ("gate", "up", "down")))
    experts = [
        mlp(parts["mlp.w1"][e : e + 4], parts["mlp.w3"][e : e + 4], parts["mlp.w2"][:, e : e + 4])
        for e in range(0, 16, 4)
    ]
    torch.testing.assert_close(shared + sum(experts), mlp(gate, up, down_t.T), rtol=0, atol=1e-12)
