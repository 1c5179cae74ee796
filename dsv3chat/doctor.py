"""`dsv3chat doctor`: what is installed, what the machine has, and what would run where. Loads no model and no torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import locale
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dsv3chat import exit_codes
from dsv3chat.launch import Launch, plan_launch
from dsv3chat.mode import choose_mode, terminals
from dsv3chat.models import known_models
from dsv3chat.nano import NAME
from dsv3chat.places import places
from dsv3chat.plain_output import write_json
from dsv3chat.sanitize import clean_line
from dsv3chat.settings import SettingsError, load_settings
from engine import (
    EngineError,
    Hardware,
    Profile,
    available_memory,
    compute_need,
    find_model,
    native_status,
    probe,
    read_shape,
)

PACKAGES = ("dsv3chat", "torch", "textual", "tokenizers", "safetensors", "numpy")
TORCH_RANGE = ">=2.11"
INSTALL_NOTE = (
    "Installing dsv3chat installs PyTorch. On Linux with an x86 processor that is its CUDA build: several gigabytes, "
    "also where there is no GPU. For the CPU build (a fifth of a gigabyte) install torch from PyTorch's CPU index first, as the "
    f"README shows. A torch that is already there and in range ({TORCH_RANGE}) is used as it is."
)


def run_doctor(model: str | None, profile: str | None, overrides: Sequence[str], as_json: bool) -> int:
    """Print the report; returns 0, or 2 when what would run cannot."""
    report = examine(model, profile, overrides)
    if as_json:
        write_json(sys.stdout.buffer, report)
    else:
        for line in lines(report):
            click.echo(line)
    return int(report["exit_code"])


def examine(
    model: str | None = None, profile: str | None = None, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """The report as JSON values; unknown is None."""
    would_run = _would_run(model, profile, overrides)
    return {
        "versions": {
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            **{name: _version(name) for name in PACKAGES},
        },
        "torch": torch_build(),
        "install": INSTALL_NOTE,
        "hardware": _hardware(probe()),
        "native_kernels": _native_kernels(),
        "terminal": _terminal(os.environ),
        "places": {name: str(path) for name, path in places().items()},
        "would_run": would_run,
        "exit_code": exit_codes.USAGE if would_run["problem"] else exit_codes.OK,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def torch_build(package: Path | None = None) -> dict[str, Any]:
    """Which build of torch is installed, read from its version file: importing it would take seconds."""
    if package is None:
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            return {"build": None, "cuda": None, "path": None}
        package = Path(spec.origin).parent
    try:
        text = (package / "version.py").read_text(encoding="utf-8")
    except OSError:
        return {"build": None, "cuda": None, "path": str(package)}
    cuda = re.search(r"^cuda\b[^=\n]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    hip = re.search(r"^hip\b[^=\n]*= *['\"]([\d.]+)['\"]", text, re.MULTILINE)
    build = f"CUDA {cuda[1]}" if cuda else f"ROCm {hip[1]}" if hip else "CPU"
    return {"build": build, "cuda": cuda[1] if cuda else None, "path": str(package)}


def _hardware(hardware: Hardware) -> dict[str, Any]:
    return asdict(hardware)


def _native_kernels() -> dict[str, Any]:
    try:
        return asdict(native_status())
    except ValueError as error:
        return {"isa": None, "reason": str(error)}


def _terminal(environ: Mapping[str, str]) -> dict[str, Any]:
    mode = choose_mode(environ=environ)
    size = shutil.get_terminal_size(fallback=(0, 0))
    term, true_colour = environ.get("TERM", ""), environ.get("COLORTERM", "") in ("truecolor", "24bit")
    encoding = getattr(sys.stdout, "encoding", None) or locale.getpreferredencoding(False)
    return {
        "term": term or None,
        "colours": 2**24
        if true_colour
        else 256
        if "256" in term
        else 16
        if term and term != "dumb"
        else None,
        "no_color": bool(environ.get("NO_COLOR")),
        "columns": size.columns or None,
        "rows": size.lines or None,
        "encoding": encoding,
        "unicode": "utf" in encoding.lower(),
        **{f"{name}_is_terminal": value for name, value in asdict(terminals()).items()},
        "mode": "plain" if mode.plain else "full screen",
        "mode_reason": mode.reason,
    }


def _would_run(model: str | None, profile: str | None, overrides: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(
        ("model", "model_origin", "model_path", "profile", "profile_origin", "profile_path", "device", "precision",
         "compute", "cache_tokens", "weights_bytes", "cache_bytes", "available_bytes", "fits", "state", "problem")
    )  # fmt: skip
    try:
        launch = plan_launch(model, profile, overrides, load_settings())
        found |= _described(launch)
        folder = _folder(launch, found)
        if folder is not None:
            found |= _need(folder, launch.profile)
    except (EngineError, SettingsError) as error:
        found["problem"] = str(error)
    return found


def _need(folder: Path, profile: Profile) -> dict[str, Any]:
    """Weights and cache against the free memory, as the planner counts them; what the program itself takes is left out."""
    shape = read_shape(str(folder))
    if not shape.stored:
        return {"problem": f"the weights cannot be read: planned from {shape.source}"}
    need, memory = compute_need(shape, profile), available_memory()
    cache = sum(kinds.get("KV cache", 0) for kinds in need.devices.values())
    total = need.weights_bytes + cache
    found: dict[str, Any] = {
        "weights_bytes": need.weights_bytes,
        "cache_bytes": cache,
        "available_bytes": memory.available_bytes,
        "fits": total <= memory.available_bytes,
    }
    if not found["fits"]:
        found["problem"] = (
            f"needs about {_size(total)} of RAM, {_size(memory.available_bytes)} are free (limit: {memory.limit_source}); "
            "close other programs, lower cache_lens, or take another profile: `dsv3chat plan` says which"
        )
    return found


def _described(launch: Launch) -> dict[str, Any]:
    profile = launch.profile
    return {
        "model": launch.model,
        "model_origin": launch.model_origin,
        "profile": profile.name,
        "profile_origin": launch.profile_origin,
        "profile_path": None if profile.source is None else str(profile.source),
        "device": profile.device,
        "precision": profile.precision,
        "compute": profile.compute,
        "cache_tokens": profile.cache_lens,
    }


def _folder(launch: Launch, found: dict[str, Any]) -> Path | None:
    """Where the model lies; None for a nano that is not built yet."""
    if launch.model == NAME:
        nano = known_models()[0]
        found |= {"model_path": str(nano.path), "state": f"{nano.state}: {nano.note}"}
        return nano.path if nano.state == "ready" else None
    folder = find_model(launch.model)
    found |= {"model_path": str(folder), "state": "ready"}
    return folder


def lines(report: Mapping[str, Any]) -> list[str]:
    """The report for a person."""
    hardware, terminal, run = report["hardware"], report["terminal"], report["would_run"]
    cpu, memory, native = hardware["cpu"], hardware["memory"], report["native_kernels"]
    versions = ", ".join(
        f"{k} {v or 'not installed'}" for k, v in report["versions"].items() if k != "system"
    )
    colours = {2**24: "16 million colours", None: "no colours"}.get(
        terminal["colours"], f"{terminal['colours']} colours"
    )
    gpus = [
        f"{g['index']}: {g['name']}, {_size(g['free_bytes'])} of {_size(g['total_bytes'])} free, driver {g['driver']}"
        for g in hardware["gpus"]
    ]
    rows = [
        ("versions", versions),
        ("system", report["versions"]["system"]),
        ("torch", f"{report['torch']['build'] or 'not found'} build in {report['torch']['path']}"),
        ("install", report["install"]),
        ("cpu", f"{cpu['model']}, {cpu['usable_cores']} of {cpu['physical_cores']} cores usable"),
        ("instructions", ", ".join(cpu["instruction_set"]) or "none of those that kernels use"),
        ("kernels", f"native, {native['isa']}" if native["isa"] else f"torch: {native['reason']}"),
        ("memory", f"{_size(memory['available_bytes'])} free of {_size(memory['limit_bytes'])} (limit: {memory['limit_source']})"),
        ("gpu", "; ".join(gpus) or f"none: {hardware['gpu_reason']}"),
        ("terminal", f"TERM={terminal['term'] or ''}, {terminal['columns'] or '?'}x{terminal['rows'] or '?'}, {colours}, "
                     f"{terminal['encoding']}{'' if terminal['unicode'] else ' (no Unicode: boxes and bars will look wrong)'}"),
        ("mode", f"{terminal['mode']}: {terminal['mode_reason']}"),
        *report["places"].items(),
        ("model", f"{run['model'] or '?'} ({run['model_origin'] or '?'}), {run['state'] or 'not found'}"),
        ("", run["model_path"] or ""),
        ("profile", f"{run['profile'] or '?'} ({run['profile_origin'] or '?'}): {run['precision']} weights, "
                    f"{run['compute']} arithmetic on {run['device']}, cache of {run['cache_tokens']} tokens"),
        ("", run["profile_path"] or ""),
        ("fits", _fits(run)),
    ]  # fmt: skip
    width = max(len(name) for name, _ in rows)
    return [f"{name:{width}}  {clean_line(text)}" for name, text in rows if text]


def _fits(run: Mapping[str, Any]) -> str:
    if run["problem"]:
        return f"no: {run['problem']}"
    if run["fits"] is None:
        return "not known before the model is there"
    need = f"weights {_size(run['weights_bytes'])}, cache {_size(run['cache_bytes'])}"
    return f"yes, about: {need}; {_size(run['available_bytes'])} are free"


def _size(num_bytes: int | None) -> str:
    return "n/a" if num_bytes is None else f"{num_bytes / 2**30:.2f} GiB"
