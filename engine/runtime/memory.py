"""What a design needs of each tier of memory, against what is free there. Loads nothing.

A tier is "ram" or a GPU by its device's name. Of RAM a design needs weights and cache, of a GPU also room to work.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from engine.hardware import MemoryInfo
from engine.kernels.work import WORK_BYTES
from engine.model.config import ModelConfig
from engine.profile import Profile
from engine.runtime import gpus
from engine.weights.activations import activation_bytes
from engine.weights.placement import Placement, tier_of

RAM = "ram"


def cache_by_tier(devices: Sequence[str], layer_bytes: int) -> dict[str, int]:
    """`devices`: of each layer's attention."""
    return {tier_of(device): count * layer_bytes for device, count in Counter(devices).items()}


def work_by_tier(placement: Placement, config: ModelConfig, profile: Profile) -> dict[str, int]:
    """Of each GPU: a step's activations, and what its kernels unpack into."""
    work = WORK_BYTES + activation_bytes(config, profile)
    return {tier_of(device): work for device in placement.devices if device != "cpu"}


def free_by_tier(tiers: Sequence[str], memory: MemoryInfo) -> dict[str, int]:
    """Bytes of each tier that are free now; `memory` is RAM's."""
    return {tier: memory.available_bytes if tier == RAM else gpus.free_bytes(tier) for tier in tiers}


def added(*parts: Mapping[str, int]) -> dict[str, int]:
    """Bytes per tier, summed."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)
