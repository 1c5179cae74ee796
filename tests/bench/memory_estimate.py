"""What `dsv3chat plan` says that a model needs in RAM, against what a process holds that has loaded it and answered.

    python tests/bench/memory_estimate.py MODEL [--profile P] [--set KEY=VALUE] [--cold]

Measured: the private pages of /proc/self/smaps_rollup (clean and dirty: weights, cache, scratch, the interpreter's own) and the
resident pages of the libraries' files, which other processes may share, after a prompt of a chunk and eight tokens. --cold
drops the model's files from the page cache first, so that loading reads the disk. Loading is GB of the files a second.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from dsv3chat.launch import plan_launch
from engine import Engine, SamplingParams, describe_machine, make_plan, probe, read_rates, read_shape
from engine.weights.locate import find_model


def drop_from_page_cache(folder: Path) -> None:
    """Forget what the system has kept of the weights."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident() -> dict[str, int]:
    """Bytes: `private`, `shared` (files that others may map too), `anonymous`."""
    fields = {}
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        fields[name.rstrip(":")] = int(value) * 1024
    private = fields["Private_Clean"] + fields["Private_Dirty"]
    return {"private": private, "shared": fields["Rss"] - private, "anonymous": fields["Anonymous"]}


def main() -> None:
    """Plan, load, answer, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--profile")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--cold", action="store_true")
    given = parser.parse_args()
    launch = plan_launch(given.model, given.profile, given.set)
    folder = find_model(launch.model)
    machine = describe_machine(probe(), lambda: read_rates(None, False))
    need = make_plan(read_shape(launch.model), launch.profile, machine).need
    planned = need.bytes_on("cpu")
    if given.cold:
        drop_from_page_cache(folder)
    files = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    started, used = time.monotonic(), time.process_time()
    with Engine.open(launch.model, launch.profile) as engine:
        seconds, used = time.monotonic() - started, time.process_time() - used
        prompt = [100 + n % 50 for n in range(launch.profile.chunk_size)]
        list(engine.submit(prompt, SamplingParams(max_new_tokens=8, ignore_eos=True, temperature=0.0)))
        held = resident()
        stats = engine.stats()
    print(
        f"{launch.model}, profile {launch.profile.name}, {'from the disk' if given.cold else 'as the page cache is'}"
    )
    print(
        f"  loaded {files / 1e9:.2f} GB in {seconds:.1f} s: {files / seconds / 1e9:.2f} GB/s ({used:.1f} s of processors)"
    )
    print(
        f"  weights: planned {need.weights_bytes / 1e9:.4f} GB, held {sum(stats.weights_bytes.values()) / 1e9:.4f} GB"
    )
    for kind, nbytes in need.devices["cpu"].items():
        print(f"    {kind:18} {nbytes / 1e6:10.1f} MB")
    print(
        f"  planned {planned / 1e9:.3f} GB; measured {sum(v for k, v in held.items() if k != 'anonymous') / 1e9:.3f} GB, of which "
        f"{held['private'] / 1e9:.3f} private ({held['anonymous'] / 1e9:.3f} anonymous) and {held['shared'] / 1e9:.3f} shared"
    )
    measured = held["private"] + held["shared"]
    print(f"  planned / measured: {100 * (planned / measured - 1):+.1f} %")


if __name__ == "__main__":
    main()
