"""A profile as frozen values. Knows no YAML and no tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from engine.sampling import SamplingParams

Precision: TypeAlias = Literal["native", "fp32", "bf16", "fp8", "int8", "int4", "int3", "int2"]
Compute: TypeAlias = Literal["float32", "bfloat16"]
Fit: TypeAlias = Literal["hqq", "rtn"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of optimization_rules. `line` is its line in the file, for messages."""

    match: str
    device: str | None = None  # "cpu", "cuda:N", "disk"; None: not decided by this rule
    precision: Precision | None = None
    group_size: int | None = None
    gpu_resident: int | Literal["auto"] | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Profile:
    """What a person decides about a model on a machine. Sizes are in tokens.

    `cache_lens` is the KV pool for all requests together; it must be at least max_batch_size * max_new_tokens.
    """

    name: str = "native"
    description: str = ""
    model: str | None = None
    device: str = "cpu"
    precision: Precision = "native"
    group_size: int | None = None
    fit: Fit = (
        "hqq"  # how int4 scales are found at load: half-quadratic, or from the range (round to nearest)
    )
    rules: tuple[Rule, ...] = ()
    compute: Compute = "float32"
    cache_lens: int = 8192
    max_batch_size: int = 4
    chunk_size: int = 256
    max_new_tokens: int = 1024
    kv_precision: Literal["auto", "fp32", "bf16", "fp8"] = "auto"  # auto: as compute
    sampling: SamplingParams = field(default_factory=SamplingParams)
    loop_guard: bool = True  # an answer that goes round in circles is stopped, with the reason "looping"
    threads: int | None = None  # CPU threads of the engine; None: cores, less one for the interface above two
    source: Path | None = None  # the file it was read from
