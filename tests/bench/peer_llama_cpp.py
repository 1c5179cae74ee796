"""dsv3chat beside llama.cpp: the same shape, the same bits, the same threads, in turn, with random weights.

    python tests/bench/peer_llama_cpp.py --shape nano --format int4 [--llama FOLDER | --build FOLDER] [--files FOLDER]
        [--types Q4_0,Q4_K_M] [--prompt 512,2048] [--new 128] [--depth 4096] [--rounds 5] [--threads 2] [--experts 64] [--json FILE]

Shapes: nano; moonlight (Moonlight-16B-A3B); deepseek (one dense and two expert layers of DeepSeek-V3, with 64 of its 256
experts unless --experts says more, since a token reads as many either way, and a vocabulary of 4096, so that the layers
count and not the head). llama.cpp is the folder with llama-bench in it, or in its bin/ (also the variable LLAMA_CPP), or is
built from the sdist of llama-cpp-python in --build.

Weights: ours are `precision: int4` in groups of 64 (4.5 bit) with an int8 head, or int8 in groups of 128; llama.cpp's have
the types that its own quantization chooses (gguf_writer.py), printed with their bytes. The first round measures llama.cpp
with and without flash attention, the others with what was faster, each test by itself. llama-bench decodes random tokens
and samples nothing; ours are greedy answers, sampling included. Prints medians and ratios; JSON has every sample.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from gguf_writer import write_gguf

SDIST = "llama-cpp-python==0.3.36"
ROOT = Path(__file__).resolve().parents[2]
DEFAULT_TYPES = {"int4": "Q4_0,Q4_K_M", "int8": "Q8_0"}
_SLICE = {
    "vocab_size": 4096,
    "num_hidden_layers": 3,
    "first_k_dense_replace": 1,
    "num_nextn_predict_layers": 0,
    "quantization_config": None,
}


def shape_config(shape: str, experts: int) -> dict[str, Any]:
    """config.json of the shape."""
    if shape == "nano":
        path = ROOT / "dsv3chat" / "nano" / "data" / "config.json"
        return json.loads(path.read_text(encoding="utf-8")) | {"num_nextn_predict_layers": 0}
    from engine.planner.known import KNOWN_CONFIGS

    if shape == "moonlight":
        return dict(KNOWN_CONFIGS["moonshotai/Moonlight-16B-A3B"])
    return dict(KNOWN_CONFIGS["deepseek-ai/DeepSeek-V3"]) | _SLICE | {"n_routed_experts": experts}


def profile_text(precision: str, tied: bool) -> str:
    group = "\n  group_size: 64" if precision == "int4" else ""
    head = "model.embed_tokens" if tied else "lm_head"
    return (
        f"name: {precision}\ndefaults:\n  device: cpu\n  precision: {precision}{group}\noptimization_rules:\n"
        f'  - match: "{head}"\n    precision: int8\ncompute: bfloat16\nmax_batch_size: 1\nmax_new_tokens: 512\n'
        "cache_lens: 6144\nchunk_size: 512\n"
    )


def find_llama(folder: str | None, build: str | None) -> Path:
    for place in filter(None, (folder, os.environ.get("LLAMA_CPP"), build)):
        for path in (Path(place) / "llama-bench", Path(place) / "bin" / "llama-bench"):
            if path.is_file():
                return path
    if build is None:
        sys.exit(
            "no llama-bench: give its folder with --llama or LLAMA_CPP, or a folder to build it in with --build"
        )
    return build_llama(Path(build))


def build_llama(folder: Path) -> Path:
    """For this machine's AVX2 or AVX-512, without AMX, with which 0.3.36 crashes. 36 minutes of one core."""
    folder.mkdir(parents=True, exist_ok=True)
    run = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-binary",
        ":all:",
        "-d",
        str(folder),
        SDIST,
    ]
    subprocess.run(run, check=True)
    archive = next(folder.glob("llama_cpp_python-*.tar.gz"))
    subprocess.run(["tar", "xzf", str(archive), "-C", str(folder)], check=True)
    source = next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))
    flags = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
    ).split()
    switches = {"GGML_NATIVE": False, "GGML_OPENMP": False, "LLAMA_CURL": False, "LLAMA_OPENSSL": False}
    switches |= {"LLAMA_BUILD_TESTS": False, "LLAMA_BUILD_EXAMPLES": False, "LLAMA_BUILD_SERVER": False}
    switches |= {"GGML_AMX_TILE": False, "GGML_AMX_INT8": False, "GGML_AMX_BF16": False}
    names = {"AVX": "avx", "AVX2": "avx2", "FMA": "fma", "F16C": "f16c", "BMI2": "bmi2", "AVX512": "avx512f"}
    names |= {"AVX512_VNNI": "avx512_vnni", "AVX512_BF16": "avx512_bf16"}
    switches |= {f"GGML_{name}": flag in flags for name, flag in names.items()}
    options = [f"-D{name}={'ON' if on else 'OFF'}" for name, on in switches.items()]
    made = folder / "build"
    subprocess.run(["cmake", "-S", source, "-B", made, "-DCMAKE_BUILD_TYPE=Release", *options], check=True)
    subprocess.run(["cmake", "--build", made, "--target", "llama-bench", "-j1"], check=True)
    return made / "bin" / "llama-bench"


