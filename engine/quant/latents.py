"""The latent cache in fp8: one token's c_kv and k_pe as e4m3 with a power of two for each. Knows no pages.

A row is C + P codes and two bytes, uint8 throughout: the exponent of c_kv's scale and that of k_pe's, as float32 has it
(2^(byte - 127)). The scale is the smallest power of two with which the part's largest value is at most 448, so that scaling
itself rounds nothing: a value errs by at most 2^-4 of its size, or by 2^-18 of the part's largest where that is more. Both
parts of a token have a scale of their own, since c_kv is normalised and k_pe is not, and neither is the same from layer to
layer. Byte 255 marks a part that is not finite; it is read as values that are not.
"""

from __future__ import annotations

import torch

from engine.quant import fp8

SCALE_BYTES = 2
_NOT_FINITE = 255
_BIAS = 127


def encode(c_kv: torch.Tensor, k_pe: torch.Tensor) -> torch.Tensor:
    """(T, C), (T, P) float -> (T, C + P + 2) uint8."""
    parts = [_encode(part.float()) for part in (c_kv, k_pe)]
    return torch.cat([codes for codes, _ in parts] + [exponent for _, exponent in parts], dim=1)


def _encode(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    largest = part.abs().amax(dim=1, keepdim=True)
    mantissa, exponent = torch.frexp(largest / fp8.E4M3_MAX)  # mantissa in [1/2, 1)
    exponent = torch.where(mantissa == 0.5, exponent - 1, exponent).clamp_(min=1 - _BIAS)
    finite = largest.isfinite()
    exponent = torch.where(finite, exponent, 0)
    codes = torch.ldexp(part, -exponent).to(fp8.DTYPE).view(torch.uint8)
    return codes, torch.where(finite, exponent + _BIAS, _NOT_FINITE).to(torch.uint8)


def decode(rows: torch.Tensor, rank: int) -> torch.Tensor:
    """(L, C + P + 2) uint8 with C = rank -> (L, C + P) float32."""
    width = rows.shape[1] - SCALE_BYTES
    scale = (
        rows[:, width:].to(torch.int32).bitwise_left_shift_(23).view(torch.float32)
    )  # (L, 2); 255 is infinity
    scale = scale * fp8.DECODED_UNIT
    out = torch.empty(len(rows), width, device=rows.device)
    fp8.decode_into(out, rows[:, :width])
    out[:, :rank].mul_(scale[:, :1])
    out[:, rank:].mul_(scale[:, 1:])
    return out
