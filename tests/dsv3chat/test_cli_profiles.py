"""`dsv3chat profiles`: lists, shows, checks and compares files, without loading a model."""

from __future__ import annotations

import json

import pytest

from dsv3chat import cli
from tests.engine.checkpoints import random_config


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(random_config()))
    return str(path)


def profile(tmp_path, match):
    path = tmp_path / "mine.yaml"
    path.write_text(f'name: mine\noptimization_rules:\n  - match: "{match}"\n    precision: int8\n')
    return str(path)


def test_every_shipped_profile_is_listed_and_right(capfd):
    assert cli.run(["profiles", "list", "--json"]) == 0
    found = [each["name"] for each in json.loads(capfd.readouterr().out)["profiles"]]
    wanted = ["article-4090", "as-stored", "cpu-512gb", "h200", "moonlight-laptop"]
    assert found[:5] == wanted
    assert cli.run(["profiles", "validate", *found]) == 0
    assert capfd.readouterr().out.count(": valid, ") == len(found)


def test_a_rule_that_a_model_has_no_use_for_is_refused_where_the_model_is_named(tmp_path, config, capfd):
    file = profile(tmp_path, "model.layers.40-60")
    assert cli.run(["profiles", "validate", file]) == 0
    assert "valid, 1 rule\n" in capfd.readouterr().out
    assert cli.run(["profiles", "validate", file, "--model", config]) == 2
    err = capfd.readouterr().err
    assert f"{file}:3" in err
    assert "'model.layers.40-60' matches nothing" in err
    assert cli.run(["profiles", "validate", profile(tmp_path, "model.layers.1"), "-m", config]) == 0
    assert "valid for tiny, 1 rule\n" in capfd.readouterr().out


def test_the_first_wrong_file_of_several_is_named_with_its_line(tmp_path, capfd):
    file = tmp_path / "wrong.yaml"
    file.write_text("name: wrong\ncach_lens: 1\n")
    assert cli.run(["profiles", "validate", "nano-cpu", str(file)]) == 2
    assert f"{file}:2: cach_lens: unknown key; nearest known: cache_lens" in capfd.readouterr().err


def test_the_difference_names_keys_and_rules(capfd):
    assert cli.run(["profiles", "diff", "nano-cpu", "nano-mixed"]) == 0
    out = capfd.readouterr().out
    assert "defaults.precision: bf16 -> int8" in out
    assert "+ model.layers.*.self_attn: precision fp8" in out
    assert cli.run(["profiles", "diff", "nano-cpu", "nano-cpu"]) == 0
    assert "say the same" in capfd.readouterr().out
