"""Another profile for a loaded model: what stays is not read again, and a failure leaves the former profile answering."""

from __future__ import annotations

from dataclasses import replace

import pytest

import engine.runtime.switching as switching
from engine import (
    Engine,
    EngineClosedError,
    Failed,
    Finished,
    LoadCancelledError,
    PlacementError,
    Profile,
    Rule,
    SamplingParams,
    TextDelta,
)
from engine.hardware import MemoryInfo
from engine.weights.keeping import named_parts
from tests.engine.checkpoints import random_config, write_checkpoint

GREEDY = SamplingParams(temperature=0.0, max_new_tokens=12, ignore_eos=True)
PLAIN = Profile(
    name="plain", precision="fp32", cache_lens=1024, max_batch_size=2, chunk_size=64, max_new_tokens=256
)
MIXED = replace(PLAIN, name="mixed", rules=(Rule("model.layers.*.mlp", precision="bf16"),))
BF16 = replace(PLAIN, name="half", precision="bf16")
PROMPT = list(range(3, 40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    write_checkpoint(path, random_config(), seed=5)
    return path


@pytest.fixture
def opened(folder):
    with Engine.open(folder, PLAIN) as engine:
        yield engine


def addresses(engine) -> dict[str, int]:
    weights = engine._running.weights
    parts = named_parts(weights.parameters, engine._checkpoint.config)
    return {name: (part if hasattr(part, "data_ptr") else part.data).data_ptr() for name, part in parts}


def tokens(engine) -> list[int]:
    events = list(engine.submit(PROMPT, GREEDY))
    assert isinstance(events[-1], Finished)
    return [i for event in events if isinstance(event, TextDelta) for i in event.token_ids]


def fresh(folder, profile) -> list[int]:
    with Engine.open(folder, profile) as engine:
        return tokens(engine)


def scarce(monkeypatch, free: int) -> None:
    """`free` bytes are free, whatever the machine has."""
    memory = MemoryInfo(1 << 40, free, 1 << 40, "test")
    monkeypatch.setattr(switching, "available_memory", lambda: memory)


def failing_once(monkeypatch, error: Exception) -> list[str]:
    """Loading fails with `error` the first time; returns the profiles that were asked for."""
    assemble, asked = switching.assemble, []

    def failing(checkpoint, designed, *rest):
        asked.append(designed.profile.name)
        if len(asked) == 1:
            raise error
        return assemble(checkpoint, designed, *rest)

    monkeypatch.setattr(switching, "assemble", failing)
    return asked


def test_tensors_whose_place_stays_are_not_read_again(opened):
    before = addresses(opened)
    plan = opened.plan_switch(MIXED)
    seen = []
    opened.switch(MIXED, seen.append)
    after = addresses(opened)
    kept = {name for name in before if before[name] == after[name]}
    norms = {name for name in before if name.endswith(("norm.weight", ".gate.weight", "correction_bias"))}
    assert {name for name in before if ".mlp." in name} - norms == set(before) - kept
    held = sum(opened.stats().weights_bytes.values())
    assert plan.kept_bytes + plan.read_bytes == held
    assert plan.read_bytes * 2 == plan.freed_bytes  # float32 to bf16
    assert max(progress.total_bytes for progress in seen) == plan.read_bytes


@pytest.mark.parametrize("wanted", [MIXED, BF16], ids=["mixed", "bf16"])
def test_the_switched_engine_answers_as_a_fresh_one_and_back(opened, folder, wanted):
    first = tokens(opened)
    info = opened.switch(wanted)
    assert (info.profile_name, opened.profile) == (wanted.name, wanted)
    assert tokens(opened) == fresh(folder, wanted)
    opened.switch(PLAIN)
    assert tokens(opened) == first


def test_a_layer_that_becomes_packed_is_read_anew_and_so_is_one_that_is_unpacked(folder):
    dense = replace(BF16, rules=(Rule("model.layers.1.mlp.experts", precision="fp32"),), name="unpacked")
    with Engine.open(folder, BF16) as engine:
        packed = engine._running.design.packer is not None
        plan = engine.plan_switch(dense)
        stays = addresses(engine)["model.layers.1.self_attn.o_proj.weight"]
        engine.switch(dense)
        now = addresses(engine)["model.layers.1.self_attn.o_proj.weight"]
        assert (stays != now) == packed  # the native kernels read a layer's matrices packed, or none of them
        assert plan.read_bytes > 0
        assert tokens(engine) == fresh(folder, dense)


def test_int4_that_is_to_be_fitted_otherwise_is_read_anew(folder):
    with Engine.open(folder, replace(PLAIN, precision="int4")) as engine:
        assert engine.plan_switch(replace(PLAIN, precision="int4")).read_bytes == 0
        assert engine.plan_switch(replace(PLAIN, precision="int4", fit="rtn")).read_bytes > 0


@pytest.mark.parametrize(
    "change", [{"cache_lens": 2048}, {"chunk_size": 16}, {"max_batch_size": 1}, {"compute": "bfloat16"}]
)
def test_sizes_rebuild_the_cache_and_read_no_weights(opened, change):
    wanted = replace(PLAIN, **change)
    before, plan = addresses(opened), opened.plan_switch(wanted)
    assert (plan.read_bytes, plan.freed_bytes, plan.keeps_cache) == (0, 0, False)
    opened.switch(wanted)
    assert addresses(opened) == before
    tokens(opened)


def test_sampling_and_names_keep_even_the_cache(opened):
    tokens(opened)
    wanted = replace(PLAIN, name="other", sampling=SamplingParams(temperature=0.3), max_new_tokens=100)
    assert opened.plan_switch(wanted).keeps_cache
    assert opened.switch(wanted).max_new_tokens == 100
    tokens(opened)
    assert opened.stats().prefix_hit_tokens > 0


def test_a_refused_profile_changes_nothing(opened):
    refused = replace(PLAIN, device="cuda:7", name="gpu")
    for ask in (opened.plan_switch, opened.switch):
        with pytest.raises(PlacementError, match="cuda:7"):
            ask(refused)
    assert opened.profile is PLAIN
    tokens(opened)


def test_what_never_fits_is_refused_before_anything_is_freed(opened, monkeypatch):
    scarce(monkeypatch, 1000)
    before = addresses(opened)
    with pytest.raises(PlacementError, match="close other programs"):
        opened.switch(replace(BF16, cache_lens=1 << 22))
    assert addresses(opened) == before
    tokens(opened)


@pytest.mark.parametrize("free", [0, 1 << 40], ids=["freed first", "both at a time"])
@pytest.mark.parametrize(
    "error", [LoadCancelledError("stopped"), RuntimeError("can't allocate memory")], ids=["cancel", "memory"]
)
def test_after_a_failure_the_former_profile_answers(opened, monkeypatch, free, error):
    first = tokens(opened)
    scarce(monkeypatch, free)
    plan = opened.plan_switch(BF16)
    assert plan.free_first == (free == 0)
    asked = failing_once(monkeypatch, error)
    with pytest.raises((LoadCancelledError, PlacementError), match=str(error)):
        opened.switch(BF16)
    assert asked == (["half", "plain"] if plan.free_first else ["half"])
    assert opened.info.profile_name == "plain"
    assert tokens(opened) == first


def test_freed_first_the_old_weights_are_gone_while_the_new_ones_are_read(opened, monkeypatch):
    scarce(monkeypatch, 0)
    running = opened.submit(PROMPT, replace(GREEDY, max_new_tokens=200))
    loop = opened._running.loop
    seen = []
    opened.switch(BF16, lambda progress: seen.append((progress.stage, hasattr(loop, "_runner"))))
    assert seen[0] == ("freeing what changes", True)
    assert all(not held for stage, held in seen if stage == "reading weights")
    last = list(running)[-1]
    assert isinstance(last, Failed)
    assert "half" in last.message
    tokens(opened)


def test_a_cancel_in_the_middle_of_reading_goes_back(opened, monkeypatch):
    scarce(monkeypatch, 0)
    stages = []
    with pytest.raises(LoadCancelledError):
        opened.switch(BF16, lambda p: stages.append(p.stage), lambda: "reading weights" in stages)
    assert stages[-1] == "reading the former weights back"
    assert opened.profile is PLAIN
    tokens(opened)


def test_when_going_back_fails_too_the_engine_is_closed_and_says_both_reasons(opened, monkeypatch):
    scarce(monkeypatch, 0)

    def never(checkpoint, designed, *rest):
        raise PlacementError(f"no {designed.profile.name}")

    monkeypatch.setattr(switching, "assemble", never)
    with pytest.raises(EngineClosedError, match=r"no half.*no plain"):
        opened.switch(BF16)
    with pytest.raises(EngineClosedError):
        opened.submit(PROMPT, GREEDY)
    with pytest.raises(EngineClosedError):
        opened.switch(BF16)
