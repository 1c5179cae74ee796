"""The peak of loading, measured in a process of its own: placed size + largest tensor + a stated slack."""

import json
import subprocess
import sys

import pytest
import torch

from tests.engine.checkpoints import random_config, tensor_shapes, write_tensors

# Scratch of a few 1 MiB tiles, Python's objects for the tensors, and what malloc keeps: measured 0 to 10 MB.
SLACK_BYTES = 16_000_000

MEASURE = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)  # the peak is wanted, not the speed: no spinning on a machine that others use
from engine.profile.values import Profile
from engine.quant import formats
from engine.quant.matrix import Format
from engine.weights.checkpoint import Checkpoint
from engine.weights.loader import load
from engine.weights.placement import place

def status(key):
    line = next(l for l in open("/proc/self/status") if l.startswith(key))
    return int(line.split()[1]) * 1024

for fmt in Format:  # torch's own memory for its operators is not the loader's
    formats.convert_into(formats.empty(fmt, 512, 512), formats.quantize(torch.rand(512, 512), Format.FP8))
checkpoint = Checkpoint.open(Path(sys.argv[1]))
placement = place(checkpoint, Profile(precision=sys.argv[2]))
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # the high-water mark starts here
weights = load(checkpoint, placement)
print(json.dumps({"rise": status("VmHWM") - before, "held": status("VmRSS") - before, "placed": placement.total_bytes}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """(folder, bytes of the largest tensor): 150 MB in FP8 blocks and bfloat16, the embedding 34 MB of them."""
    config = random_config(
        fp8_block=(128, 128),
        hidden_size=1024,
        vocab_size=16384,
        intermediate_size=4096,
        moe_intermediate_size=768,
        n_routed_experts=8,
        num_hidden_layers=5,
    )
    noise = torch.randint(0, 120, (1 << 22,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tensors = {}
    for name, shape in tensor_shapes(config).items():
        if name.endswith(("_proj.weight", "_mqa.weight")):
            values = noise[: shape[0] * shape[1]].view(shape).clone()
            tensors[name] = values.view(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = torch.ones(-(-shape[0] // 128), -(-shape[1] // 128))
        else:
            tensors[name] = torch.ones(shape, dtype=torch.bfloat16)
    folder = tmp_path_factory.mktemp("large")
    write_tensors(folder, tensors, shards=2)
    (folder / "config.json").write_text(json.dumps(config))
    yield folder, max(tensor.nbytes for tensor in tensors.values())
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize("precision", ["native", "bf16", "int4"])
def test_the_peak_stays_below_the_placed_size_plus_the_largest_tensor(large, precision):
    folder, largest = large
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), precision], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    measured = json.loads(run.stdout)
    assert measured["placed"] > 50_000_000
    assert (
        measured["held"] >= 0.9 * measured["placed"]
    )  # the weights are really in memory, so the peak means something
    assert measured["rise"] <= measured["placed"] + largest + SLACK_BYTES
