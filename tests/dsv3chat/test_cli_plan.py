"""`dsv3chat plan`: what a person learns of a model from its config.json alone, and every wrong flag."""

from __future__ import annotations

import json
import re

import pytest

from dsv3chat import cli
from engine.planner.known import KNOWN_CONFIGS
from tests.engine.checkpoints import random_config

GIVEN = [
    "--ram", "128GiB", "--ram-bandwidth", "80", "--disk-bandwidth", "7", "--vram", "24GiB", "--gpu-bandwidth", "1000",
]  # fmt: skip


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory):
    path = tmp_path_factory.mktemp("DeepSeek-V3") / "config.json"
    path.write_text(json.dumps(KNOWN_CONFIGS["deepseek-ai/DeepSeek-V3"]))
    return str(path)


def test_the_articles_profile_is_refused_with_sizes_the_costliest_rule_and_a_profile_that_fits(
    deepseek, capfd
):
    assert cli.run(["plan", "--model", deepseek, "--profile", "article-4090", "--rules", *GIVEN]) == 4
    out = capfd.readouterr().out
    assert "671.0e9 parameters" in out
    assert "70.3 kB" in out
    assert re.search(
        r"cuda:0 needs 14[34]\.\d GB, there are 25\.8 GB", out
    )  # 142.8 GB of weights, the rest is an estimate
    assert "the rule 'model.layers.16-55' (line 14), 467.7 GB on RAM in int8" in out
    assert "nearest profile that fits: rtx4090-128gb" in out
    rules = [line for line in out.splitlines() if line.startswith("model.layers.")]
    assert [line.split()[0] for line in rules] == [
        "model.layers.0-15", "model.layers.16-55", "model.layers.56-60",
    ]  # fmt: skip


def test_a_missing_gpu_is_named_as_the_reason(deepseek, capfd):
    given = [*GIVEN[:6], "--vram", "0"]
    assert cli.run(["plan", "--model", deepseek, "--profile", "article-4090", "--json", *given]) == 4
    document = json.loads(capfd.readouterr().out)
    short = {each["device"]: each for each in document["shortfalls"]}
    assert set(short) == {"cpu", "cuda:0"}
    assert document["fits"] is False
    assert document["remedies"]["costliest_rule"]["match"] == "model.layers.16-55"


def test_what_fits_is_said_with_a_range_of_speed(deepseek, capfd):
    assert cli.run(["plan", "--model", deepseek, "--profile", "rtx4090-128gb", *GIVEN]) == 0
    out = capfd.readouterr().out
    assert "It fits." in out
    assert "Expected: decode 0.88 to 1.7 tok/s" in out


def test_a_small_models_bytes_are_readable(tmp_path, capfd):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(random_config()))
    assert cli.run(["plan", "--model", str(path), *GIVEN]) == 0
    out = capfd.readouterr().out
    assert out.startswith("model    tiny: ")
    assert "310.0 MB" in out
    assert "0.00 GB" not in out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--vram", "24"], "expected a size with its unit, such as 24GiB"),
        (["--ram-bandwidth", "0"], "expected GB/s above 0"),
        (["--profile", "article-4099"], "nearest known: article-4090"),
        (["--set", "cache_lens=100"], "expected at least"),
        (["--set", "cache_len=100"], "nearest known: cache_lens"),
        (["--model", "absent.json"], "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(flags, words, capfd):
    assert cli.run(["plan", *flags]) == 2
    assert words in capfd.readouterr().err
