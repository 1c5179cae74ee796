"""Bytes of a model under a profile, per device and kind, before a weight is read. Knows no machine.

Weights: engine.planner.sizes over what engine.weights.assignment decides. Cache: latent_dim values a token and layer, in
pages of 16 tokens. Activations: an estimate of a step's largest temporaries (engine.weights.activations), and on a GPU what its kernels work in.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.kernels.work import WORK_BYTES
from engine.model.config import ModelConfig
from engine.planner.checks import check_formats
from engine.planner.shape import ModelShape
from engine.planner.sizes import WIDE_BYTES, matrix_bytes
from engine.profile.values import Profile, Rule
from engine.weights.activations import activation_bytes
from engine.weights.assignment import Assignment, assign, check_rules
from engine.weights.names import Kind, TensorSpec, expected_tensors, layer_of

PAGE_TOKENS = 16  # of the latent cache; the engine's own
PROGRAM_BYTES = {
    "cpu": 310_000_000,
    "cuda": 650_000_000,
}  # interpreter, torch and its libraries, as tests/bench/memory_estimate.py measures them; a CUDA context, 648 MB on an H100
_CATEGORY = {Kind.ROUTER: "router and norms", Kind.NORM: "router and norms"}
CACHE, ACTIVATIONS, PROGRAM, EXPERTS = "KV cache", "activations", "program", Kind.EXPERTS.value
KIND_ORDER = (
    Kind.EMBEDDING.value, Kind.ATTENTION.value, Kind.DENSE.value, Kind.SHARED.value, EXPERTS, "router and norms",
    Kind.HEAD.value, CACHE, ACTIVATIONS, PROGRAM,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor, or the same projection of `count` routed experts that rules treat alike. `nbytes` is of all."""

    assignment: Assignment
    precision: str
    count: int
    nbytes: int

    @property
    def values(self) -> int:
        return self.count * math.prod(self.assignment.spec.shape)

    @property
    def category(self) -> str:
        """How a person is told what it is."""
        kind = self.assignment.spec.kind
        return _CATEGORY.get(kind, kind.value)


@dataclass(frozen=True, slots=True)
class RuleNeed:
    """What one rule decides: the tensors of which it is the first rule. `rule` None: what the defaults decide alone.

    `num_covered` counts what it covers, also behind earlier rules.
    """

    rule: Rule | None
    modules: str
    num_tensors: int
    num_covered: int
    bytes_by_device: Mapping[str, int]
    precisions: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        return sum(self.bytes_by_device.values())


@dataclass(frozen=True, slots=True)
class Need:
    """`devices`: device -> kind -> bytes. What lies on "disk" takes no memory; what of it RAM keeps is the machine's matter."""

    tensors: tuple[Tensor, ...]
    devices: Mapping[str, Mapping[str, int]]
    rules: tuple[RuleNeed, ...]
    cache_bytes_per_token: int

    def bytes_on(self, device: str) -> int:
        return sum(self.devices.get(device, {}).values())

    @property
    def weights_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


def compute_need(shape: ModelShape, profile: Profile) -> Need:
    """Raises PlacementError for a rule that covers nothing or cannot have its way, with its line."""
    specs = list(expected_tensors(shape.config).values())
    counted = _counted(specs, shape, profile)
    assigned = assign((spec for spec, _ in counted), profile)
    check_rules(profile, assigned, shape.config.tie_word_embeddings)
    tensors = tuple(
        _tensor(shape, assignment, count) for assignment, (_, count) in zip(assigned, counted, strict=True)
    )
    check_formats(profile, [(tensor.assignment, tensor.precision) for tensor in tensors])
    devices: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for tensor in tensors:
        for device, nbytes in _resident_parts(shape.config, tensor, tensors):
            devices[device][tensor.category] += nbytes
    per_layer = cache_row_bytes(shape.config, profile)
    pages = math.ceil(profile.cache_lens / PAGE_TOKENS) * PAGE_TOKENS
    for tensor in tensors:
        spec = tensor.assignment.spec
        if spec.kind is Kind.ATTENTION and spec.name.endswith(".o_proj.weight"):
            devices[tensor.assignment.device][CACHE] += pages * per_layer
    for device in {*devices, "cpu"} - {"disk"}:
        if device in devices:
            work = 0 if device == "cpu" else WORK_BYTES
            devices[device][ACTIVATIONS] += activation_bytes(shape.config, profile) + work
        devices[device][PROGRAM] += PROGRAM_BYTES["cpu" if device == "cpu" else "cuda"]
    return Need(
        tensors,
        {device: dict(devices[device]) for device in sorted(devices)},
        _rule_needs(profile, tensors),
        per_layer * shape.config.num_hidden_layers,
    )


def cache_row_bytes(config: ModelConfig, profile: Profile) -> int:
    """Bytes of the latent cache for a token and layer; in fp8 with a scale of 16 bit a row."""
    precision = {"float32": "fp32", "bfloat16": "bf16"}[profile.compute]
    if profile.kv_precision != "auto":
        precision = profile.kv_precision
    return config.latent_dim + 2 if precision == "fp8" else config.latent_dim * WIDE_BYTES[precision]


