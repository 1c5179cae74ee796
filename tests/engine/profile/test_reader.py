"""The strict reader: what it accepts, and what it says of everything else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ProfileError
from engine.paths import shipped_profiles_dir
from engine.profile import Profile, Rule, parse_profile, read_profile
from engine.profile.built import EVERYTHING, NOT_BUILT
from engine.profile.keys import TOP_LEVEL
from engine.sampling import SamplingParams

ARTICLE = """\
optimization_rules:
  - match: "model.layers.0-15"       # early layers on the GPU
    device: "cuda:0"
    precision: "int4"
  - match: "model.layers.16-55"      # middle layers on the CPU
    device: "cpu"
    precision: "int8"
  - match: "model.layers.56-60"
    device: "cuda:0"
    precision: "fp8"
"""

FULL = """\
name: mine
description: |
  two
  lines
model: nano
defaults: {device: "cuda:1", precision: int4, group_size: 64, fit: rtn}
compute: bfloat16
cache_lens: 16_384
max_batch_size: 2
chunk_size: 128
max_new_tokens: 512
kv_precision: fp8
sampling:
  temperature: 1e-1
  top_p: 0.9
  top_k: 40
  min_p: .05
  repetition_penalty: 1
  seed: 7
threads: 3
optimization_rules:
  - {match: model.layers.3-60.mlp.experts, device: disk, group_size: 32, gpu_resident: auto}
