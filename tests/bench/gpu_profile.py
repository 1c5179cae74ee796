"""Profiles on a real GPU: equal to the CPU, every tensor where the file says, VRAM as planned, memory back, speed.

    python tests/bench/gpu_profile.py [--large SHAPE]

The first part writes a random 61-layer checkpoint of small width and runs the article's rules on it, verbatim. The second
fills SHAPE (default Moonlight) with random weights under several profiles, one process each, and holds what the driver
says is used to the plan. Prints one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from engine import Engine, Profile, Rule, SamplingParams, probe_gpus, read_profile
from engine.benchmark.source import Source
from engine.kernels.eager import EagerKernels
from engine.model.deepseek_v3 import DeepseekV3
from engine.planner import compute_need, read_shape
from engine.runtime.assembly import check_memory, design
from engine.weights.checkpoint import Checkpoint
from engine.weights.keeping import named_parts
from engine.weights.loader import load
from engine.weights.placement import place
from tests.engine.checkpoints import random_config, random_tensors, write_tensors
from tests.engine.model import steps

ARTICLE = Path(__file__).parents[2] / "profiles" / "article-4090.yaml"
SIZES = {"cache_lens": 8192, "max_batch_size": 4, "max_new_tokens": 512, "chunk_size": 512}
ATTENTION_THERE = (
    Rule("model.layers.*.mlp.experts", device="cpu", precision="int4"),
    Rule("model.embed_tokens", device="cpu"),
)
PROFILES = {
    "all bf16": Profile(device="cuda:0", precision="bf16", compute="bfloat16", **SIZES),
    "all int4": Profile(device="cuda:0", precision="int4", compute="bfloat16", **SIZES),
    "all fp8": Profile(device="cuda:0", precision="fp8", compute="bfloat16", **SIZES),
    "int8 there, int4 experts here": Profile(
        device="cuda:0", precision="int8", compute="bfloat16", rules=ATTENTION_THERE, **SIZES
    ),
    "cpu int8, int4 experts": Profile(precision="int8", compute="bfloat16", rules=ATTENTION_THERE, **SIZES),
}  # fmt: skip


def used() -> int:
    """Bytes of the first GPU that are in use, by whomever, as the gauge has them."""
    gpu = probe_gpus()[0][0]
    assert gpu.total_bytes is not None
    assert gpu.free_bytes is not None
    return gpu.total_bytes - gpu.free_bytes


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def on_cpu(profile: Profile) -> Profile:
    return replace(profile, device="cpu", rules=tuple(replace(rule, device="cpu") for rule in profile.rules))


def write_deep(folder: Path) -> None:
    """61 layers whose outputs are small beside the residual, as a trained model's are: scaled by 1 / sqrt(2 * 61) and the
    embedding by 8. In a chain of maps of unit gain roundings grow from layer to layer until nothing is left."""
    config = random_config(
        num_hidden_layers=61, first_k_dense_replace=3, hidden_size=128, moe_intermediate_size=64
    )
    tensors, _ = random_tensors(config, 5)
    for name, tensor in tensors.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            tensor.mul_(122**-0.5)
        if name.endswith("embed_tokens.weight"):
            tensor.mul_(8.0)
    write_tensors(folder, tensors)
    (folder / "config.json").write_text(json.dumps(config))


def torch_score(folder: Path, profile: Profile, compute: torch.dtype, ids: list[int]) -> torch.Tensor:
    """Log-probabilities with torch's own operators on the CPU; the weights as `profile` quantizes them."""
    checkpoint = Checkpoint.open(folder)
    weights = load(checkpoint, place(checkpoint, profile))
    model = DeepseekV3(checkpoint.config, weights.parameters, EagerKernels(compute))
    cache = steps.poisoned_cache(model, 13, compute)
    found = steps.in_chunks(model, cache, ids, list(range(13)), len(ids))
    return found[range(len(ids) - 1), ids[1:]]


