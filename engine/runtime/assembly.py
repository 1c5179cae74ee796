"""A checkpoint under a profile, made to run: weights, cache, scheduler, thread. Knows no text and no request.

`design` decides everything and loads nothing; `assemble` loads. So a switch knows what it costs before it begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from engine.errors import EngineClosedError, PlacementError
from engine.events import LoadProgress, StepStats
from engine.hardware import available_memory, probe_cpu
from engine.kernels.cpu import cpu_kernels, cpu_packer
from engine.kernels.cuda import CudaKernels
from engine.kernels.protocol import Kernels
from engine.model.cache import LatentCache, cache_bytes
from engine.model.deepseek_v3 import DeepseekV3
from engine.profile import Profile
from engine.quant.matrix import Format
from engine.quant.packing import Packer
from engine.runtime import gpus, memory
from engine.runtime.heap import trim
from engine.runtime.loop import EngineLoop
from engine.runtime.runner import Runner
from engine.runtime.sampler import Sampler
from engine.scheduler.scheduler import Scheduler
from engine.weights.checkpoint import Checkpoint
from engine.weights.devices import attention_devices, places_of
from engine.weights.keeping import Part
from engine.weights.loader import LoadedWeights, load
from engine.weights.names import Kind
from engine.weights.placement import Placement, place, tier_of

PAGE_TOKENS = 16  # tokens per page of the latent cache: what prefix reuse is rounded down to

_DTYPE = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp8": torch.float8_e4m3fn,
}


_BITS = {
    Format.FP32: 32,
    Format.FP16: 16,
    Format.BF16: 16,
    Format.FP8: 8,
    Format.INT8: 8,
    Format.INT4: 4,
}


@dataclass(frozen=True, slots=True)
class Design:
    """What a profile makes of a checkpoint, nothing loaded yet."""

    profile: Profile
    placement: Placement
    num_blocks: int
    kv_dtype: torch.dtype
    attention_devices: tuple[str, ...]  # of each layer; its part of the cache is there
    cache_by_tier: Mapping[str, int]
    work_by_tier: Mapping[str, int]  # of GPUs
    threads: int
    packer: Packer | None  # what packs weights for the kernels; None: they read rows

    @property
    def weights_bytes(self) -> int:
        return sum(self.placement.bytes_by_tier.values())

    @property
    def cache_bytes(self) -> int:
        return sum(self.cache_by_tier.values())

    @property
    def need_by_tier(self) -> dict[str, int]:
        """Of a GPU with room to work, of RAM without: there it is a small part, and the rest of the program is not counted."""
        return memory.added(self.placement.bytes_by_tier, self.cache_by_tier, self.work_by_tier)

    @property
    def attention_bits(self) -> int:
        """A value of the coarsest attention matrix, scales not counted."""
        formats = {p.format for p in self.placement.tensors.values() if p.spec.kind is Kind.ATTENTION}
        return min(_BITS[form] for form in formats)

    def runs_as(self, other: Design) -> bool:
        """Whether weights, cache and scheduler of the other serve this one as they are."""
        mine, others = self.profile, other.profile
        return (
            (mine.compute, mine.max_batch_size, mine.chunk_size)
            == (others.compute, others.max_batch_size, others.chunk_size)
            and (self.num_blocks, self.kv_dtype, self.threads)
            == (other.num_blocks, other.kv_dtype, other.threads)
            and self.placement.tensors == other.placement.tensors
        )


class Running:
    """A model on its thread."""

    def __init__(
        self,
        designed: Design,
        weights: LoadedWeights,
        loop: EngineLoop,
        scheduler: Scheduler,
        kernel_note: str,
    ) -> None:
        self.design = designed
        self.loop = loop
        self.scheduler = scheduler
        self.kernel_note = kernel_note
        self._weights: LoadedWeights | None = weights

    @property
    def weights(self) -> LoadedWeights:
        """EngineClosedError once closed."""
        if self._weights is None:
            raise EngineClosedError("the engine is closed")
        return self._weights

    @property
    def context_tokens(self) -> int:
        return self.scheduler.max_context

    def under(self, designed: Design) -> Running:
        """The same thread, weights and cache; other answers."""
        return Running(designed, self.weights, self.loop, self.scheduler, self.kernel_note)

    def close(self, reason: str) -> None:
        """Fail what still runs, end the thread, forget weights and cache. Idempotent."""
        self.loop.close(reason)
        self._weights = None
        trim()


def design(checkpoint: Checkpoint, profile: Profile) -> Design:
    """Decide. Raises PlacementError for what this build, this model or the profile's rules cannot have, and for a GPU that
    is not there."""
    config = checkpoint.config
    placement = place(checkpoint, profile)
    _check_devices(profile, placement)
    num_blocks = math.ceil(profile.cache_lens / PAGE_TOKENS)
    kv_dtype = _DTYPE[profile.compute if profile.kv_precision == "auto" else profile.kv_precision]
    devices = attention_devices(placement, config)
    layer_bytes = cache_bytes(1, num_blocks * PAGE_TOKENS, config.latent_dim, kv_dtype)
    return Design(
        profile=profile,
        placement=placement,
        num_blocks=num_blocks,
        kv_dtype=kv_dtype,
        attention_devices=devices,
        cache_by_tier=memory.cache_by_tier(devices, layer_bytes),
        work_by_tier=memory.work_by_tier(placement, config, profile),
        threads=profile.threads if profile.threads is not None else _default_threads(),
        packer=cpu_packer() if "cpu" in placement.devices else None,
    )


def _check_devices(profile: Profile, placement: Placement) -> None:
    for device in sorted(placement.devices - {"cpu"}):
        missing = gpus.why_missing(device)
        if missing:
            size = placement.bytes_by_tier[tier_of(device)] / 2**30
            raise PlacementError(
                f"profile {profile.name} puts {size:.2f} GiB of weights on {device}, which is not there: {missing}; take a "
                "profile for this machine (dsv3chat profiles list), or change the device"
            )


def assemble(
    checkpoint: Checkpoint,
    designed: Design,
    max_token_ids: int,
    on_progress: Callable[[LoadProgress], None],
    cancelled: Callable[[], bool],
    kept: Mapping[str, Part] | None = None,
) -> Running:
    """Load and start. `kept` parts of loaded weights are used as they are; ids from `max_token_ids` on are never sampled.

    Raises CheckpointError, PlacementError, LoadCancelledError.
    """
    profile, config, num_blocks = designed.profile, checkpoint.config, designed.num_blocks
    kernels, kernel_note = _kernels(designed)
    with _one_torch_thread():
        weights = load(
            checkpoint,
            designed.placement,
            on_progress,
            cancelled,
            designed.packer,
            kept,
            gpus.memory_of,
            designed.threads,
        )
    on_progress(LoadProgress("preparing the cache"))
    cache = LatentCache(
        config.num_hidden_layers,
        num_blocks,
        PAGE_TOKENS,
        config.latent_dim,
        designed.kv_dtype,
        [gpus.memory_of(device) for device in designed.attention_devices],
    )
    network = DeepseekV3(config, weights.parameters, places_of(designed.placement, config, kernels))
    context = min(config.max_position_embeddings, num_blocks * PAGE_TOKENS)
    scheduler = Scheduler(num_blocks, PAGE_TOKENS, profile.max_batch_size, profile.chunk_size, context)
    loop = EngineLoop(
        scheduler,
        Runner(network, cache, Sampler(max_token_ids), PAGE_TOKENS, designed.threads),
        _base_stats(num_blocks, weights.bytes_by_tier, cache.nbytes),
    )
    loop.start()
    return Running(designed, weights, loop, scheduler, kernel_note)


def _kernels(designed: Design) -> tuple[dict[str, Kernels], str]:
    """The kernels of every device, and a sentence for the person where the CPU's are the slow ones."""
    compute, devices = _DTYPE[designed.profile.compute], designed.placement.devices
    found: dict[str, Kernels] = {
        device: CudaKernels(compute, gpus.memory_of(device)) for device in devices - {"cpu"}
    }
    if "cpu" not in devices:
        return found, ""
    found["cpu"], _, note = cpu_kernels(compute, designed.threads)
    return found, note


