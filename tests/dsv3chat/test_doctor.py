"""doctor and models: what they say about a checkpoint, a torch and a terminal."""

import json

import pytest

from dsv3chat import cli, doctor
from engine import read_profile
from engine.weights.checkpoint import Checkpoint
from engine.weights.placement import place
from tests.engine.checkpoints import random_config, write_checkpoint


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"DSV3CHAT_{name}_DIR", str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path):
    write_checkpoint(tmp_path / "tiny", random_config(fp8_block=(32, 32), mtp=1))
    return tmp_path / "tiny"


def test_rules_and_formats_count_and_the_speculative_layer_does_not(checkpoint, tmp_path, capfd):
    (tmp_path / "mine.yaml").write_text(
        "defaults: {precision: int8}\noptimization_rules: [{match: model.layers.1.mlp.experts, precision: int4}]\n"
    )
    profile = read_profile(tmp_path / "mine.yaml")
    assert cli.run(["doctor", "--json", "-m", str(checkpoint), "--profile", str(tmp_path / "mine.yaml")]) == 0
    run = json.loads(capfd.readouterr().out)["would_run"]
    assert run["weights_bytes"] == place(Checkpoint.open(checkpoint), profile).total_bytes


def test_weights_that_cannot_be_read_are_a_problem(checkpoint, capfd):
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 20)
    assert cli.run(["doctor", "--json", "--model", str(checkpoint)]) == 2
    assert "the weights cannot be read" in json.loads(capfd.readouterr().out)["would_run"]["problem"]


def test_doctor_says_what_would_run_where_and_that_it_fits(checkpoint, capfd):
    assert cli.run(["doctor", "--json", "--model", str(checkpoint)]) == 0
    report = json.loads(capfd.readouterr().out)
    run = report["would_run"]
    assert (run["model_path"], run["model_origin"], run["profile"]) == (
        str(checkpoint),
        "--model",
        "as-stored",
    )
    assert run["fits"] is True
    assert run["weights_bytes"] > run["cache_bytes"] / 100 > 0
    assert report["hardware"]["memory"]["limit_source"]
    assert report["terminal"]["mode"] == "plain"
    assert report["terminal"]["mode_reason"]
    assert report["versions"]["torch"]
    assert report["torch"]["build"]
    assert "CUDA build" in report["install"]


def test_doctor_for_a_person_has_the_same_facts(checkpoint, capfd):
    assert cli.run(["doctor", "--model", str(checkpoint)]) == 0
    text = capfd.readouterr().out
    for word in (
        "limit:",
        "instructions",
        "mode",
        "plain",
        str(checkpoint),
        "fits",
        "yes, about",
        "CUDA build",
    ):
        assert word in text
    assert "\x1b" not in text


def test_doctor_exits_2_with_the_reason_when_it_would_not_run(checkpoint, capfd):
    assert cli.run(["doctor", "--model", "nope"]) == 2
    assert "no: " in capfd.readouterr().out
    assert cli.run(["doctor", "--json", "--model", str(checkpoint), "--set", f"cache_lens={2**40}"]) == 2
    run = json.loads(capfd.readouterr().out)["would_run"]
    assert run["problem"]
    assert not run["fits"]


def test_a_nano_that_is_not_built_is_no_problem(capfd):
    assert cli.run(["doctor", "--json"]) == 0
    run = json.loads(capfd.readouterr().out)["would_run"]
    assert run["state"].startswith("built at first use")
    assert run["fits"] is None


@pytest.mark.parametrize(
    ("text", "build"),
    [
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n", "CPU"),
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "CUDA 12.8"),
        ("cuda = None\nhip = '6.4'\n", "ROCm 6.4"),
    ],
)
def test_the_build_of_torch_is_read_without_importing_it(tmp_path, text, build):
    (tmp_path / "version.py").write_text(text)
    assert doctor.torch_build(tmp_path)["build"] == build


def test_models_lists_nano_first_even_unbuilt(capfd):
    assert cli.run(["models", "--json"]) == 0
    first = json.loads(capfd.readouterr().out)["models"][0]
    assert (first["name"], first["state"]) == ("nano", "built at first use")
    assert cli.run(["models"]) == 0
    assert "nano" in capfd.readouterr().out
