"""How long nano reviews 40 ordinary chunks, and what share of that is not the model: headless, on labelled chunks.

    python tests/bench/review_speed.py [FILE.jsonl] [--model nano] [--profile nano-cpu] [--limit N]

Prints the evaluation's tables, then where the time of the engine thread went. "forward" is the network (its matrix products
and the Python that calls them); everything else is what the program adds to it: masks and forced tokens of the grammar,
sampling, scheduling, tokenizing, events, JSON. Chunks are asked max_batch_size at a time, as in a review.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections import Counter
from pathlib import Path

from dsv3chat.engine_backend import EngineBackend
from dsv3chat.review.evaluate import evaluate
from dsv3chat.review.labelled import read_labelled
from dsv3chat.review.model import choose_protocol, describe_model
from dsv3chat.review.values import ReviewOptions
from engine import find_profile, read_profile

ORDINARY = Path(__file__).parent.parent / "dsv3chat" / "review" / "labelled" / "ordinary.jsonl"


def timed(owner: type, method: str, name: str, seconds: Counter[str], calls: Counter[str]) -> None:
    """Count the wall time of `owner.method` under `name` from now on."""
    original = getattr(owner, method)

    @functools.wraps(original)
    def wrapper(*args: object, **kwargs: object) -> object:
        started = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            seconds[name] += time.perf_counter() - started
            calls[name] += 1

    setattr(owner, method, wrapper)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, default=ORDINARY)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--profile", default="nano-cpu")
    parser.add_argument("--limit", type=int, help="only the first N chunks")
    args = parser.parse_args()
    profile = read_profile(find_profile(args.profile))
    model = describe_model(args.model, profile)
    protocol = choose_protocol(None, model)
    labelled = read_labelled(args.file, protocol)[: args.limit]
    backend = EngineBackend(args.model, profile)
    backend.load(lambda progress: None)

    from engine.model.deepseek_v3 import DeepseekV3  # behind the load: the parts that are measured
    from engine.runtime.loop import EngineLoop
    from engine.runtime.sampler import Sampler
    from engine.scheduler.scheduler import Scheduler
    from engine.text.grammar import AnswerGrammar, Grammars
    from engine.text.tokenizer import Tokenizer

    seconds: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for owner, method, name in (
        (DeepseekV3, "forward", "forward"),
        (AnswerGrammar, "mask", "grammar mask"),
        (AnswerGrammar, "push", "grammar push"),
        (Grammars, "start", "grammar compile"),
        (Sampler, "sample", "sampler"),
        (Scheduler, "schedule", "scheduler plan"),
        (Scheduler, "complete", "scheduler complete"),
        (Tokenizer, "encode_chat", "tokenizer"),
        (EngineLoop, "_step", "steps"),
    ):
        timed(owner, method, name, seconds, calls)
    cpu = time.process_time()
    evaluation = evaluate(labelled, backend, protocol, ReviewOptions(), model=model)
    cpu = time.process_time() - cpu
    backend.close()
    print(evaluation.to_text())
    wall = evaluation.seconds
    print(f"{wall:.1f} s wall, {cpu:.1f} s CPU, load average {os.getloadavg()[0]:.1f}; of the wall time:")
    for name, spent in seconds.most_common():
        print(f"  {name:20}{spent:9.2f} s {100 * spent / wall:6.2f} %  {calls[name]:7,} calls")
    rest = wall - seconds["forward"]
    print(f"  {'all but forward':20}{rest:9.2f} s {100 * rest / wall:6.2f} %")


if __name__ == "__main__":
    main()