def llama_round(
    bench: Path, model: Path, args: argparse.Namespace, flash: str, depth: int
) -> dict[str, float]:
    """Tokens per second by test, such as "prefill 512" or "decode at 4096"."""
    command = [str(bench), "-m", str(model), "-t", str(args.threads), "-fa", flash, "-r", "1", "-o", "json"]
    command += ["-d", str(depth), "-n", str(args.new if not depth else args.new_at_depth)]
    command += ["-p", "0" if depth else args.prompt, "-lm", args.load_mode]
    beside = os.environ | {"LD_LIBRARY_PATH": str(bench.parent)}  # a copied folder uses its own libraries
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=beside)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return {
        f"decode at {depth}" if row["n_gen"] else f"prefill {row['n_prompt']}": row["avg_ts"]
        for row in json.loads(done.stdout)
    }


def our_round(config: Path, profile: Path, args: argparse.Namespace, depth: int) -> dict[str, float]:
    """The same tests of ours, and what each says of itself in `details`."""
    found: dict[str, float] = {}
    prompts = [1] if depth else [int(size) for size in args.prompt.split(",")]
    for index, prompt in enumerate(prompts):
        new = args.new_at_depth if depth else args.new if index == 0 else 2
        command = [sys.executable, "-m", "dsv3chat", "bench", "model", str(config), "--random", "--json"]
        command += ["--profile", str(profile), "--set", f"threads={args.threads}", "--runs", "1"]
        command += ["--prompt", str(prompt), "--new", str(new), "--depth", str(depth)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr[-3000:]}{done.stdout[-3000:]}")
        document = json.loads(done.stdout)
        speed = document["profiles"][0]
        if not depth:
            found[f"prefill {prompt}"] = speed["prefill_tokens_per_s"]
        if index == 0:
            found[f"decode at {depth}"] = speed["decode_tokens_per_s"]
            found[f"share at {depth}"] = speed["share_of_bandwidth"]
            found["GB/s of memory"] = statistics.median(speed["samples"]["bandwidth"]) / 1e9
            found["peak GB"] = speed["peak_memory_bytes"] / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=("nano", "deepseek", "moonlight"), default="nano")
    parser.add_argument("--format", choices=("int4", "int8"), default="int4")
    parser.add_argument("--types", help="of llama.cpp; default: Q4_0,Q4_K_M for int4, Q8_0 for int8")
    parser.add_argument("--llama")
    parser.add_argument("--build")
    parser.add_argument("--files", help="where the GGUF files are kept; default: a temporary folder")
    parser.add_argument("--prepare", action="store_true", help="only write the files")
    parser.add_argument("--prompt", default="512")
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--depth", type=int, default=0, help="also decode behind so many tokens")
    parser.add_argument("--new-at-depth", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--experts", type=int, default=64)
    parser.add_argument("--load-mode", choices=("auto", "none", "mmap"), default="auto", help="llama.cpp's")
    parser.add_argument("--json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(args, Path(args.files or scratch), Path(scratch))


def compare(args: argparse.Namespace, files: Path, scratch: Path) -> None:
    raw = shape_config(args.shape, args.experts)
    config, profile = scratch / "config.json", scratch / f"{args.format}.yaml"
    config.write_text(
        json.dumps({key: value for key, value in raw.items() if value is not None or key == "q_lora_rank"})
    )
    profile.write_text(profile_text(args.format, raw["tie_word_embeddings"]))
    files.mkdir(parents=True, exist_ok=True)
    types = (args.types or DEFAULT_TYPES[args.format]).split(",")
    models = {}
    for recipe in types:
        suffix = f"-{args.experts}" if args.shape == "deepseek" else ""
        models[recipe] = path = files / f"{args.shape}{suffix}-{recipe}.gguf"
        sizes = path.with_suffix(".json")
        if not path.exists():
            sizes.write_text(json.dumps(write_gguf(path, raw, recipe)))
        by_type = json.loads(sizes.read_text())
        words = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in sorted(by_type.items()))
        print(f"{path.name}: {words}", flush=True)
    if args.prepare:
        return
    bench = find_llama(args.llama, args.build)
    theirs: dict[tuple[str, str, str], list[float]] = defaultdict(list)  # test, type, flash attention
    ours: dict[str, list[float]] = defaultdict(list)
    depths = [0, args.depth] if args.depth else [0]
    for number in range(args.rounds):
        for depth in depths:
            for recipe, path in models.items():
                for flash in _settings(theirs, recipe, depth, number):
                    for test, rate in llama_round(bench, path, args, flash, depth).items():
                        theirs[test, recipe, flash].append(rate)
            for test, rate in our_round(config, profile, args, depth).items():
                ours[test].append(rate)
        print(f"round {number + 1} of {args.rounds}", flush=True)
    report(args, theirs, ours)


def _settings(
    theirs: dict[tuple[str, str, str], list[float]], recipe: str, depth: int, number: int
) -> list[str]:
    """Flash attention off and on in the first round; then what was faster at some test."""
    if number == 0:
        return ["0", "1"]
    tests = {
        test for test, kind, _ in theirs if kind == recipe and (f"at {depth}" in test or "prefill" in test)
    }
    if depth:
        tests = {f"decode at {depth}"}
    return sorted({max("01", key=lambda flash: theirs[test, recipe, flash][0]) for test in tests})


def report(
    args: argparse.Namespace, theirs: dict[tuple[str, str, str], list[float]], ours: dict[str, list[float]]
) -> None:
    medians = {test: statistics.median(samples) for test, samples in ours.items()}
    print(f"\n{args.shape}, {args.format}, {args.threads} threads, {args.rounds} rounds; tok/s, medians")
    print(f"memory is read at {medians['GB/s of memory']:.1f} GB/s; our peak is {medians['peak GB']:.2f} GB")
    print("| test | llama.cpp | which | least-most | ours | least-most | ratio | of memory |")
    print("|---|---:|---|---|---:|---|---:|---:|")
    rows = []
    for test in (test for test in ours if test.startswith(("prefill", "decode"))):
        keys = [key for key in theirs if key[0] == test]
        best = max(keys, key=lambda key: statistics.median(theirs[key]))
        rate, share = statistics.median(theirs[best]), medians.get(test.replace("decode", "share"))
        which = f"{best[1]}, flash attention {'on' if best[2] == '1' else 'off'}"
        shown = "-" if share is None or not test.startswith("decode") else f"{share:.0%}"
        print(
            f"| {test} | {rate:.1f} | {which} | {min(theirs[best]):.1f}-{max(theirs[best]):.1f} | {medians[test]:.1f} | "
            f"{min(ours[test]):.1f}-{max(ours[test]):.1f} | {medians[test] / rate:.2f} | {shown} |"
        )
        rows.append(
            {
                "test": test,
                "llama_cpp": rate,
                "which": which,
                "ours": medians[test],
                "ratio": medians[test] / rate,
            }
        )
    if args.json:
        samples = {" ".join(key): values for key, values in theirs.items()}
        document = {"arguments": vars(args), "rows": rows, "llama_cpp": samples, "ours": dict(ours)}
        Path(args.json).write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
