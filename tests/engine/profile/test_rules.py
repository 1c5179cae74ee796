"""Which paths a rule covers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ProfileError
from engine.profile import RuleMatcher


@pytest.mark.parametrize(
    ("match", "covered", "not_covered"),
    [
        (
            "model.layers.0-15",
            ["model.layers.0", "model.layers.15.mlp.gate.weight"],
            ["model.layers.16", "model.layers.150", "model.layers", "x.model.layers.3", "model.norm.weight"],
        ),
        (
            "model.layers.1",
            ["model.layers.1", "model.layers.1.self_attn.o_proj.weight"],
            ["model.layers.12", "model.layers.12.mlp", "model.layers.10"],
        ),
        (
            "model.layers.3-60.mlp.experts",
            ["model.layers.3.mlp.experts", "model.layers.60.mlp.experts.255.up_proj.weight"],
            [
                "model.layers.2.mlp.experts.0",
                "model.layers.3.mlp.shared_experts.up_proj",
                "model.layers.3.mlp",
            ],
        ),
        (
            "model.layers.*.self_attn",
            ["model.layers.7.self_attn.kv_b_proj.weight"],
            ["model.layers.7.8.self_attn", "model.layers.self_attn", "model.layers.7.mlp"],
        ),
        (
            "model.layers.3.mlp.experts.0-127",
            ["model.layers.3.mlp.experts.127.up_proj"],
            ["model.layers.3.mlp.experts.128"],
        ),
        ("*", ["lm_head.weight", "model.norm.weight"], []),
        ("lm_head", ["lm_head", "lm_head.weight"], ["lm_headx", "model.lm_head"]),
        (
            r"re:model\.layers\.\d+\.mlp\.(gate|up)_proj",
            ["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj.weight"],
            ["model.layers.0.mlp.down_proj", "xmodel.layers.0.mlp.up_proj", "model.layers.0.mlp.up_projx"],
        ),
        (r"re:model\.layers\.1", ["model.layers.1.mlp"], ["model.layers.12"]),
        (r"re:layers", [], ["model.layers.1"]),
        (r"re:a|b", ["a", "b.c"], ["ab", "c.a"]),
    ],
)
def test_a_rule_covers_what_it_names_and_what_is_below(
    match: str, covered: list[str], not_covered: list[str]
) -> None:
    rule = RuleMatcher(match)
    assert [path for path in covered if not rule.covers(path)] == []
    assert [path for path in not_covered if rule.covers(path)] == []


@pytest.mark.parametrize(
    ("match", "says"),
    [
        ("", "expected a module path"),
        ("a." * 200, "expected a module path"),
        ("model.layers.15-0", "expected 0-15"),
        ("model.layers.1*", "one whole part"),
        ("model..norm", "not in the grammar"),
        ("model.layers.0-", "not in the grammar"),
        ("model.layers.-5", "not in the grammar"),
        ("model.layers.[0-15]", "begins with re:"),
        ("model.norm\n", "not in the grammar"),
        ("re:", "is empty"),
        ("re:(", "not valid"),
        ("re:a)|(b", "not valid"),
        ("re:(?i)a", "(?i:...)"),
        ("re:(a+)+b", "repeats a group"),
        ("re:((a*))*", "repeats a group"),
        ("re:(?:a|a)*b", "repeats a group"),
        ("re:(a?){30}", "repeats a group"),
        (r"re:(a)\1", "refers back"),
        ("re:" + "a?" * 30, "30 repetitions"),
        ("re:.*.*x", "twice in a row"),
    ],
)
def test_what_is_not_in_the_grammar_is_refused(match: str, says: str) -> None:
    with pytest.raises(ProfileError) as caught:
        RuleMatcher(match)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "expression", [r"[+*?]+", r"\+\*\?", r"a+?", r"(?:ab)+", r"(?P<x>a)+", r"(?i:a)", r"x{2}"]
)
def test_ordinary_expressions_are_not_taken_for_dangerous_ones(expression: str) -> None:
    assert RuleMatcher(f"re:{expression}").match == f"re:{expression}"


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 400))
def test_a_range_is_its_numbers(low: int, length: int, layer: int) -> None:
    rule = RuleMatcher(f"model.layers.{low}-{low + length}.mlp")
    assert rule.covers(f"model.layers.{layer}.mlp.down_proj.weight") == (low <= layer <= low + length)


@given(st.text(max_size=20) | st.text(alphabet="re:()[]{}|*+?.\\0-9ad", max_size=20).map("re:".__add__))
def test_any_text_is_a_rule_or_a_profile_error(match: str) -> None:
    try:
        rule = RuleMatcher(match)
    except ProfileError:
        return
    assert rule.covers("model.layers.3.mlp.experts.17.down_proj.weight") in (True, False)