"""


def refusal(text: str, source: Path | None = None) -> str:
    with pytest.raises(ProfileError) as caught:
        parse_profile(text, source)
    return str(caught.value)


def test_the_articles_file_is_read_as_it_stands() -> None:
    profile = parse_profile(ARTICLE, None)
    assert profile.rules == (
        Rule("model.layers.0-15", "cuda:0", "int4", line=2),
        Rule("model.layers.16-55", "cpu", "int8", line=5),
        Rule("model.layers.56-60", "cuda:0", "fp8", line=8),
    )


def test_every_key_reaches_its_field() -> None:
    profile = parse_profile(FULL, Path("p.yaml"), EVERYTHING)
    assert profile == Profile(
        name="mine",
        description="two\nlines\n",
        model="nano",
        device="cuda:1",
        precision="int4",
        group_size=64,
        fit="rtn",
        rules=(Rule("model.layers.3-60.mlp.experts", "disk", None, 32, "auto", line=22),),
        compute="bfloat16",
        cache_lens=16384,
        max_batch_size=2,
        chunk_size=128,
        max_new_tokens=512,
        kv_precision="fp8",
        sampling=SamplingParams(
            temperature=0.1, top_p=0.9, top_k=40, min_p=0.05, repetition_penalty=1.0, seed=7
        ),
        threads=3,
        source=Path("p.yaml"),
    )


def test_an_unnamed_profile_is_called_as_its_file() -> None:
    assert parse_profile("model: nano", Path("dir/laptop.yaml")).name == "laptop"


def test_null_is_not_said_where_a_key_may_be_left_open() -> None:
    profile = parse_profile("model:\nthreads: null\nsampling: {seed: ~}")
    assert (profile.model, profile.threads, profile.sampling.seed) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "start", "says"),
    [
        ("model: nano\ncache_len: 9", "p.yaml:2: cache_len: ", ["nearest known: cache_lens"]),
        ("sampling:\n  temprature: 1", "p.yaml:2: sampling.temprature: ", ["nearest known: temperature"]),
        ("defaults:\n  devise: cpu", "p.yaml:2: defaults.devise: ", ["nearest known: device"]),
        (
            "optimization_rules:\n  - match: a\n    precison: bf16",
            "p.yaml:3: optimization_rules[0].precison: ",
            ["nearest known: precision"],
        ),
        ("a: 1\n<<: {b: 1}", "p.yaml:1: a: ", ["unknown key"]),
        ("<<: {cache_lens: 9000}", "p.yaml:1: <<: ", ["unknown key"]),
        ("? [a]\n: 1", "p.yaml:1: key: ", ["a list", "expected a name"]),
        ("threads: 1\nmodel: a\nthreads: 2", "p.yaml:3: threads: ", ["twice", "line 1"]),
        ("sampling: {seed: 1,\n seed: 1}", "p.yaml:2: sampling.seed: ", ["twice", "line 1"]),
        ('cache_lens: "9000"', "p.yaml:1: cache_lens: ", ["the text '9000'", "whole number"]),
        ("cache_lens: [9000]", "p.yaml:1: cache_lens: ", ["a list", "one value"]),
        ("cache_lens:", "p.yaml:1: cache_lens: ", ["found nothing", "whole number"]),
        ("cache_lens: 010000", "p.yaml:1: cache_lens: ", ["'010000'"]),
        ("cache_lens: 0x4000", "p.yaml:1: cache_lens: ", ["'0x4000'"]),
        ("cache_lens: 9000.0", "p.yaml:1: cache_lens: ", ["whole number"]),
        (f"cache_lens: {'9' * 5000}", "p.yaml:1: cache_lens: ", ["whole number"]),
        ("cache_lens: -1", "p.yaml:1: cache_lens: ", ["found -1", "from 1"]),
        ("max_batch_size: 0", "p.yaml:1: max_batch_size: ", ["found 0"]),
        ("threads: true", "p.yaml:1: threads: ", ["'true'"]),
        ("model: 5", "p.yaml:1: model: ", ["reads as int", "quotes"]),
        ("model: on", "p.yaml:1: model: ", ["reads as bool", "quotes"]),
        ('name: "a\\nb"', "p.yaml:1: name: ", ["one line"]),
        ('name: ""', "p.yaml:1: name: ", ["expected text"]),
        ("name: ~", "p.yaml:1: name: ", ["found nothing"]),
        ("compute: float16", "p.yaml:1: compute: ", ["float32, bfloat16"]),
        ("compute: BFloat16", "p.yaml:1: compute: ", ["nearest known: bfloat16"]),
        ("defaults: {precision: bf61}", "p.yaml:1: defaults.precision: ", ["nearest known: bf16"]),
        ("defaults: {device: cuda}", "p.yaml:1: defaults.device: ", ["nearest known: cuda:0"]),
        ("defaults: cpu", "p.yaml:1: defaults: ", ["'cpu'", "keys and values below it"]),
        ("sampling: {temperature: .nan}", "p.yaml:1: sampling.temperature: ", ["'.nan'"]),
        ("sampling: {temperature: -.inf}", "p.yaml:1: sampling.temperature: ", ["'-.inf'"]),
        ("sampling: {temperature: 1e999}", "p.yaml:1: sampling.temperature: ", ["finite"]),
        ("sampling: {temperature: -1}", "p.yaml:1: sampling.temperature: ", ["between 0"]),
        ("sampling: {top_p: 0}", "p.yaml:1: sampling.top_p: ", ["above 0"]),
        ("sampling: {min_p: 1.5}", "p.yaml:1: sampling.min_p: ", ["between"]),
        ("sampling: {repetition_penalty: 0}", "p.yaml:1: sampling.repetition_penalty: ", ["above 0"]),
        ("sampling: {seed: -3}", "p.yaml:1: sampling.seed: ", ["found -3"]),
        ("optimization_rules: {match: a}", "p.yaml:1: optimization_rules: ", ["a mapping", "a list"]),
        ("optimization_rules:", "p.yaml:1: optimization_rules: ", ["found nothing"]),
        ("optimization_rules: [a]", "p.yaml:1: optimization_rules[0]: ", ["'a'"]),
        ("optimization_rules:\n- device: cpu", "p.yaml:2: optimization_rules[0].match: ", ["no match"]),
        ("optimization_rules:\n- match: a", "p.yaml:2: optimization_rules[0]: ", ["decides nothing"]),
        (
            "optimization_rules:\n- match: a\n  device: cpu\n- device: cpu\n  match: layers.9-3",
            "p.yaml:5: optimization_rules[1].match: ",
            ["backwards", "3-9"],
        ),
        (
            "optimization_rules:\n- match: 're:('\n  device: cpu",
            "p.yaml:2: optimization_rules[0].match: ",
            ["not valid"],
        ),
        ("", "p.yaml:1: file: ", ["empty"]),
        ("# only a comment", "p.yaml:1: file: ", ["empty"]),
        ("\n- a", "p.yaml:2: file: ", ["found a list"]),
        ("nano", "p.yaml:1: file: ", ["'nano'"]),
        ("a: 1\nb: [", "p.yaml:2: not YAML: ", []),
        ("a: 1\n\tb: 2", "p.yaml:2: not YAML: ", []),
        ("a: 1\n---\nb: 2", "p.yaml:2: not YAML: ", []),
        ("a: 1\nb: \x01", "p.yaml:2: not YAML: ", ["U+0001"]),
        ('name: "\\UFFFFFFFF"', "p.yaml:1: not YAML: ", []),
        ("name: &a x\nmodel: *a", "p.yaml:1: not YAML: ", ["anchors"]),
        ("model: *a", "p.yaml:1: not YAML: ", ["aliases"]),
        ("name: !!python/object/apply:os.getcwd []", "p.yaml:1: not YAML: ", ["tags"]),
        ("name: !!int 5", "p.yaml:1: not YAML: ", ["tags"]),
        ("a: " + "[" * 5000, "p.yaml:1: not YAML: ", ["deep"]),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(text: str, start: str, says: list[str]) -> None:
    message = refusal(text, Path("p.yaml"))
    assert message.startswith(start)
    for part in says:
        assert part in message


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("defaults:\n  precision: int3", 2, "defaults.precision"),
        ("defaults: {precision: int2}", 1, "defaults.precision"),
        ("optimization_rules:\n- match: a\n  device: disk", 3, "optimization_rules[0].device"),
        ("optimization_rules:\n- match: a\n  gpu_resident: 8", 3, "optimization_rules[0].gpu_resident"),
        ("optimization_rules:\n- match: a\n  precision: int2", 3, "optimization_rules[0].precision"),
        ("endpoint: x", 1, "endpoint"),
    ],
)
def test_what_is_known_but_not_built_is_refused_by_name(text: str, line: int, key: str) -> None:
    message = refusal(text, Path("p.yaml"))
    assert message.startswith(f"p.yaml:{line}: {key}: ")
    assert NOT_BUILT in message


def test_the_articles_2048_is_refused_with_the_smallest_value_that_works() -> None:
    message = refusal(
        "model: nano\nmax_batch_size: 4\nmax_new_tokens: 1024\ncache_lens: 2048", Path("p.yaml")
    )
    assert message.startswith("p.yaml:4: cache_lens: found 2048")
    assert "at least 4096" in message
    assert parse_profile("max_batch_size: 4\nmax_new_tokens: 1024\ncache_lens: 4096").cache_lens == 4096


def test_the_capacity_check_uses_the_defaults_of_what_is_not_said() -> None:
    assert "at least 65536" in refusal("max_batch_size: 64", Path("p.yaml"))


def test_control_characters_of_a_file_stay_out_of_messages() -> None:
    message = refusal('"\\e[2J\\u009b": 1')
    assert "\x1b" not in message
    assert "\x9b" not in message


@pytest.mark.parametrize(
    ("data", "says"), [(b"model: nano\nname: \xff", ":2: file: "), (b"\xef\xbb\xbfmodel: 5", ":1: model: ")]
)
def test_bytes_are_utf_8_with_or_without_a_mark(tmp_path: Path, data: bytes, says: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(data)
    with pytest.raises(ProfileError, match=re.escape(f"{file}{says}")):
        read_profile(file)


def test_a_file_that_cannot_be_read_is_a_profile_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.yaml", Path("a\0b")):
        with pytest.raises(ProfileError, match="cannot be read"):
            read_profile(path)


def test_every_shipped_profile_is_read() -> None:
    files = sorted(shipped_profiles_dir().glob("*.yaml"))
    assert "nano-cpu" in [file.stem for file in files]
    for file in files:  # some are for what other builds can do
        profile = read_profile(file, EVERYTHING)
        assert profile.description
        assert profile.name == file.stem


def test_nano_cpu_holds_one_full_context_and_a_full_batch() -> None:
    profile = read_profile(shipped_profiles_dir() / "nano-cpu.yaml")
    assert (profile.name, profile.model) == ("nano-cpu", "nano")
    assert (profile.precision, profile.compute) == ("bf16", "bfloat16")
    assert profile.cache_lens >= 8192
    assert profile.sampling == SamplingParams()


def only_profile_errors(text: str) -> None:
    message = "p.yaml:1: read"
    try:
        result = parse_profile(text, Path("p.yaml"))
        assert result.cache_lens >= result.max_batch_size * result.max_new_tokens
    except ProfileError as error:
        message = str(error)
    assert re.match(r"p\.yaml:[1-9][0-9]*: .+", message)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.binary(max_size=4),
)
KEYS = st.one_of(
    st.sampled_from([*TOP_LEVEL, "match", "device", "precision", "seed", "top_p"]), st.text(max_size=8)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=4) | TREES)
def test_any_yaml_document_is_read_or_refused(tree: object) -> None:
    only_profile_errors(yaml.safe_dump(tree))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="-:[]{}&*!|>'\"%@`#,? \n\tab0\\xUue", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    only_profile_errors(text)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([ARTICLE, FULL, (shipped_profiles_dir() / "nano-cpu.yaml").read_text()]),
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 6), st.text(max_size=3)), min_size=1, max_size=4),
)
def test_a_damaged_profile_is_read_or_refused(text: str, edits: list[tuple[int, int, str]]) -> None:
    for at, length, insert in edits:
        text = text[:at] + insert + text[at + length :]
    only_profile_errors(text)
