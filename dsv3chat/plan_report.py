"""A plan as lines for a person and as JSON values. Knows no command line and computes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dsv3chat.plan_sizes import gigabytes, span
from dsv3chat.sanitize import clean_line
from engine import KIND_ORDER, Figure, Machine, Plan, Remedies, RuleNeed


def plan_lines(plan: Plan, remedies: Remedies | None, rules: bool, missing: tuple[str, ...]) -> Iterator[str]:
    """`remedies` of a plan that does not fit; `missing`: what the profile asks for and this version lacks."""
    shape, profile, need = plan.shape, plan.profile, plan.need
    yield f"model    {shape.name}: {_count(shape.num_parameters)} parameters ({shape.source})"
    yield f"profile  {profile.name}: {profile.description}"
    yield (
        f"cache    {profile.cache_lens:,} tokens of {need.cache_bytes_per_token / 1e3:.1f} kB "
        f"({profile.max_batch_size} requests of up to {profile.max_new_tokens:,} new tokens)"
    )
    yield ""
    yield from _table(plan)
    yield ""
    if rules:
        yield from _rules(plan)
        yield ""
    yield from _verdict(plan, remedies)
    yield from _speed(plan)
    yield ""
    yield from _machine(plan.machine)
    if missing:
        yield f"this version cannot run it yet: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not built"


def _count(number: int) -> str:
    """671.0e9, 156.3e6."""
    return f"{number / 1e9:.1f}e9" if number >= 1e9 else f"{number / 1e6:.1f}e6"


def _table(plan: Plan) -> Iterator[str]:
    devices = list(plan.need.devices)
    kinds = [kind for kind in KIND_ORDER if any(kind in plan.need.devices[device] for device in devices)]
    rows = [["", *(_device(device) for device in devices)]]
    rows += [
        [
            kind,
            *(gigabytes(plan.need.devices[d][kind]) if kind in plan.need.devices[d] else "" for d in devices),
        ]
        for kind in kinds
    ]
    rows.append(["sum", *(gigabytes(plan.need.bytes_on(device)) for device in devices)])
    rows.append(["there is", *(_capacity(plan, device) for device in devices)])
    yield from _columns(rows)


def _capacity(plan: Plan, device: str) -> str:
    if device == "disk":
        return ""
    figure = plan.machine.capacity(device)
    return "none" if figure is None else "unknown" if figure.value is None else gigabytes(figure.value)


def _device(device: str) -> str:
    return "RAM" if device == "cpu" else device


def _rules(plan: Plan) -> Iterator[str]:
    rows = [["rule", "decides", "tensors", "bytes", "device", "precision"]]
    for need in plan.need.rules:
        rule, devices = need.rule, " ".join(_device(d) for d in need.bytes_by_device)
        line = f" (line {rule.line})" if rule is not None and rule.line else ""
        rows.append(
            [
                "defaults" if rule is None else f"{rule.match}{line}",
                need.modules,
                f"{need.num_tensors:,}" + _hidden(need),
                gigabytes(need.nbytes),
                devices,
                " ".join(need.precisions),
            ]
        )
    yield from _columns(rows, left=(1, 4, 5))


def _hidden(need: RuleNeed) -> str:
    return f" of {need.num_covered:,}" if need.num_covered != need.num_tensors else ""


def _verdict(plan: Plan, remedies: Remedies | None) -> Iterator[str]:
    if plan.fits:
        yield "It fits."
    else:
        yield "It does not fit:"
    for short in plan.shortfalls:
        name = _device(short.device)
        if short.have is None:
            yield f"  {name} is not there ({short.reason}); the profile puts {gigabytes(short.need)} on it"
        else:
            over = gigabytes(short.need - short.have)
            yield f"  {name} needs {gigabytes(short.need)}, there are {gigabytes(short.have)} ({short.reason}): {over} too much"
    if plan.expert_cache_bytes:
        yield f"  RAM keeps {gigabytes(plan.expert_cache_bytes)} of the routed experts that are on the disk"
    if plan.resident_expert_bytes:
        yield f"  the GPU keeps {gigabytes(plan.resident_expert_bytes)} of the routed experts (gpu_resident: auto)"
    if remedies is None:
        return
    if remedies.costliest is not None:
        yield f"  most of it: {_rule_words(remedies.costliest)}"
    if remedies.cache_lens is not None:
        yield f"  it would fit with a smaller cache: --set cache_lens={remedies.cache_lens}"
    if remedies.nearest is not None:
        yield (
            f"  nearest profile that fits: {remedies.nearest.profile.name} ({remedies.nearest.profile.description})"
        )
    elif remedies.cache_lens is None:
        yield "  no profile that is known here fits this model into this machine"


def _rule_words(need: RuleNeed) -> str:
    name = "the defaults" if need.rule is None else f"the rule {need.rule.match!r} (line {need.rule.line})"
    where = ", ".join(f"{gigabytes(size)} on {_device(d)}" for d, size in need.bytes_by_device.items())
    return f"{name}, {where} in {' and '.join(need.precisions)}: {need.modules}"


def _speed(plan: Plan) -> Iterator[str]:
    if isinstance(plan.speed, str):
        yield f"Speed: not estimated, {plan.speed}"
        return
    condition = "" if plan.fits else " (if it fitted)"
    yield f"Expected{condition}: decode {span(*plan.speed.decode)} tok/s, prefill {span(*plan.speed.prefill)} tok/s"
    for assumption in plan.speed.assumptions:
        yield f"  {assumption}"


def _machine(machine: Machine) -> Iterator[str]:
    yield f"machine  RAM {_figure(machine.ram, '')}"
    for index, figure in enumerate(machine.vram):
        yield f"         cuda:{index} {_figure(figure, '')}"
    if not machine.vram:
        yield f"         no GPU: {machine.no_gpu_reason}"
    for name, figure in (
        ("RAM", machine.ram_bandwidth),
        ("GPU", machine.gpu_bandwidth),
        ("disk", machine.disk_bandwidth),
    ):
        if name != "GPU" or machine.vram:
            yield f"         {name} reads {_figure(figure, '/s')}"


def _figure(figure: Figure, unit: str) -> str:
    if figure.value is None:
        return f"unknown: {figure.origin}"
    return f"{gigabytes(figure.value)}{unit} ({figure.origin})"


def _columns(rows: list[list[str]], left: tuple[int, ...] = ()) -> Iterator[str]:
    """Aligned columns, numbers to the right; `left` are texts beside the first."""
    rows = [[clean_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if i == 0 or i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def plan_json(plan: Plan, remedies: Remedies | None, missing: tuple[str, ...]) -> dict[str, Any]:
    """Every figure of the plan, in bytes and tokens per second."""
    speed: dict[str, Any] = {"decode_tok_s": None, "prefill_tok_s": None, "hit": None, "assumptions": []}
    if isinstance(plan.speed, str):
        speed["reason"] = plan.speed
    else:
        speed = {
            "decode_tok_s": list(plan.speed.decode),
            "prefill_tok_s": list(plan.speed.prefill),
            "hit": None if plan.speed.hit is None else list(plan.speed.hit),
            "assumptions": list(plan.speed.assumptions),
        }
    return {
        "model": plan.shape.name,
        "model_source": plan.shape.source,
        "parameters": plan.shape.num_parameters,
        "profile": plan.profile.name,
        "cache_tokens": plan.profile.cache_lens,
        "cache_bytes_per_token": plan.need.cache_bytes_per_token,
        "devices": {
            device: {
                "bytes": dict(kinds),
                "need_bytes": plan.need.bytes_on(device),
                "have_bytes": _have(plan.machine, device),
            }
            for device, kinds in plan.need.devices.items()
        },
        "rules": [_rule_json(need) for need in plan.need.rules],
        "fits": plan.fits,
        "shortfalls": [
            {"device": s.device, "need_bytes": s.need, "have_bytes": s.have, "reason": s.reason}
            for s in plan.shortfalls
        ],
        "expert_cache_bytes": plan.expert_cache_bytes,
        "resident_expert_bytes": plan.resident_expert_bytes,
        "speed": speed,
        "remedies": None
        if remedies is None
        else {
            "costliest_rule": None if remedies.costliest is None else _rule_json(remedies.costliest),
            "cache_lens": remedies.cache_lens,
            "nearest_profile": None if remedies.nearest is None else remedies.nearest.profile.name,
        },
        "machine": {
            "ram_bytes": _figure_json(plan.machine.ram),
            "vram_bytes": [_figure_json(figure) for figure in plan.machine.vram],
            "ram_bytes_per_s": _figure_json(plan.machine.ram_bandwidth),
            "gpu_bytes_per_s": _figure_json(plan.machine.gpu_bandwidth),
            "disk_bytes_per_s": _figure_json(plan.machine.disk_bandwidth),
        },
        "missing_in_this_version": list(missing),
    }


def _have(machine: Machine, device: str) -> float | None:
    figure = None if device == "disk" else machine.capacity(device)
    return None if figure is None else figure.value


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "origin": figure.origin}


def _rule_json(need: RuleNeed) -> dict[str, Any]:
    return {
        "match": None if need.rule is None else need.rule.match,
        "line": None if need.rule is None else need.rule.line,
        "modules": need.modules,
        "tensors": need.num_tensors,
        "tensors_covered": need.num_covered,
        "bytes_by_device": dict(need.bytes_by_device),
        "precisions": list(need.precisions),
    }