def check_memory(designed: Design) -> None:
    """PlacementError when weights and cache, and on a GPU room to work, need more than is free now on a tier."""
    found = available_memory()
    need = designed.need_by_tier
    for tier, free in memory.free_by_tier(sorted(need), found).items():
        if need[tier] > free:
            parts = [
                f"weights {designed.placement.bytes_by_tier.get(tier, 0) / 2**30:.1f}",
                f"cache {designed.cache_by_tier.get(tier, 0) / 2**30:.1f}",
            ]
            if tier in designed.work_by_tier:
                parts.append(f"work {designed.work_by_tier[tier] / 2**30:.1f}")
            where, limit = ("RAM", f" (limit: {found.limit_source})") if tier == memory.RAM else (tier, "")
            raise PlacementError(
                f"profile {designed.profile.name} needs {need[tier] / 2**30:.1f} GiB of {where} ({', '.join(parts)}), "
                f"{free / 2**30:.1f} GiB are free{limit}; close other programs, lower cache_lens, or take a profile with "
                "a smaller precision"
            )


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """For many small conversions: two threads wait for each other after each, minutes in all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _default_threads() -> int:
    """All cores; above two, one is left to the interface."""
    cores = probe_cpu().usable_cores
    return cores if cores <= 2 else cores - 1


def _base_stats(num_blocks: int, weights_bytes: dict[str, int], kv_bytes: int) -> StepStats:
    return StepStats(
        num_steps=0,
        num_running=0,
        num_waiting=0,
        kv_pages_used=0,
        kv_pages_total=num_blocks,
        kv_page_tokens=PAGE_TOKENS,
        kv_pages_reusable=0,
        prefix_hit_tokens=0,
        prefix_query_tokens=0,
        num_preemptions=0,
        decode_tokens_per_s=None,
        prefill_tokens_per_s=None,
        weights_bytes=weights_bytes,
        kv_bytes=kv_bytes,
    )