def article() -> None:
    """float32: equal up to the order of sums. bf16: as far from float32 as torch's bf16 on the CPU is."""
    profile = read_profile(ARTICLE)
    ids = [(7 * i * i + 3 * i) % 160 for i in range(200)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_deep(folder)
        exact = torch_score(folder, on_cpu(profile), torch.float32, ids)
        errors = {"cpu bf16": (torch_score(folder, on_cpu(profile), torch.bfloat16, ids) - exact).abs()}
        for compute in ("float32", "bfloat16"):
            with Engine.open(folder, replace(profile, compute=compute)) as engine:
                placement = engine._running.design.placement
                for part, value in named_parts(engine._running.weights.parameters, engine._checkpoint.config):
                    tensor = value if isinstance(value, torch.Tensor) else value.data
                    assert str(tensor.device) == placement.tensors[part].device, part
                for placed in placement.tensors.values():
                    layer = placed.spec.layer
                    there = layer is not None and (layer <= 15 or layer >= 56)
                    assert placed.device == ("cuda:0" if there else "cpu"), placed.spec.name
                errors[f"gpu {compute}"] = (torch.tensor(engine.score(ids).logprobs) - exact).abs()
        say(
            article="61 layers, every tensor where the file says",
            **{key: [float(error.mean()), float(error.max())] for key, error in errors.items()},
        )
        with Engine.open(folder, on_cpu(profile)) as engine:
            say(switch="start", used=used(), perplexity=engine.score(ids).perplexity)
            for _ in range(3):
                engine.switch(profile)
                perplexity, there = engine.score(ids).perplexity, used()
                engine.switch(on_cpu(profile))
                back = engine.score(ids).perplexity
                say(switch="gpu, then cpu", on_gpu=there, perplexity=perplexity, used_after=used(), back=back)


def large(shape: str, name: str) -> None:
    """One profile in a process of its own: VRAM before torch, after loading, after work, against the plan; speeds."""
    before = used()
    profile = PROFILES[name]
    torch.zeros(1, device="cuda") if "cpu int8" not in name else None
    context = used() - before
    source = Source.of_shape(shape)
    designed = design(source.checkpoint, profile)
    check_memory(designed)
    begun = time.perf_counter()
    with source.load(designed, lambda progress: None, lambda: False) as engine:
        seconds = time.perf_counter() - begun
        loaded = used() - before
        warm = source.prompt(700)
        list(engine.submit(warm[:600], SamplingParams(max_new_tokens=8, temperature=0.0, ignore_eos=True)))
        long = [(i * 7919 + 11) % 32000 for i in range(4096)]
        usage = []
        for prompt in (long[:1024], long[2048:3072], long):
            events = list(engine.submit(prompt, SamplingParams(max_new_tokens=48, temperature=0.0, ignore_eos=True)))  # fmt: skip
            usage.append(events[-1].usage)
        worked = used() - before
        held = engine.stats().weights_bytes
    need = compute_need(read_shape(shape), profile)
    planned = need.bytes_on("cuda:0")
    say(
        profile=name,
        load_seconds=round(seconds, 1),
        context=context,
        loaded=loaded,
        worked=worked,
        planned=planned,
        planned_parts=need.devices.get("cuda:0"),
        ratio=worked / planned if planned else None,
        held=held,
        peak_allocated=torch.cuda.max_memory_allocated() if planned else 0,
        prefill_tok_s=[round(u.prefill_tokens_per_s) for u in usage],
        decode_tok_s=[round(u.decode_tokens_per_s, 1) for u in usage],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", default="moonshotai/Moonlight-16B-A3B")
    parser.add_argument("--profile", choices=PROFILES)
    given = parser.parse_args()
    if given.profile:
        large(given.large, given.profile)
        return
    article()
    for name in PROFILES:
        subprocess.run([sys.executable, __file__, "--large", given.large, "--profile", name], check=False)


if __name__ == "__main__":
    main()
