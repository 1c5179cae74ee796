"""From one profile to another with the same checkpoint: what stays, what it costs, and back again when it fails.

Tensors whose device, format, group and layout stay are handed over, not read. Where what is read fits beside what is
loaded, the old profile answers until the new one stands, and a failure changes nothing. Where it does not, what changes
is freed first: the peak is then the larger of the two, and a failure reads the old back. Knows no text and no request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from engine.errors import EngineClosedError, EngineError, PlacementError
from engine.events import LoadProgress, SwitchPlan
from engine.hardware import available_memory
from engine.runtime.assembly import Design, Running, assemble
from engine.runtime.heap import trim
from engine.runtime.memory import RAM, added, free_by_tier
from engine.weights.checkpoint import Checkpoint
from engine.weights.keeping import Part, bytes_to_read, held_bytes, kept_parts

FREEING, READING_BACK = "freeing what changes", "reading the former weights back"


def plan_switch(checkpoint: Checkpoint, running: Running, wanted: Design) -> SwitchPlan:
    """What a switch keeps, reads and frees, and whether it must free first. PlacementError when even that does not fit."""
    before = running.design
    if wanted.runs_as(before):
        held = sum(running.weights.bytes_by_tier.values())
        return SwitchPlan(held, 0, 0, before.cache_bytes, free_first=False, keeps_cache=True)
    kept = _kept(checkpoint, running, wanted)
    stays = held_bytes(kept)
    freed = {tier: held - stays.get(tier, 0) for tier, held in running.weights.bytes_by_tier.items()}
    read = bytes_to_read(wanted.placement, kept)
    new = added(read, wanted.cache_by_tier, wanted.work_by_tier)
    memory = available_memory()
    free = free_by_tier(sorted(new), memory)
    room = added(free, freed, before.cache_by_tier)
    for tier in sorted(new):
        if new[tier] > room[tier]:
            where, limit = ("RAM", f" (limit: {memory.limit_source})") if tier == RAM else (tier, "")
            raise PlacementError(
                f"profile {wanted.profile.name} needs {new[tier] / 2**30:.2f} GiB of {where} beside what stays loaded, "
                f"{room[tier] / 2**30:.2f} GiB are there when the rest is freed{limit}; close other programs, lower "
                "cache_lens, or take a profile with a smaller precision"
            )
    return SwitchPlan(
        kept_bytes=sum(stays.values()),
        read_bytes=sum(read.values()),
        freed_bytes=sum(freed.values()),
        cache_bytes=wanted.cache_bytes,
        free_first=any(new[tier] > free[tier] for tier in new),
        keeps_cache=False,
    )


def switch(
    checkpoint: Checkpoint,
    running: Running,
    wanted: Design,
    max_token_ids: int,
    on_progress: Callable[[LoadProgress], None],
    cancelled: Callable[[], bool],
) -> tuple[Running, EngineError | None]:
    """What runs afterwards, and why it is not what was wanted: the former profile is back then, and answers.

    Raises PlacementError when nothing was begun; EngineClosedError when going back failed too.
    """
    plan = plan_switch(checkpoint, running, wanted)
    if plan.keeps_cache:
        return running.under(wanted), None
    before = running.design
    kept = _kept(checkpoint, running, wanted)
    if plan.free_first:
        on_progress(LoadProgress(FREEING))
        running.close(f"profile {wanted.profile.name} takes its place")
    failure: EngineError
    try:
        after = assemble(checkpoint, wanted, max_token_ids, on_progress, cancelled, kept)
    except EngineError as error:
        failure = error
    except (RuntimeError, MemoryError, OSError) as error:  # torch tells with these that memory is short
        failure = PlacementError(f"profile {wanted.profile.name} could not be loaded: {error}")
    else:
        if not plan.free_first:
            running.close(f"profile {wanted.profile.name} took its place")
        return after, None
    failure.with_traceback(None)  # its frames hold what was read so far
    trim()
    if not plan.free_first:
        return running, failure
    return _back(checkpoint, before, max_token_ids, on_progress, kept, failure), failure


def _back(
    checkpoint: Checkpoint,
    before: Design,
    max_token_ids: int,
    on_progress: Callable[[LoadProgress], None],
    kept: Mapping[str, Part],
    failure: EngineError,
) -> Running:
    def report(progress: LoadProgress) -> None:
        on_progress(replace(progress, stage=READING_BACK))

    try:
        return assemble(checkpoint, before, max_token_ids, report, lambda: False, kept)
    except (EngineError, RuntimeError, MemoryError, OSError) as error:
        raise EngineClosedError(
            f"{failure}; and profile {before.profile.name}, which ran before, could not be loaded again: {error}"
        ) from None


def _kept(checkpoint: Checkpoint, running: Running, wanted: Design) -> dict[str, Part]:
    placements = running.design.placement, wanted.placement
    return kept_parts(running.weights.parameters, *placements, checkpoint.config, wanted.packer)
