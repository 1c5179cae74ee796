"""Fits or not, by how much, and what would help."""

from dataclasses import replace

import pytest

from engine.paths import shipped_profiles_dir
from engine.planner import make_plan, read_shape, remedies
from engine.profile import EVERYTHING, Profile, read_profile
from tests.engine.checkpoints import random_config, write_checkpoint
from tests.engine.planner.machines import GB, GIB, machine

SHIPPED = {
    path.stem: read_profile(path, EVERYTHING) for path in sorted(shipped_profiles_dir().glob("*.yaml"))
}
WHOLE_MACHINES = {
    "rtx4090-128gb": machine(ram=0.9 * 128 * GIB),
    "cpu-512gb": machine(ram=0.9 * 512 * GIB, vram=()),
    "h200": machine(vram=(141 * GB,) * 8),
    "moonlight-laptop": machine(ram=0.9 * 16 * GIB, vram=()),
}


@pytest.fixture(scope="module")
def v3():
    return read_shape("deepseek-ai/DeepSeek-V3")


@pytest.mark.parametrize("name", WHOLE_MACHINES)
def test_a_shipped_profile_fits_its_model_into_its_machine(name):
    profile = SHIPPED[name]
    plan = make_plan(read_shape(profile.model), profile, WHOLE_MACHINES[name])
    assert plan.fits, plan.shortfalls


def test_the_article_does_not_fit_its_machine_and_the_plan_says_why(v3):
    plan = make_plan(v3, SHIPPED["article-4090"], machine())
    short = {shortfall.device: shortfall for shortfall in plan.shortfalls}
    assert set(short) == {"cpu", "cuda:0"}
    assert short["cuda:0"].need == pytest.approx(143.7e9, rel=1e-2)
    assert short["cpu"].need == pytest.approx(472e9, rel=1e-2)
    cure = remedies(plan, [profile for name, profile in SHIPPED.items() if name != "article-4090"])
    assert cure.costliest.rule.match == "model.layers.16-55"
    assert cure.cache_lens is None
    assert cure.nearest.profile.name == "rtx4090-128gb"
    assert cure.nearest.fits


def test_the_nearest_profile_keeps_more_in_place_before_it_is_faster(v3):
    plan = make_plan(v3, SHIPPED["article-4090"], machine(ram=512 * GIB))
    assert (
        remedies(plan, [SHIPPED["rtx4090-128gb"], SHIPPED["cpu-512gb"]]).nearest.profile.name == "cpu-512gb"
    )


def test_a_gpu_that_is_not_there_is_a_shortfall_with_its_reason(v3):
    plan = make_plan(v3, SHIPPED["rtx4090-128gb"], machine(vram=()))
    (short,) = plan.shortfalls
    assert (short.device, short.have, short.reason) == ("cuda:0", None, "no driver")
    assert not plan.fits
    second = make_plan(v3, SHIPPED["h200"], machine(vram=(141 * GB,)))
    assert {s.device for s in second.shortfalls} == {f"cuda:{i}" for i in range(1, 8)}


@pytest.fixture
def small(tmp_path):
    write_checkpoint(tmp_path, random_config())
    return read_shape(str(tmp_path))


def test_a_smaller_cache_is_offered_where_it_is_enough_and_is_the_largest_that_fits(small):
    profile = Profile(cache_lens=1 << 20, max_batch_size=2, max_new_tokens=64)
    whole = make_plan(small, profile, machine(ram=10**12)).need.bytes_on("cpu")
    room = machine(ram=whole - 1_000_000)
    plan = make_plan(small, profile, room)
    tokens = remedies(plan, []).cache_lens
    assert 0 < tokens < profile.cache_lens
    assert make_plan(small, replace(profile, cache_lens=tokens), room).fits
    assert not make_plan(small, replace(profile, cache_lens=tokens + 16), room).fits


def test_no_smaller_cache_is_offered_below_what_a_full_batch_needs(small):
    profile = Profile(cache_lens=1 << 20, max_batch_size=4, max_new_tokens=1 << 18)
    whole = make_plan(small, profile, machine(ram=10**12)).need.bytes_on("cpu")
    assert remedies(make_plan(small, profile, machine(ram=whole - 1)), []).cache_lens is None


def test_exactly_what_is_needed_fits_and_a_byte_less_does_not(small):
    need = make_plan(small, Profile(), machine(ram=10**12)).need.bytes_on("cpu")
    assert make_plan(small, Profile(), machine(ram=need, vram=())).fits
    (short,) = make_plan(small, Profile(), machine(ram=need - 1, vram=())).shortfalls
    assert (short.device, short.need, short.have) == ("cpu", need, need - 1)


def test_profiles_whose_rules_the_model_cannot_take_are_no_remedy(small):
    plan = make_plan(small, Profile(), machine(ram=1, vram=()))
    cure = remedies(plan, list(SHIPPED.values()))
    assert cure.nearest is None
    assert cure.costliest.rule is None
