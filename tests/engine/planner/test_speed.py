"""The formulas of decode and prefill, against the figures that they were taken from."""

import pytest

from engine.paths import shipped_profiles_dir
from engine.planner import make_plan, read_shape
from engine.planner.speed import LOW_EFFICIENCY, Rate, Reads
from engine.profile import EVERYTHING, Profile, Rule, read_profile
from tests.engine.planner.machines import GIB, machine

V3 = "deepseek-ai/DeepSeek-V3"
INT4_ON_DISK = (Rule("model.layers.*.mlp.experts", device="disk", precision="int4"),)


@pytest.fixture(scope="module")
def v3():
    return read_shape(V3)


@pytest.mark.parametrize(
    ("hit", "disk", "tokens"), [(0.27, 7, 0.83), (0.27, 14, 1.6), (0.54, 7, 1.3), (0.54, 14, 2.6)]
)
def test_experts_on_the_disk_at_the_hit_rates_and_drives_of_the_design(hit, disk, tokens):
    rate = Rate(ram=80e9, gpu=1000e9, disk=disk * 1e9)
    resident, routed = Reads(gpu=16.2e9), Reads(disk=11.5e9)
    assert 1 / rate.seconds(resident, routed, hit, 1.0) == pytest.approx(tokens, rel=0.03)


def test_disk_and_ram_are_read_at_the_same_time():
    rate = Rate(ram=10.0, gpu=0.0, disk=5.0)
    assert rate.seconds(Reads(), Reads(disk=100.0), 0.5, 1.0) == 10.0  # 50 from the disk outlast 50 from RAM
    assert rate.seconds(Reads(), Reads(disk=100.0), 0.9, 1.0) == 9.0
    assert rate.seconds(Reads(ram=20.0), Reads(ram=30.0), 0.0, 0.5) == 10.0


def test_int4_from_ram_at_80_gb_cannot_pass_six_tokens(v3):
    rules = (Rule("model.layers.*.mlp.experts", device="cpu", precision="int4"),)
    speed = make_plan(
        v3, Profile(device="cuda:0", precision="int8", rules=rules), machine(ram=512 * GIB)
    ).speed
    assert speed.decode[1] == pytest.approx(1 / (11.5e9 / 80e9 + 17.4e9 / 1000e9), rel=0.02)
    assert speed.decode[0] == pytest.approx(speed.decode[1] * LOW_EFFICIENCY)
    assert speed.hit is None


def test_the_hit_rate_is_what_ram_holds_to_twice_that(v3):
    profile = Profile(device="cuda:0", precision="fp8", compute="bfloat16", rules=INT4_ON_DISK)
    plan = make_plan(v3, profile, machine(ram=100 * 10**9))
    low, high = plan.speed.hit
    assert low == pytest.approx(plan.expert_cache_bytes / 368e9, rel=1e-2)
    assert high == 2 * low
    assert plan.speed.decode[0] < plan.speed.decode[1]
    assert any("uniform routing" in text for text in plan.speed.assumptions)
    everything = make_plan(v3, profile, machine(ram=10**12)).speed
    assert everything.hit == (1.0, 1.0)


def test_a_long_chunk_reads_the_whole_pool_once(v3):
    profile = Profile(precision="int4", compute="bfloat16", chunk_size=2048)
    plan = make_plan(v3, profile, machine(ram=512 * GIB, vram=()))
    assert plan.speed.prefill[1] == pytest.approx(2048 * 80e9 / (plan.need.weights_bytes - 1.9e9), rel=0.01)


def test_arithmetic_bounds_a_prefill_that_reads_little(v3):
    profile = Profile(precision="int4", chunk_size=2048)
    slow = make_plan(v3, profile, machine(ram=512 * GIB, vram=(), flops=100e9)).speed
    assert slow.prefill[0] == pytest.approx(0.5 * 100e9 / (2 * 36.6e9), rel=0.02)
    assert slow.prefill[1] == pytest.approx(2 * 100e9 / (2 * 36.6e9), rel=0.02)
    bytes_only = make_plan(v3, profile, machine(ram=512 * GIB, vram=())).speed
    assert any("at most" in text for text in bytes_only.assumptions)
    assert not any("at most" in text for text in slow.assumptions)


@pytest.mark.parametrize("rate", ["ram", "gpu", "disk"])
def test_an_unknown_bandwidth_that_counts_is_named_and_nothing_is_guessed(v3, rate):
    profile = read_profile(shipped_profiles_dir() / "rtx4090-128gb.yaml", EVERYTHING)
    speed = make_plan(v3, profile, machine(**{f"{rate}_rate": None})).speed
    assert f"--{rate}-bandwidth" in speed
    small = make_plan(v3, Profile(precision="int4"), machine(gpu_rate=None, disk_rate=None, vram=()))
    assert not isinstance(small.speed, str)


def test_automatic_residents_fill_the_rest_of_the_card(v3):
    def plan(**keys):
        rules = (Rule("model.layers.*.mlp.experts", device="cpu", precision="int4", **keys),)
        return make_plan(
            v3,
            Profile(device="cuda:0", precision="fp8", compute="bfloat16", rules=rules),
            machine(ram=512 * GIB, vram=(80 * GIB,)),
        )

    auto, none = plan(gpu_resident="auto"), plan()
    assert auto.resident_expert_bytes == pytest.approx(80 * GIB - auto.need.bytes_on("cuda:0"), abs=1)
    assert none.resident_expert_bytes == 0
    assert auto.speed.decode[1] > none.speed.decode[1]
