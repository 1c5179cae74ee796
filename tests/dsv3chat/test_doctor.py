"""doctor and models: what they say about a checkpoint, a torch and a terminal."""

import json
import struct

import pytest

from dsv3chat import cli, doctor
from dsv3chat.footprint import footprint
from engine import Profile

CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "num_hidden_layers": 2,
    "kv_lora_rank": 12,
    "qk_rope_head_dim": 4,
}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"DSV3CHAT_{name}_DIR", str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    entries, position = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, size in (
        ("model.layers.0.w.weight", "F8_E4M3", [128, 10], 1280),
        ("model.layers.0.w.weight_scale_inv", "F32", [1, 1], 4),
        ("model.norm.weight", "BF16", [10], 20),
        ("model.layers.2.w.weight", "F8_E4M3", [1000, 10], 10_000),
    ):
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    header = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder


@pytest.mark.parametrize(("precision", "weights"), [("native", 1304), ("bf16", 2 * 1290), ("fp32", 4 * 1290)])
def test_the_footprint_counts_headers_without_the_speculative_layer(checkpoint, precision, weights):
    found = footprint(checkpoint, Profile(precision=precision, cache_lens=100, compute="bfloat16"))
    assert (found.weights_bytes, found.cache_bytes) == (weights, 2 * 100 * 16 * 2)


def test_a_broken_checkpoint_has_no_footprint(checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 20)
    assert footprint(checkpoint, Profile()) is None
    (checkpoint / "model.safetensors").unlink()
    assert footprint(checkpoint, Profile()) is None


def test_doctor_says_what_would_run_where_and_that_it_fits(checkpoint, capfd):
    assert cli.run(["doctor", "--json", "--model", str(checkpoint)]) == 0
    report = json.loads(capfd.readouterr().out)
    run = report["would_run"]
    assert (run["model_path"], run["model_origin"], run["profile"]) == (
        str(checkpoint),
        "--model",
        "nano-cpu",
    )
    assert run["fits"] is True
    assert run["weights_bytes"] == 2 * 1290
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
