"""How fast a conversion is, per format and number of workers: GB of the source a second, by the clock and by the core.

    python tests/bench/convert_speed.py [--source DIR] [--workers 1,2] [--formats int4-rtn,int4,int8,fp8,bf16]

Without --source it writes a random bf16 checkpoint of 1.25 GB at Moonlight's widths first. Each case is a process of its
own, so that its peak memory is its own too. "Per core" divides by the processor time that was used, which other programs
on the machine disturb less than the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine import convert_checkpoint
from tests.engine.checkpoints import random_config, tensor_shapes, write_tensors


def write_source(folder: Path) -> None:
    """Random values at the widths of Moonlight-16B-A3B, with 16 experts in each of three layers."""
    config = random_config(
        hidden_size=2048,
        vocab_size=16384,
        intermediate_size=11264,
        moe_intermediate_size=1408,
        n_routed_experts=16,
        num_hidden_layers=4,
        num_attention_heads=16,
        num_key_value_heads=16,
        q_lora_rank=None,
        kv_lora_rank=512,
        qk_nope_head_dim=128,
        qk_rope_head_dim=64,
        v_head_dim=128,
    )
    noise = (torch.randn(1 << 26, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    tensors = {
        name: noise[: torch.Size(shape).numel()].view(shape).clone()
        for name, shape in tensor_shapes(config).items()
    }
    write_tensors(folder, tensors, shards=2)
    (folder / "config.json").write_text(json.dumps(config))


def measure(source: Path, out: Path, case: str, workers: int) -> None:
    """One conversion in this process, printed."""
    precision, _, fit = case.partition("-")

    def cpu_seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    before = cpu_seconds()
    report = convert_checkpoint(source, out, precision, workers=workers, fit=fit or None)
    cpu, peak = cpu_seconds() - before, peak_bytes()
    done = report.converted_bytes / 1e9
    print(
        f"{case:9} {workers:2} workers  {done / report.seconds:6.3f} GB/s  {done / cpu:6.3f} GB/s per core  "
        f"{report.seconds:6.1f} s  {report.nbytes / 1e9:5.2f} GB  peak {peak / 1e6:4.0f} MB",
        flush=True,
    )


def peak_bytes() -> int:
    """Of this program: getrusage's figure would be that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--formats", default="int4-rtn,int4,int8,fp8,bf16")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        out, case, workers = arguments.one
        measure(arguments.source, Path(out), case, int(workers))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.source
        if source is None:
            source = Path(folder) / "source"
            write_source(source)
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
        for case in arguments.formats.split(","):
            for workers in arguments.workers.split(","):
                out = Path(folder) / f"{case}-{workers}"
                command = [
                    sys.executable,
                    __file__,
                    "--source",
                    str(source),
                    "--one",
                    str(out),
                    case,
                    workers,
                ]
                subprocess.run(command, check=True)
                subprocess.run(["rm", "-r", str(out)], check=True)


if __name__ == "__main__":
    main()
