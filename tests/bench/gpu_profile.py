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
from engine.planner import compute_need, read_shape
from engine.runtime.assembly import check_memory, design
from engine.weights.keeping import named_parts, part_of
from tests.engine.checkpoints import random_config, write_checkpoint

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


def article() -> None:
    """float32: equal up to the order of sums. bf16: no further from float32 than torch's own bf16 on the CPU is, twice."""
    config = random_config(
        num_hidden_layers=61, first_k_dense_replace=3, hidden_size=128, moe_intermediate_size=64
    )
    profile = read_profile(ARTICLE)
    ids = [(7 * i * i + 3 * i) % 160 for i in range(200)]
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), config, seed=5)
        exact = replace(profile, compute="float32")
        scores = {}
        for name, one in (
            ("gpu float32", exact),
            ("gpu bfloat16", profile),
            ("cpu float32", on_cpu(exact)),
        ):
            with Engine.open(folder, one) as engine:
                placement = engine._running.design.placement
                for part, value in named_parts(engine._running.weights.parameters, engine._checkpoint.config):
                    tensor = value if isinstance(value, torch.Tensor) else value.data
                    assert str(tensor.device) == placement.tensors[part].device, part
                if name.startswith("gpu"):
                    for tensor_name, placed in placement.tensors.items():
                        layer = placed.spec.layer
                        there = layer is not None and (layer <= 15 or layer >= 56)
                        assert placed.device == ("cuda:0" if there else "cpu"), tensor_name
                        assert part_of(tensor_name) in placement.tensors
                scores[name] = torch.tensor(engine.score(ids).logprobs)
        error = {name: (score - scores["cpu float32"]).abs() for name, score in scores.items()}
        say(
            article="61 layers",
            float32_max=float(error["gpu float32"].max()),
            bf16_mean=float(error["gpu bfloat16"].mean()),
            bf16_max=float(error["gpu bfloat16"].max()),
        )
        assert float(error["gpu float32"].max()) < 1e-3
        with Engine.open(folder, on_cpu(profile)) as engine:
            say(switch="start", used=used(), answer=engine.score(ids).perplexity)
            for _ in range(3):
                engine.switch(profile)
                there = used()
                perplexity = engine.score(ids).perplexity
                engine.switch(on_cpu(profile))
                say(switch="gpu, then cpu", on_gpu=there, perplexity=perplexity, used_after=used(), back=engine.score(ids).perplexity)  # fmt: skip


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
