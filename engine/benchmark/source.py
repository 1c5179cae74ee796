"""What a benchmark runs: a checkpoint with its weights, or the shape of one filled with random ones. Measures nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from engine.api import Engine
from engine.errors import CheckpointError, EngineError, PlacementError, UnsupportedModelError
from engine.events import LoadProgress
from engine.planner.shape import ModelShape, read_shape
from engine.runtime import gpus
from engine.runtime.assembly import Design, assemble
from engine.text.tokenizer import Tokenizer
from engine.weights.checkpoint import Checkpoint
from engine.weights.locate import find_model
from engine.weights.names import Kind
from engine.weights.placement import Placement
from engine.weights.random_parameters import random_parts
from engine.weights.shape_checkpoint import shape_checkpoint

_INSTRUCTION = "Review the following code. Name every defect with its line, say what goes wrong and how to put it right.\n\n"
NO_TOKENIZER = "a model of random weights has no tokenizer; ask it with token ids"


@dataclass(frozen=True, slots=True)
class Source:
    """`tokenizer` is the reason where there is none."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer | EngineError
    random_weights: bool

    @classmethod
    def of_model(cls, model: str) -> Self:
        """A checkpoint on this machine. Raises ModelError."""
        checkpoint = Checkpoint.open(find_model(model))
        tokenizer: Tokenizer | EngineError
        try:
            tokenizer = Tokenizer.open(checkpoint.path)
        except (CheckpointError, UnsupportedModelError) as error:
            tokenizer = error
        return cls(checkpoint, tokenizer, False)

    @classmethod
    def of_shape(cls, model: str, layers: tuple[int | None, int] | None = None) -> Self:
        """The shape that `model` (a config.json, or what `plan` knows) says. `layers`: so many dense ones (None: as the
        config has them) of so many in all. Raises ModelError, and PlacementError for more layers than there are."""
        shape = read_shape(model)
        if layers is not None:
            shape = _cut(shape, *layers)
        checkpoint = shape_checkpoint(shape.name, shape.config, shape.stored_precision, shape.groups)
        return cls(checkpoint, UnsupportedModelError(NO_TOKENIZER), True)

    def load(
        self, designed: Design, on_progress: Callable[[LoadProgress], None], cancelled: Callable[[], bool]
    ) -> Engine:
        """Read or fill the weights. Raises CheckpointError, PlacementError, LoadCancelledError."""
        kept = None
        if self.random_weights:
            kept = random_parts(
                self.checkpoint, designed.placement, designed.packer, on_progress, cancelled, gpus.memory_of
            )
        vocab = self.checkpoint.config.vocab_size
        max_ids = min(vocab, self.tokenizer.num_ids) if isinstance(self.tokenizer, Tokenizer) else vocab
        running = assemble(self.checkpoint, designed, max_ids, on_progress, cancelled, kept)
        return Engine(self.checkpoint, self.tokenizer, running)

    def prompt(self, num_tokens: int) -> list[int]:
        """A code review: an instruction, then this program's own code. Random ids where there is no tokenizer."""
        if not isinstance(self.tokenizer, Tokenizer):
            choose = random.Random(0)
            return [choose.randrange(self.checkpoint.config.vocab_size) for _ in range(num_tokens)]
        code = (Path(__file__).parents[1] / "scheduler" / "scheduler.py").read_text(encoding="utf-8")
        ids = self.tokenizer.encode_text(_INSTRUCTION)
        more = self.tokenizer.encode_text(code)
        while len(ids) < num_tokens:
            ids = [*ids, *more]
        return ids[:num_tokens]


def bytes_per_token(placement: Placement, num_active: int, num_experts: int, tied: bool) -> int:
    """Weights that a decode step reads: all matrices, of the routed experts num_active / num_experts; an embedding only
    where it is the head too."""
    always, routed = 0, 0
    for placed in placement.tensors.values():
        if placed.spec.kind is Kind.EXPERTS:
            routed += placed.nbytes
        elif placed.spec.kind is not Kind.EMBEDDING or tied:
            always += placed.nbytes
    return always + routed * num_active // max(1, num_experts)


def _cut(shape: ModelShape, dense: int | None, layers: int) -> ModelShape:
    config = shape.config
    if dense is None and layers > config.num_hidden_layers:
        raise PlacementError(
            f"{layers} layers: {shape.name} has {config.num_hidden_layers}; ask for as many or fewer"
        )
    first = config.first_k_dense_replace if dense is None else dense
    return replace(shape, config=replace(config, num_hidden_layers=layers, first_k_dense_replace=first))
