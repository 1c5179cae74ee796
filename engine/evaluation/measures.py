"""Two models' logits at the same positions, compared in float64 over the whole vocabulary. Knows no engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

_TILE_ROWS = 8  # of 49152 logits: a few float64 arrays of 3 MB, which stay in a core's cache


@dataclass(slots=True)
class TokenMeasures:
    """One value for each counted token: -log q(token), KL(reference || q), whether both have the same likeliest token."""

    nll: NDArray[np.float64]
    kl: NDArray[np.float64]
    agrees: NDArray[np.float64]
    taken: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.taken = np.zeros(len(self.nll), dtype=np.bool_)

    @classmethod
    def empty(cls, num_tokens: int) -> TokenMeasures:
        """To be filled by `take`."""
        return cls(np.zeros(num_tokens), np.zeros(num_tokens), np.zeros(num_tokens))

    def take(self, first: int, logits: torch.Tensor, reference: torch.Tensor, targets: torch.Tensor) -> None:
        """Fill places `first` on: logits (n, vocab) of both, targets (n) the tokens that came."""
        for low in range(0, len(logits), _TILE_ROWS):
            part = slice(low, low + _TILE_ROWS)
            place = slice(first + low, first + low + len(targets[part]))
            nll, kl, agrees = compare_rows(logits[part], reference[part], targets[part])
            self.nll[place], self.kl[place], self.agrees[place] = nll.numpy(), kl.numpy(), agrees.numpy()
            self.taken[place] = True


def compare_rows(
    logits: torch.Tensor, reference: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(-log q(target), sum_v p(v) (log p(v) - log q(v)), argmax q = argmax p as 0 or 1) of each row, float64.

    q is the softmax of `logits`, p of `reference`. A v with p(v) = 0 adds nothing, whatever q(v) is.
    """
    log_q = torch.log_softmax(logits.double(), dim=1)
    log_p = torch.log_softmax(reference.double(), dim=1)
    p = log_p.exp()
    terms = torch.where(p > 0, p * (log_p - log_q), 0.0)
    agrees = (logits.argmax(dim=1) == reference.argmax(dim=1)).double()
    return -log_q.gather(1, targets[:, None])[:, 0], terms.sum(dim=1), agrees
