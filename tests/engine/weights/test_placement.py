"""Placement: the first rule decides key by key, bytes are exact, and nothing that is asked for is ignored."""

import math

import pytest
import torch

from engine.errors import PlacementError
from engine.profile.values import Profile, Rule
from engine.quant.matrix import Format
from engine.weights.checkpoint import Checkpoint
from engine.weights.names import Kind
from engine.weights.placement import place
from tests.engine.checkpoints import random_config, random_tensors, write_checkpoint, write_tensors

EXPERT = "model.layers.1.mlp.experts.0.gate_proj.weight"
ATTENTION = "model.layers.1.self_attn.o_proj.weight"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fp8")
    write_checkpoint(folder, random_config(fp8_block=(32, 32), mtp=1))
    return Checkpoint.open(folder)


def formats(checkpoint, *rules, **profile):
    placement = place(checkpoint, Profile(rules=rules, **profile))
    return {name: placed.format for name, placed in placement.tensors.items()}


def test_native_keeps_what_is_stored_but_norms_and_routers_are_float32(checkpoint):
    found = formats(checkpoint)
    assert found[EXPERT] is Format.FP8
    assert found["model.embed_tokens.weight"] is Format.BF16
    assert found["model.norm.weight"] is Format.FP32
    assert found["model.layers.1.mlp.gate.weight"] is Format.FP32
    assert found["model.layers.1.mlp.gate.e_score_correction_bias"] is Format.FP32


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        ("bf16", Format.BF16),
        ("fp32", Format.FP32),
        ("fp8", Format.FP8),
        ("int8", Format.INT8),
        ("int4", Format.INT4),
    ],
)
def test_the_default_precision_reaches_every_matrix_and_no_norm(checkpoint, precision, expected):
    placement = place(checkpoint, Profile(precision=precision))
    for placed in placement.tensors.values():
        if placed.spec.kind is not Kind.EMBEDDING:
            assert placed.format is (expected if placed.spec.kind.is_matrix else Format.FP32)


def test_the_first_rule_that_covers_a_tensor_decides(checkpoint):
    narrow = Rule("model.layers.*.self_attn", precision="fp32")
    wide = Rule("model.layers.0-1", precision="bf16")
    found = formats(checkpoint, narrow, wide)
    assert found[ATTENTION] is Format.FP32
    assert found[EXPERT] is Format.BF16
    assert found["model.layers.2.mlp.experts.0.gate_proj.weight"] is Format.FP8
    assert formats(checkpoint, wide, narrow)[ATTENTION] is Format.BF16


def test_rules_decide_key_by_key(checkpoint):
    device_only = Rule("model.layers.1.self_attn", device="cpu")
    wide = Rule("model.layers.0-1", precision="bf16")
    assert formats(checkpoint, device_only, wide)[ATTENTION] is Format.BF16


def test_group_sizes_are_a_key_like_the_others(checkpoint):
    rules = (
        Rule("model.layers.1.mlp", precision="int4"),
        Rule("model.layers.1", group_size=32),
        Rule("model.layers.2", precision="int8"),
        Rule("model.layers.0.mlp", precision="int4"),
    )
    found = place(checkpoint, Profile(rules=rules)).tensors
    dense = "model.layers.0.mlp.up_proj.weight"
    later = "model.layers.2.mlp.experts.0.gate_proj.weight"
    assert [found[name].group for name in (EXPERT, ATTENTION, later, dense)] == [32, 0, 128, 64]
    found = place(checkpoint, Profile(rules=rules, group_size=128)).tensors
    assert [found[name].group for name in (EXPERT, later, dense)] == [32, 128, 128]


def test_int4_is_fitted_as_the_profile_says_and_other_formats_are_not(checkpoint):
    rules = (Rule("model.layers.1.mlp", precision="int4"), Rule("model.layers.2", precision="int8"))
    later = "model.layers.2.mlp.experts.0.gate_proj.weight"
    for fit in ("hqq", "rtn"):
        found = place(checkpoint, Profile(rules=rules, fit=fit)).tensors
        assert [found[name].fit for name in (EXPERT, ATTENTION, later)] == [fit, None, None]


def test_the_experts_of_a_layer_have_one_group_size(checkpoint):
    rules = (Rule("model.layers.1.mlp.experts.5", group_size=32), Rule("model.layers", precision="int4"))
    with pytest.raises(PlacementError, match=r"int4 in groups of 64 and .*experts\.5.* int4 in groups of 32"):
        place(checkpoint, Profile(rules=rules))