def _counted(
    specs: Sequence[TensorSpec], shape: ModelShape, profile: Profile
) -> list[tuple[TensorSpec, int]]:
    """Routed experts that rules and files cannot tell apart as one entry for all: 1,000 instead of 45,000 tensors."""
    experts = shape.config.n_routed_experts
    if any(_may_tell_experts_apart(rule.match) for rule in profile.rules):
        return [(spec, 1) for spec in specs]
    return [
        (spec, experts if spec.kind is Kind.EXPERTS else 1)
        for spec in specs
        if spec.kind is not Kind.EXPERTS or ".experts.0." in spec.name
    ]


def _may_tell_experts_apart(match: str) -> bool:
    """model.layers.3.mlp.experts.7 does, and an expression may; what stops at `experts` cannot."""
    return match.startswith("re:") or match.count(".") > 4 or "experts." in match


def _tensor(shape: ModelShape, assignment: Assignment, count: int) -> Tensor:
    spec, config = assignment.spec, shape.config
    if not spec.kind.is_matrix:
        return Tensor(assignment, "fp32", count, 4 * math.prod(spec.shape) * count)
    stored = shape.stored_precision(spec)
    precision = assignment.precision if assignment.precision != "native" else stored
    group = assignment.group_size
    if precision == stored and (group is None or assignment.precision == "native"):
        group = shape.groups.get(spec.name, group)
    rows, columns = spec.shape
    block = config.weight_block_size if assignment.precision == "native" else None
    nbytes = matrix_bytes(precision, rows, columns, group, block)
    return Tensor(assignment, precision, count, nbytes * count)


def _resident_parts(
    config: ModelConfig, tensor: Tensor, tensors: Sequence[Tensor]
) -> Iterable[tuple[str, int]]:
    """Where the bytes lie: an expert stack with `gpu_resident: N` has N of its experts on the GPU.

    `auto` takes what VRAM is left, which only a machine can say: engine.planner.speed counts it.
    """
    assignment = tensor.assignment
    resident = assignment.gpu_resident
    if tensor.category != EXPERTS or not isinstance(resident, int) or assignment.device.startswith("cuda"):
        return [(assignment.device, tensor.nbytes)]
    moved = tensor.nbytes * min(resident, config.n_routed_experts) // config.n_routed_experts
    return [(assignment.device, tensor.nbytes - moved), (gpu_of(tensors), moved)]


def gpu_of(tensors: Sequence[Tensor]) -> str:
    """The GPU that takes resident experts: the first that the profile names, else cuda:0."""
    named = {t.assignment.device for t in tensors if t.assignment.device.startswith("cuda")}
    return min(named, key=lambda device: int(device.partition(":")[2]), default="cuda:0")


def _rule_needs(profile: Profile, tensors: Sequence[Tensor]) -> tuple[RuleNeed, ...]:
    first: defaultdict[int | None, list[Tensor]] = defaultdict(list)
    covered: Counter[int] = Counter()
    for tensor in tensors:
        covering = tensor.assignment.covering
        first[covering[0] if covering else None].append(tensor)
        for index in covering:
            covered[index] += tensor.count
    needs = [_rule_need(rule, first[index], covered[index]) for index, rule in enumerate(profile.rules)]
    rest = first[None]
    return (*needs, _rule_need(None, rest, sum(t.count for t in rest))) if rest else tuple(needs)


def _rule_need(rule: Rule | None, tensors: Sequence[Tensor], num_covered: int) -> RuleNeed:
    by_device: Counter[str] = Counter()
    for tensor in tensors:
        by_device[tensor.assignment.device] += tensor.nbytes
    matrices = [tensor for tensor in tensors if tensor.assignment.spec.kind.is_matrix] or tensors
    return RuleNeed(
        rule,
        _modules(tensors),
        sum(tensor.count for tensor in tensors),
        num_covered,
        dict(by_device),
        tuple(dict.fromkeys(tensor.precision for tensor in matrices)),
    )


def _modules(tensors: Sequence[Tensor]) -> str:
    """`layers 0-15: attention, dense MLP`: which layers, and what of them."""
    layers = sorted({n for t in tensors if (n := layer_of(t.assignment.spec.name)) is not None})
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    present = {t.category for t in tensors if t.assignment.spec.layer is not None}
    inside = [kind for kind in KIND_ORDER if kind in present]
    outside = dict.fromkeys(
        "last norm" if t.assignment.spec.kind is Kind.NORM else t.category
        for t in tensors
        if t.assignment.spec.layer is None
    )
    names = [f"{low}" if low == high else f"{low}-{high}" for low, high in runs]
    parts = [f"layers {','.join(names)}: {', '.join(inside)}"] if layers else []
    return "; ".join([*parts, *outside]) or "nothing that an earlier rule has not decided"
