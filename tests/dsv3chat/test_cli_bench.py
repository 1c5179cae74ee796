"""`dsv3chat bench`: tables and JSON, what is refused with which exit code, and one tiny shape through the whole of it."""

import json
import os
import signal

import pytest

from dsv3chat import cli
from dsv3chat.bench_table import kernels_json, kernels_text, model_json, model_text
from engine import (
    BenchmarkTask,
    ChunkSpeed,
    KernelBenchmark,
    KernelSpeed,
    ModelBenchmark,
    ModelSpeed,
    NotMeasured,
)
from engine.bandwidth import RamRate
from engine.benchmark import model as measuring
from engine.benchmark.values import ModelSamples
from tests.engine.checkpoints import random_config

KEYS = {
    "profile", "load_seconds", "prefill_tokens_per_s", "decode_tokens_per_s", "bytes_per_token", "gb_per_s",
    "share_of_bandwidth", "peak_memory_bytes", "samples",
}  # fmt: skip
SPEED = ModelSpeed(
    "int4", 6.25, 310.0, 62.5, 93_000_000, 5.8125, 0.4, 1_500_000_000, ModelSamples((300.0, 310.0, 320.0), (61.0, 62.5, 70.0), (14.5e9,))
)  # fmt: skip
STOPPED = ModelSpeed("evil\x1b[2J\nname", 1.0, None, None, 1000, None, None, 5, ModelSamples())
FOUND = ModelBenchmark(
    "nano", True, BenchmarkTask(depth=4096), 2, "native avx2", (SPEED, STOPPED), (ChunkSpeed("int4", 256, 1.234, 9.9, 202.0),),
    (NotMeasured("large", "needs 500 GiB"),), ("a note",), False,
)  # fmt: skip


def test_the_table_says_what_was_measured_and_what_was_not():
    text = model_text(FOUND)
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert cells[2] == ["int4", "6.2", "310 (300–320)", "62.5 (61.0–70.0)", "93.0", "5.8", "40 %", "1.50"]
    assert cells[3] == ["evil␛[2J name", "1.0", "-", "-", "0.0", "-", "-", "0.00"]
    assert cells[6] == ["int4", "256", "1.23", "9.90", "202"]
    assert "nano, random weights: a prompt of 2000 tokens, 128 new ones behind 4096 tokens; 2 threads" in text
    assert "large was not measured: needs 500 GiB" in text
    assert "\x1b" not in text


def test_json_has_one_object_a_profile_with_exactly_the_promised_keys():
    document = json.loads(json.dumps(model_json(FOUND)))
    assert [set(profile) for profile in document["profiles"]] == [KEYS, KEYS]
    assert document["profiles"][0]["samples"]["decode_tokens_per_s"] == [61.0, 62.5, 70.0]
    assert document["complete"] is False
    assert document["depth"] == 4096


def test_kernels_have_a_table_and_json():
    row = KernelSpeed("linear", "nano", "int4", 1, 40e-6, 31e-6, 50e-6, 186_624, 4.6656, 16.6, 0.33)
    many = KernelSpeed("linear", "nano", "int4", 128, 1e-3, 1e-3, 1e-3, 186_624, 0.18, 85.0, None)
    found = KernelBenchmark(2, "native avx2", 14.5e9, (row, many), True)
    lines = kernels_text(found).splitlines()
    assert "memory is read at 14.5 GB/s" in lines[0]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines[4:]]
    assert cells[0] == ["linear", "nano", "int4", "1", "40", "31–50", "0.2", "4.7", "17", "33 %"]
    assert cells[1][-1] == "-"
    assert json.loads(json.dumps(kernels_json(found)))["rows"][0]["kernel"] == "linear"


@pytest.fixture
def config_file(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "measure_ram", lambda threads: RamRate(1e9, threads, 1))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(random_config()))
    return path


ASKED = ("--random", "--prompt", "32", "--new", "4", "--runs", "1")


def test_a_shape_goes_through_the_whole_of_it(config_file, capfd):
    profiles = ("--profile", "nano-cpu,nano-int8", "--chunk-size", "16,32")
    assert cli.run(["bench", "model", str(config_file), *ASKED, *profiles, "--layers", "1+1", "--json"]) == 0
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert [profile["profile"] for profile in document["profiles"]] == ["nano-cpu", "nano-int8"]
    assert [set(profile) for profile in document["profiles"]] == [KEYS, KEYS]
    assert all(profile["decode_tokens_per_s"] > 0 for profile in document["profiles"])
    assert [(chunk["profile"], chunk["chunk_size"]) for chunk in document["chunks"]] == [
        ("nano-cpu", 16), ("nano-cpu", 32), ("nano-int8", 16), ("nano-int8", 32),
    ]  # fmt: skip
    assert "filling random weights" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--profile", "nano-cpu,nowhere"), "nowhere"),
        (("--profile", "nano-cpu,,nano-int8"), "empty name"),
        (("--profile", "nano-cpu,nano-cpu"), "two profiles"),
        (("--prompt", "20000"), "cache_lens"),
        (("--chunk-size", "16,x"), "'x' is no number of tokens"),
        (("--layers", "a+2"), "no number of layers"),
        (("--layers", "9"), "has 3"),
        (("--new", "1"), "--new"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(config_file, capfd, arguments, message):
    config_file.write_text(json.dumps(random_config(max_position_embeddings=100_000)))
    assert cli.run(["bench", "model", str(config_file), *ASKED, *arguments]) == 2
    out, err = capfd.readouterr()
    assert message in err
    assert "filling" not in err
    assert out == ""


def test_layers_need_a_shape_and_another_architecture_is_refused(config_file, capfd):
    assert cli.run(["bench", "model", str(config_file.parent), "--layers", "2"]) == 2
    assert "add --random" in capfd.readouterr().err
    config_file.write_text(json.dumps(random_config(architectures=["LlamaForCausalLM"], model_type="llama")))
    assert cli.run(["bench", "model", str(config_file), *ASKED]) == 2
    assert "LlamaForCausalLM" in capfd.readouterr().err


def test_what_does_not_fit_is_named_beside_what_was_measured(config_file, tmp_path, capfd):
    large = tmp_path / "large.yaml"
    large.write_text("name: large\ndefaults:\n  device: cpu\n  precision: bf16\ncache_lens: 2000000000\n")
    code = cli.run(["bench", "model", str(config_file), *ASKED, "--profile", f"{large},nano-int8"])
    out = capfd.readouterr().out
    assert code == 4
    assert "large was not measured" in out
    assert "| nano-int8" in out


def test_ctrl_c_keeps_what_was_measured(config_file, capfd, monkeypatch):
    """In the middle of the second profile."""
    report = measuring._Measuring._report

    def interrupting(self, stage, *counts):
        if self.name == "nano-int8" and stage == "measuring":
            os.kill(os.getpid(), signal.SIGINT)
        report(self, stage, *counts)

    monkeypatch.setattr(measuring._Measuring, "_report", interrupting)
    code = cli.run(["bench", "model", str(config_file), *ASKED, "--profile", "nano-cpu,nano-int8", "--json"])
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert code == 130
    assert document["complete"] is False
    assert [profile["decode_tokens_per_s"] is None for profile in document["profiles"]] == [False, True]
    assert "interrupted" in err
