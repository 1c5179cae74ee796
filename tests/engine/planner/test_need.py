"""What a model needs under a profile: DeepSeek-V3's published numbers, and small checkpoints held to the engine's truth."""

import pytest

from engine.api import Engine
from engine.errors import PlacementError
from engine.paths import shipped_profiles_dir
from engine.planner import read_shape
from engine.planner.need import CACHE, compute_need
from engine.profile import EVERYTHING, Profile, Rule, read_profile
from tests.engine.checkpoints import random_config, write_checkpoint

V3 = "deepseek-ai/DeepSeek-V3"


@pytest.fixture(scope="module")
def v3():
    return read_shape(V3)


def shipped(name):
    return read_profile(shipped_profiles_dir() / f"{name}.yaml", EVERYTHING)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(V3, 671.0e9), ("moonshotai/Moonlight-16B-A3B", 15.96e9), ("moonshotai/Kimi-K2-Instruct", 1026e9)],
)
def test_parameters_are_as_published(model, parameters):
    assert read_shape(model).num_parameters == pytest.approx(parameters, rel=1e-3)


def test_deepseek_v3_in_its_own_format(v3):
    need = compute_need(v3, Profile(compute="bfloat16"))
    assert need.cache_bytes_per_token == 61 * 576 * 2 == 70272
    experts = need.devices["cpu"]["routed experts"]
    assert experts == pytest.approx(654e9, rel=1e-3)
    assert need.weights_bytes - experts - need.devices["cpu"]["embedding"] == pytest.approx(17.5e9, rel=0.02)


def test_four_and_a_half_bits_make_the_pool_that_the_design_counts(v3):
    need = compute_need(v3, shipped("rtx4090-128gb"))
    assert need.devices["disk"] == {"routed experts": pytest.approx(368e9, rel=1e-3)}
    assert need.bytes_on("cuda:0") < 19.5e9


def test_the_article_puts_143_gb_on_the_card_and_467_into_ram(v3):
    need = compute_need(v3, shipped("article-4090"))
    by_rule = [rule.nbytes for rule in need.rules]
    assert by_rule[0] + by_rule[2] == pytest.approx(143e9, rel=5e-3)
    assert by_rule[1] == pytest.approx(467.7e9, rel=1e-3)
    assert [need.rules[i].bytes_by_device.keys() for i in (0, 1, 2)] == [{"cuda:0"}, {"cpu"}, {"cuda:0"}]
    assert need.rules[3].rule is None  # embedding, norm and head are left to the defaults
    assert sum(by_rule) == need.weights_bytes


@pytest.mark.parametrize(
    "profile",
    [
        Profile(),
        Profile(precision="fp32", compute="bfloat16"),
        Profile(precision="bf16", kv_precision="fp8"),
        Profile(precision="int8", cache_lens=4100),
        Profile(precision="int4", group_size=32, rules=(Rule("model.layers.*.self_attn", precision="fp8"),)),
        Profile(rules=(Rule("re:.*\\.(self_attn|shared_experts)", precision="int8"), Rule("lm_head", precision="int4"))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("given", [{}, {"fp8_block": (32, 32)}, {"tied": True, "q_lora_rank": None}])
def test_weights_and_cache_are_what_the_engine_then_holds(tmp_path, profile, given):
    write_checkpoint(tmp_path, random_config(**given))
    if given.get("tied") and any(rule.match == "lm_head" for rule in profile.rules):
        with pytest.raises(PlacementError, match="the head is tied"):
            compute_need(read_shape(str(tmp_path)), profile)
        return
    need = compute_need(read_shape(str(tmp_path)), profile)
    with Engine.open(tmp_path, profile) as engine:
        stats = engine.stats()
    assert need.devices["cpu"][CACHE] == stats.kv_bytes
    held = stats.weights_bytes["ram"]
    # native kernels fill cut panels of sixteen rows up: at these widths of some dozens up to an eighth, at true ones nothing
    assert need.weights_bytes <= held <= need.weights_bytes * 1.125


def test_a_config_alone_is_planned_as_its_checkpoint(tmp_path):
    write_checkpoint(tmp_path, random_config(fp8_block=(32, 32)))
    alone = compute_need(read_shape(str(tmp_path / "config.json")), Profile())
    whole = compute_need(read_shape(str(tmp_path)), Profile())
    assert alone.weights_bytes <= whole.weights_bytes  # the test's head is stored in FP8, DeepSeek's is not


def test_experts_of_one_layer_are_counted_once_or_one_by_one_with_the_same_sum(v3):
    together = compute_need(v3, Profile(precision="int4"))
    apart = compute_need(v3, Profile(precision="int4", rules=(Rule("re:.*experts", precision="int4"),)))
    assert together.weights_bytes == apart.weights_bytes
    assert sum(r.num_tensors for r in together.rules) == sum(r.num_tensors for r in apart.rules)
    assert len(together.tensors) < 1500


def test_residents_of_the_gpu_leave_ram(v3):
    rules = (Rule("model.layers.*.mlp.experts", device="cpu", precision="int4", gpu_resident=64),)
    need = compute_need(v3, Profile(device="cuda:0", precision="fp8", rules=rules))
    assert need.devices["cuda:0"]["routed experts"] == pytest.approx(368e9 / 4, rel=1e-3)
    assert need.devices["cpu"]["routed experts"] == pytest.approx(368e9 * 3 / 4, rel=1e-3)


def test_the_cache_of_a_layer_is_where_its_attention_is(v3):
    need = compute_need(v3, Profile(rules=(Rule("model.layers.0-15", device="cuda:0"),)))
    assert need.devices["cuda:0"][CACHE] / need.devices["cpu"][CACHE] == pytest.approx(16 / 45)


def test_a_rule_that_earlier_ones_hide_is_shown_with_what_it_covers(v3):
    rules = (Rule("model.layers", precision="int8"), Rule("model.layers.3", precision="int4"))
    hidden = compute_need(v3, Profile(rules=rules)).rules[1]
    assert (hidden.num_tensors, hidden.nbytes) == (0, 0)
    assert hidden.num_covered > 768


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule("model.layers.61-70", precision="int4", line=9), "matches nothing"),
        (Rule("model.layers.3", device="disk", line=9), "holds routed experts only"),
        (Rule("model.layers.3", precision="int4", group_size=48, line=9), "groups of 32, 64, 128"),
        (Rule("model.layers.3", precision="fp8", group_size=64, line=9), "nothing that it covers is int8 or int4"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_rule_and_its_line(v3, rule, words):
    with pytest.raises(PlacementError, match=words) as caught:
        compute_need(v3, Profile(name="mine", rules=(rule,)))
    assert str(caught.value).startswith(f"profile mine:9: rule {rule.match!r}")


def test_one_expert_cannot_have_a_format_of_its_own(v3):
    rule = Rule("model.layers.3.mlp.experts.7", precision="int4")
    with pytest.raises(PlacementError, match=r"experts\.7\.gate_proj.*one stack"):
        compute_need(v3, Profile(precision="int8", rules=(rule,)))
