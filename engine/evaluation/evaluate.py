"""Measures profiles against the reference precision, one model in memory at a time. Knows no command line.

The reference is the weights as stored and float32 arithmetic, which is what equals transformers. It runs first; its
logits wait on the disk, and each profile's are compared with them chunk by chunk as they are computed.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from engine.api import Engine
from engine.evaluation.answers import answer
from engine.evaluation.estimates import block_means, estimate, perplexity_change, ties
from engine.evaluation.measures import TokenMeasures
from engine.evaluation.prompts import PROMPTS
from engine.evaluation.rows import RowFile
from engine.evaluation.scoring import Text, read_text, score
from engine.evaluation.text import MAX_TOKENS, builtin_text
from engine.evaluation.values import Evaluation, EvaluationProgress, Quality
from engine.evaluation.windows import BLOCK, STRIDE, WINDOW
from engine.events import LoadProgress
from engine.paths import cache_dir, private_dir
from engine.profile import Profile
from engine.weights.checkpoint import Checkpoint
from engine.weights.locate import find_model
from engine.weights.placement import place

REFERENCE = "reference"
Report: TypeAlias = Callable[[EvaluationProgress], None]


def evaluate(
    model: str | Path,
    profiles: Mapping[str, Profile],
    text: str | None = None,
    *,
    max_tokens: int = MAX_TOKENS,
    num_answers: int = 0,
    on_progress: Report = lambda progress: None,
) -> Evaluation:
    """`profiles` by the name in the table. Every one is checked against the checkpoint before the first is loaded.

    The first `max_tokens` tokens of `text` (None: the built-in one) are scored; the first `num_answers` of PROMPTS are
    answered greedily by each profile, not by the reference, of which only logits are wanted. Raises what `Engine.open` raises, PromptError for a text of fewer than
    two tokens, GenerationError for an answer that fails, EngineError for a full disk and for logits that are not finite.
    """
    checkpoint = Checkpoint.open(find_model(str(model)))
    for profile in profiles.values():
        place(checkpoint, profile)
    tokens = read_text(checkpoint.path, builtin_text() if text is None else text, max_tokens)
    runs = [(REFERENCE, Profile(name=REFERENCE)), *profiles.items()]
    found: list[Quality] = []
    reference_nll: NDArray[np.float64] | None = None
    with RowFile(private_dir(cache_dir()), tokens.num_counted, checkpoint.config.vocab_size) as rows:
        for index, (name, profile) in enumerate(runs):
            run = _Run(name, index, len(runs), on_progress)
            asked = PROMPTS[:num_answers] if index else ()
            quality, nll = run.measure(checkpoint.path, profile, tokens, rows, reference_nll, asked)
            reference_nll = nll if reference_nll is None else reference_nll
            found.append(quality)
            gc.collect()  # the model of this run, before the next one is read
    return Evaluation(
        str(checkpoint.config.metadata.get("name") or checkpoint.name),
        tokens.num_counted,
        WINDOW,
        STRIDE,
        BLOCK,
        found[0],
        tuple(found[1:]),
        ties(found[1:]),
    )


class _Run:
    """One profile, and how its progress is told."""

    def __init__(self, name: str, index: int, count: int, on_progress: Report) -> None:
        self._name = name
        self._index = index
        self._count = count
        self._on_progress = on_progress

    def measure(
        self,
        model: Path,
        profile: Profile,
        tokens: Text,
        rows: RowFile,
        reference_nll: NDArray[np.float64] | None,
        prompts: Sequence[str],
    ) -> tuple[Quality, NDArray[np.float64]]:
        """(quality, -log p of each counted token). Without `reference_nll` it is the reference, and fills `rows`."""
        measures = TokenMeasures.empty(tokens.num_counted)

        def take(first: int, logits: torch.Tensor, targets: torch.Tensor) -> None:
            if reference_nll is None:
                rows.write(first, logits)
            measures.take(first, logits, rows.read(first, len(logits)), targets)

        started = time.monotonic()
        with Engine.open(model, profile, on_progress=self._loading) as engine:
            loaded = time.monotonic()
            for done in score(engine, tokens, take):
                self._report("text", done, len(tokens.windows))
            assert measures.taken.all()
            scored = time.monotonic()
            answers = None
            if prompts:
                self._report("answers", 0, len(prompts))
                answers = answer(engine, prompts, lambda done: self._report("answers", done, len(prompts)))
            weights_bytes = sum(engine.stats().weights_bytes.values())
        nll = measures.nll
        quality = Quality(
            name=self._name,
            weights_bytes=weights_bytes,
            perplexity=math.exp(nll.mean()),
            change=perplexity_change(nll, nll if reference_nll is None else reference_nll),
            kl=estimate(measures.kl),
            agreement=estimate(measures.agrees),
            nll_blocks=block_means(nll),
            kl_blocks=block_means(measures.kl),
            load_seconds=loaded - started,
            score_seconds=scored - loaded,
            answers=answers,
        )
        return quality, nll

    def _loading(self, progress: LoadProgress) -> None:
        self._report(progress.stage, progress.done_bytes, progress.total_bytes)

    def _report(self, stage: str, done: int, total: int) -> None:
        self._on_progress(EvaluationProgress(self._name, self._index, self._count, stage, done, total))
