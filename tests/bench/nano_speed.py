"""How fast and how large the engine is on a model, headless: start to first token, prefill, decode, peak memory.

    python tests/bench/nano_speed.py [MODEL] [--profile nano-cpu] [--prompt-tokens 512] [--new 128] [--runs 5]

Each run is a process of its own, so that start-up and peak memory are those of a person's first question. Prints one
line a run and the medians. The prompt is text of the standard library, cut to the asked number of tokens.
"""

from __future__ import annotations

import argparse
import inspect
import json
import resource
import statistics
import subprocess
import sys
import textwrap
import time


def one_run(model: str, profile: str, prompt_tokens: int, new: int) -> dict[str, float]:
    """In this process: open, prefill a long prompt, decode; then decode with four requests at once."""
    started = float(sys.argv[-1])
    from engine import Engine, Finished, Message, SamplingParams, TextDelta, find_profile, read_profile

    engine = Engine.open(model, read_profile(find_profile(profile)))
    loaded = time.time()
    greedy = SamplingParams(max_new_tokens=new, temperature=0.0, ignore_eos=True)
    first = 0.0
    for event in engine.submit([Message("user", "What is the capital of France?")], greedy):
        if isinstance(event, TextDelta) and not first:
            first = time.time()
        if isinstance(event, Finished):
            decode = event.usage.decode_tokens_per_s
    ids = engine._tokenizer.encode_text(inspect.getsource(textwrap) * 4)[:prompt_tokens]
    long = SamplingParams(max_new_tokens=32, temperature=0.0, ignore_eos=True)
    usage = next(e for e in engine.submit(ids, long) if isinstance(e, Finished)).usage
    batch = [engine.submit([7 * i + 3, *ids[:40]], greedy) for i in range(4)]
    begun = time.monotonic()
    ends = [next(e for e in one if isinstance(e, Finished)).usage for one in batch]
    together = sum(u.completion_tokens for u in ends) / (time.monotonic() - begun)
    engine.close()
    return {
        "load_s": loaded - started,
        "first_token_s": first - started,
        "decode_tok_s": decode or 0.0,
        "prefill_tok_s": usage.prefill_tokens_per_s or 0.0,
        "decode_at_depth_tok_s": usage.decode_tokens_per_s or 0.0,
        "four_requests_tok_s": together,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="nano")
    parser.add_argument("--profile", default="nano-cpu")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--child", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(one_run(args.model, args.profile, args.prompt_tokens, args.new)))
        return
    runs = []
    for _ in range(args.runs):
        command = [sys.executable, __file__, args.model, "--profile", args.profile, "--new", str(args.new)]
        command += ["--prompt-tokens", str(args.prompt_tokens), "--child", str(time.time())]
        runs.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print("  ".join(f"{key} {value:.2f}" for key, value in runs[-1].items()), flush=True)
    print("medians:", json.dumps({key: round(statistics.median(r[key] for r in runs), 2) for key in runs[0]}))


if __name__ == "__main__":
    main()
