"""Profiles as choices for a loaded model: need and refusals from the planner, differences, the nearest wide attention."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

import dsv3chat.profile_choices as profile_choices
from dsv3chat.profile_choices import differences, matches, read_catalogue
from engine import Figure, Machine, Profile, Rule, paths, read_profile
from tests.engine.checkpoints import random_config, write_checkpoint

FILES = {
    "half": "description: two bytes\ndefaults:\n  precision: bf16\n",
    "four": "description: half a byte\ndefaults:\n  precision: int4\n  group_size: 32\n",
    "mixed": (
        "description: wide attention\ndefaults:\n  precision: int4\n  group_size: 32\noptimization_rules:\n"
        "  - match: 'model.layers.*.self_attn'\n    precision: int8\n"
    ),
    "vast": "description: too much\ncache_lens: 100000000\n",
    "layers": "description: another model's\noptimization_rules:\n  - match: 'model.layers.40-60'\n    precision: bf16\n",
}


@dataclass
class Backend:
    info: object
    profile: Profile


@dataclass
class Info:
    path: str
    name: str = "tiny"


@pytest.fixture
def backend(tmp_path, monkeypatch):
    folder, shipped, model = tmp_path / "profiles", tmp_path / "shipped", tmp_path / "model"
    for path in (folder, shipped, model):
        path.mkdir()
    for name, text in FILES.items():
        (folder / f"{name}.yaml").write_text(text)
    write_checkpoint(model, random_config(), seed=1)
    monkeypatch.setattr(paths, "user_profiles_dir", lambda: folder)
    monkeypatch.setattr(paths, "shipped_profiles_dir", lambda: shipped)
    unknown = Figure(None, "test")
    machine = Machine(
        Figure(1e9, "test"), (), "no driver", Figure(1e10, "test"), unknown, Figure(1e9, "test"), unknown
    )
    monkeypatch.setattr(profile_choices, "describe_machine", lambda hardware, rates: machine)
    return Backend(Info(str(model)), read_profile(folder / "four.yaml"))


def test_every_file_is_a_choice_with_its_need_or_the_reason_against_it(backend):
    found = {choice.name: choice for choice in read_catalogue(backend).choices}
    assert list(found) == sorted(FILES)
    assert found["four"].loaded
    assert found["four"].ram_bytes < found["half"].ram_bytes
    assert "GiB more on cpu" in found["vast"].refusal
    assert "model.layers.40-60" in found["layers"].refusal
    assert [name for name, choice in found.items() if choice.refusal] == ["layers", "vast"]


def test_the_formats_of_experts_and_attention_are_named(backend):
    weights = {choice.name: choice.weights for choice in read_catalogue(backend).choices}
    assert (weights["half"], weights["four"], weights["mixed"]) == ("bf16", "int4", "int4, attn int8")


def test_a_single_matrix_that_a_rule_spares_is_not_named(backend):
    rules = (
        "optimization_rules:\n  - match: 'model.layers.0.self_attn.kv_a_proj_with_mqa'\n    precision: fp8\n"
    )
    (paths.user_profiles_dir() / "spared.yaml").write_text(FILES["four"] + rules)
    weights = {choice.name: choice.weights for choice in read_catalogue(backend).choices}
    assert weights["spared"] == "int4"


def test_the_nearest_wide_attention_leaves_the_experts_as_they_are(backend):
    assert read_catalogue(backend).wider_attention().name == "mixed"


def test_where_the_attention_is_wide_nothing_wider_is_offered(backend):
    backend.profile = read_profile(paths.user_profiles_dir() / "mixed.yaml")
    assert read_catalogue(backend).wider_attention() is None


def test_a_changed_profile_stands_first_as_it_was_started(backend):
    backend.profile = replace(backend.profile, chunk_size=17)
    first, *others = read_catalogue(backend).choices
    assert (first.name, first.loaded) == ("four (as started)", True)
    assert not any(choice.loaded for choice in others)


def test_differences_name_keys_and_rules_and_neither_name_nor_model():
    before = Profile(name="a", model="m", rules=(Rule("model.layers.*.mlp", precision="bf16"),))
    after = replace(before, name="b", model="n", cache_lens=16384, rules=(Rule("lm_head", device="cpu"),))
    assert sorted(differences(before, after)) == [
        "+ lm_head: device cpu",
        "- model.layers.*.mlp: precision bf16",
        "cache_lens: 8192 → 16384",
    ]
    assert differences(before, replace(before, name="b", description="x")) == []


def test_the_filter_wants_the_letters_in_order(backend):
    four = read_catalogue(backend).named("four")
    assert matches(four, "FR")
    assert matches(four, "half byte")  # of the description
    assert not matches(four, "rf")
