"""Expected decode and prefill as a range, from bytes and bandwidths. Knows no files and loads nothing.

A decode step reads, for each token, every matrix but the routed experts, and of those the share k / E:

    t = resident_ram / ram + resident_gpu / gpu + routed                         one device after the other
    routed = R_gpu / gpu + R_ram / ram + max(hit R_disk / ram, (1 - hit) R_disk / disk)   disk and RAM at a time

A prefill chunk of n tokens reads the share 1 - (1 - k / E)^n of each layer's experts (uniform routing) and does two
operations a weight and token; what takes longer counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.model.config import ModelConfig
from engine.planner.machine import Machine
from engine.planner.need import EXPERTS, Need, Tensor
from engine.profile.values import Profile
from engine.weights.names import Kind

LOW_EFFICIENCY = 0.5  # of the bandwidth and of the arithmetic, for the lower end
HIGH_ARITHMETIC = 2.0  # of numpy's float32 product: what kernels made for the processor reach (Zen 3: 190 against 86 GFLOP/s)


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of one request at a short context: (low, high). `hit` is the range of the expert cache, None
    where no experts are on the disk. `assumptions` say in words what stands behind the numbers."""

    decode: tuple[float, float]
    prefill: tuple[float, float]
    hit: tuple[float, float] | None
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reads:
    """Bytes of one step by where they come from; `disk` is of experts that RAM may hold."""

    ram: float = 0.0
    gpu: float = 0.0
    disk: float = 0.0


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes per second; what a plan does not read may be 0."""

    ram: float
    gpu: float
    disk: float

    def seconds(self, reads: Reads, routed: Reads, hit: float, efficiency: float) -> float:
        """Of one step; `reads` are the resident matrices, `routed` the experts, `hit` the share of disk experts in RAM."""
        ram, gpu = self.ram * efficiency, self.gpu * efficiency
        waiting = max(_over(hit * routed.disk, ram), _over((1 - hit) * routed.disk, self.disk))
        return _over(reads.ram + routed.ram, ram) + _over(reads.gpu + routed.gpu, gpu) + waiting


def expected_speed(
    config: ModelConfig, profile: Profile, need: Need, machine: Machine, spare_ram: float, spare_vram: float
) -> Speed | str:
    """The range, or in words which figure of the machine is missing. `spare_*`: bytes left for experts."""
    token, routed_share = _reads(config, need, spare_vram)
    pool = sum(t.nbytes for t in need.tensors if t.category == EXPERTS and t.assignment.device == "disk")
    rates = _rates(machine, token, routed_share)
    if isinstance(rates, str):
        return rates
    active = config.num_experts_per_tok / max(config.n_routed_experts, 1)
    touched = 1 - (1 - active) ** profile.chunk_size
    hit = None
    if pool:
        low_hit = min(1.0, max(0.0, spare_ram) / pool)
        hit = (low_hit, min(1.0, 2 * low_hit))
    low, high = hit or (0.0, 0.0)
    decode, chunk = _scaled(routed_share, active), _scaled(routed_share, touched)
    flops = machine.flops.value
    arithmetic = 2 * profile.chunk_size * _cpu_values(config, need) / flops if flops else 0.0
    return Speed(
        decode=(
            1 / rates.seconds(token, decode, low, LOW_EFFICIENCY),
            1 / rates.seconds(token, decode, high, 1.0),
        ),
        prefill=(
            profile.chunk_size
            / max(rates.seconds(token, chunk, low, LOW_EFFICIENCY), arithmetic / LOW_EFFICIENCY),
            profile.chunk_size / max(rates.seconds(token, chunk, low, 1.0), arithmetic / HIGH_ARITHMETIC),
        ),
        hit=hit,
        assumptions=tuple(
            _assumptions(machine, hit, bool(flops), _cpu_values(config, need) > 0, token.gpu > 0)
        ),
    )


def _reads(config: ModelConfig, need: Need, spare_vram: float) -> tuple[Reads, Reads]:
    """(resident matrices of a step, all routed experts) by where they lie; the embedding is looked up, not read."""
    resident = {"ram": 0.0, "gpu": 0.0, "disk": 0.0}
    routed = dict(resident)
    tied = config.tie_word_embeddings
    automatic = 0.0
    for tensor in need.tensors:
        if tensor.assignment.spec.kind is Kind.EMBEDDING and not tied:
            continue
        source = _source(tensor.assignment.device)
        if tensor.category != EXPERTS:
            resident[source] += tensor.nbytes
            continue
        moved = _moved(tensor, config)
        routed[source] += tensor.nbytes - moved
        routed["gpu"] += moved
        if tensor.assignment.gpu_resident == "auto" and source != "gpu":
            automatic += tensor.nbytes
    if automatic:
        share = min(1.0, max(0.0, spare_vram) / automatic)
        for source in ("ram", "disk"):
            taken = share * sum(
                t.nbytes
                for t in need.tensors
                if t.assignment.gpu_resident == "auto" and _source(t.assignment.device) == source
            )
            routed[source] -= taken
            routed["gpu"] += taken
    return Reads(**resident), Reads(**routed)


def _moved(tensor: Tensor, config: ModelConfig) -> float:
    resident = tensor.assignment.gpu_resident
    if not isinstance(resident, int) or _source(tensor.assignment.device) == "gpu":
        return 0.0
    return tensor.nbytes * min(1.0, resident / config.n_routed_experts)


def _source(device: str) -> str:
    return {"cpu": "ram", "disk": "disk"}.get(device, "gpu")


def _scaled(reads: Reads, share: float) -> Reads:
    return Reads(reads.ram * share, reads.gpu * share, reads.disk * share)


def _over(nbytes: float, rate: float) -> float:
    return nbytes / rate if nbytes else 0.0


def _rates(machine: Machine, resident: Reads, routed: Reads) -> Rate | str:
    """The bandwidths, or which one is missing though bytes are read by it."""
    found = {}
    for name, nbytes, figure in (
        ("ram", resident.ram + routed.ram + routed.disk, machine.ram_bandwidth),
        ("gpu", resident.gpu + routed.gpu, machine.gpu_bandwidth),
        ("disk", routed.disk, machine.disk_bandwidth),
    ):
        if nbytes and not figure.value:
            return f"the {name} bandwidth is unknown ({figure.origin}); give it with --{name}-bandwidth"
        found[name] = figure.value or 0.0
    return Rate(**found)


def _cpu_values(config: ModelConfig, need: Need) -> float:
    """Weights that a token meets on the CPU."""
    active = config.num_experts_per_tok / max(config.n_routed_experts, 1)
    return sum(
        tensor.values * (active if tensor.category == EXPERTS else 1.0)
        for tensor in need.tensors
        if _source(tensor.assignment.device) != "gpu" and tensor.assignment.spec.kind is not Kind.EMBEDDING
    )


def _assumptions(
    machine: Machine, hit: tuple[float, float] | None, has_flops: bool, on_cpu: bool, on_gpu: bool
) -> Iterator[str]:
    yield (
        f"one request, short context; low: kernels reach {LOW_EFFICIENCY:.0%} of each bandwidth, high: all of it, "
        "which no program does"
    )
    if on_gpu:
        yield (
            "on a GPU the range is what its memory allows; this version computes there with torch's operators, which reach a "
            "few per cent of it in bf16 and one in fp8, int8 and int4"
        )
    if hit is not None:
        yield (
            f"of the routed bytes RAM holds {hit[0]:.0%} (what fits, uniform routing) to {hit[1]:.0%} (about twice, as "
            "real routing repeats itself); disk and RAM are read at the same time"
        )
    if on_cpu and has_flops:
        yield "prefill does two operations a weight and token, at half to twice the rate of numpy's float32 product here"
    elif on_cpu:
        yield f"prefill counts bytes only, since the CPU's arithmetic is unknown ({machine.flops.origin}): at most this"
