"""What rules decide about tensors, from names and kinds alone."""

import pytest

from engine.errors import PlacementError
from engine.profile.values import Profile, Rule
from engine.weights.assignment import assign, check_rules
from engine.weights.config_reader import config_from_dict
from engine.weights.names import expected_tensors
from tests.engine.checkpoints import random_config

ATTENTION = "model.layers.1.self_attn.o_proj.weight"
ROUTER = "model.layers.1.mlp.gate.weight"
EXPERT = "model.layers.1.mlp.experts.3.up_proj.weight"
EMBEDDING = "model.embed_tokens.weight"


def assigned(*rules, tied=False, **profile):
    specs = expected_tensors(config_from_dict(random_config(tied=tied))).values()
    made = Profile(name="mine", rules=rules, **profile)
    found = assign(specs, made)
    check_rules(made, found, tied)
    return {a.spec.name: a for a in found}


def test_each_key_is_decided_by_the_first_rule_that_has_it():
    found = assigned(
        Rule("model.layers.*.mlp.experts", device="disk", gpu_resident=2),
        Rule("model.layers.1", device="cuda:0", precision="int4", group_size=32),
        Rule("model.layers", precision="int8"),
    )[EXPERT]
    assert (found.device, found.precision, found.group_size) == ("disk", "int4", 32)
    assert (found.gpu_resident, found.covering) == (2, (0, 1, 2))


def test_norms_and_routers_are_float32_where_their_attention_is_unless_a_rule_says_otherwise():
    found = assigned(Rule("model.layers.1.self_attn", device="cuda:0"), precision="int4")
    assert (found[ROUTER].device, found[ROUTER].precision) == ("cuda:0", "fp32")
    assert found["model.norm.weight"].device == "cpu"
    moved = assigned(
        Rule("model.layers.1.self_attn", device="cuda:0"), Rule("model.layers.1.mlp", device="cpu")
    )
    assert moved[ROUTER].device == "cpu"


@pytest.mark.parametrize("precision", ["fp8", "int8", "int4"])
def test_a_quantized_default_leaves_the_embedding_in_bf16(precision):
    found = assigned(precision=precision)
    assert found[EMBEDDING].precision == "bf16"
    assert found[ATTENTION].precision == found["lm_head.weight"].precision == precision
    assert assigned(Rule("model", precision=precision))[EMBEDDING].precision == "bf16"


@pytest.mark.parametrize("precision", ["fp8", "int8", "int4"])
def test_a_rule_for_the_embedding_alone_quantizes_it(precision):
    named = Rule("model.embed_tokens", precision=precision)
    found = assigned(Rule("model.embed_tokens", device="cpu"), named, precision="bf16")
    assert found[EMBEDDING].precision == precision
    assert found["lm_head.weight"].precision == "bf16"


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule("model.layers.1", device="disk", line=4), "on the disk, which holds routed experts only"),
        (Rule("model.layers.0", gpu_resident=2, line=4), "covers no routed experts"),
        (Rule("model.layers.7", precision="int4", line=4), "matches nothing"),
        (Rule("model.norm", precision="int4", line=4), "float32 always"),
        (Rule("model..norm", precision="int4", line=4), "not in the grammar"),
    ],
)
def test_what_a_tensor_cannot_take_is_refused_with_the_rule_and_its_line(rule, words):
    with pytest.raises(PlacementError, match=words) as caught:
        assigned(rule)
    assert str(caught.value).startswith(f"profile mine:4: rule {rule.match!r}")