def test_bytes_add_up_the_same_by_tier_kind_and_layer(checkpoint):
    placement = place(checkpoint, Profile(precision="bf16"))
    expected = sum(
        math.prod(spec.shape) * (2 if spec.kind.is_matrix else 4) for spec in checkpoint.specs.values()
    )
    assert placement.total_bytes == expected
    assert placement.bytes_by_tier == {"ram": expected}
    assert sum(placement.bytes_by_kind.values()) == expected
    assert sum(placement.bytes_by_layer.values()) == expected
    assert set(placement.bytes_by_layer) == {None, 0, 1, 2}
    assert (
        placement.bytes_by_kind[Kind.EXPERTS] == 2 * 8 * 3 * 40 * 64 * 2
    )  # layers, experts, projections, bf16


def test_native_bytes_count_the_scales(checkpoint):
    placed = place(checkpoint, Profile()).tensors["model.layers.1.self_attn.kv_a_proj_with_mqa.weight"]
    assert placed.nbytes == 40 * 64 + 4 * 2 * 2  # 40 rows are two blocks of 32


def test_every_rule_reports_what_it_covers(checkpoint):
    rules = (Rule("model.layers.1.mlp.experts"), Rule("model.layers.0-2", precision="bf16"))
    first, second = place(checkpoint, Profile(rules=rules)).rules
    assert first.rule is rules[0]
    assert (first.num_tensors, first.nbytes) == (24, 24 * 40 * 64 * 2)
    assert second.num_tensors == sum(spec.layer is not None for spec in checkpoint.specs.values())


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule("model.layers.0.self_attn.o_proj", device="cuda:0", line=7), "computed on one device"),
        (Rule("model.layers.1.mlp.experts.3", device="cuda:0", line=7), "computed on one device"),
        (Rule("model.layers.*.input_layernorm", device="cuda:0", line=7), "covers only norms"),
        (Rule("model.layers.0", device="disk", line=7), "device: disk"),
        (Rule("model.layers.0", precision="int3", line=7), "precision: int3"),
        (Rule("model.layers.0", precision="int4", group_size=48, line=7), "group_size: 48"),
        (Rule("model.layers.0", precision="int8", group_size=256, line=7), "groups of 32, 64, 128"),
        (Rule("model.layers.0", group_size=64, line=7), "nothing that it covers is int8 or int4"),
        (Rule("model.layers.0", precision="fp8", group_size=64, line=7), "nothing that it covers is int8"),
        (Rule("model.layers.0", gpu_resident="auto", line=7), "gpu_resident: auto"),
        (Rule("model.layers.9-12", precision="bf16", line=7), "matches nothing"),
        (Rule("model.layers.3", precision="bf16", line=7), "matches nothing"),  # the MTP layer
        (Rule("model.norm", precision="bf16", line=7), "float32 always"),
        (Rule("model.layers.[0]", precision="bf16", line=7), "grammar"),
    ],
)
def test_a_rule_that_cannot_be_done_is_refused_with_its_text_and_line(checkpoint, rule, words):
    with pytest.raises(PlacementError) as caught:
        place(checkpoint, Profile(name="mine", rules=(rule,)))
    text = str(caught.value)
    assert text.startswith(f"profile mine:7: rule {rule.match!r}")
    assert words in text


def test_a_rule_that_an_earlier_one_hides_is_not_called_a_rule_without_a_match(checkpoint):
    formats(checkpoint, Rule("model.layers", precision="bf16"), Rule("model.layers.1", precision="fp32"))


@pytest.mark.parametrize(
    ("defaults", "words"),
    [
        ({"device": "disk"}, "device: disk"),
        ({"precision": "int2"}, "precision: int2"),
    ],
)
def test_defaults_that_are_not_built_are_refused_by_name(checkpoint, defaults, words):
    with pytest.raises(PlacementError, match=f"defaults: {words} is known, but not built"):
        place(checkpoint, Profile(**defaults))


def test_a_rule_for_a_tied_head_says_where_the_head_is(tmp_path):
    write_checkpoint(tmp_path, random_config(tied=True))
    with pytest.raises(PlacementError, match=r"matches nothing .*tied: it is model\.embed_tokens"):
        place(Checkpoint.open(tmp_path), Profile(rules=(Rule("lm_head", precision="fp32"),)))


def test_the_experts_of_a_layer_have_one_format(checkpoint):
    rule = Rule("model.layers.1.mlp.experts.5", precision="bf16")
    with pytest.raises(PlacementError, match=r"experts\.5\.gate_proj\.weight bf16.*one stack"):
        place(checkpoint, Profile(rules=(rule,)))


def test_experts_stored_in_two_formats_need_one_precision(tmp_path):
    config = random_config()
    tensors, _ = random_tensors(config)
    tensors[EXPERT] = tensors[EXPERT].to(torch.float16)
    write_checkpoint(tmp_path, config)
    write_tensors(tmp_path, tensors)
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(PlacementError, match="fp16"):
        place(checkpoint, Profile())
    assert formats(checkpoint, precision="bf16")[EXPERT] is Format.BF16
