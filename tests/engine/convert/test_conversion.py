"""A converted folder answers as quantizing at load does, bit for bit, and is made again byte for byte after any stop."""

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from engine import (
    CheckpointError,
    ConversionError,
    Engine,
    LoadCancelledError,
    Profile,
    Rule,
    UnsupportedModelError,
    convert_checkpoint,
)
from engine.convert import run, shard_file
from engine.convert.record import RECORD
from engine.weights.checkpoint import Checkpoint
from tests.engine.checkpoints import random_config, write_checkpoint

ROOM = Profile(cache_lens=256, max_batch_size=1, chunk_size=64, max_new_tokens=64)
SEQUENCE = [int(i) for i in torch.randint(3, 160, (48,), generator=torch.Generator().manual_seed(5))]
SMALL = 60_000  # bytes of a shard: the test's models, of some 200 kB, get several
EXPERTS = "model.layers.*.mlp.experts"

MIXED = replace(
    ROOM,
    precision="int8",
    rules=(
        Rule("model.layers.2", precision="bf16"),
        Rule("model.layers.*.self_attn", precision="fp8"),
        Rule(EXPERTS, precision="int4", group_size=32),
    ),
)
CASES = {
    "bf16 from fp8": ({"fp8_block": (32, 48)}, replace(ROOM, precision="bf16")),
    "fp8": ({}, replace(ROOM, precision="fp8", rules=(Rule("lm_head", precision="bf16"),))),
    "fp8 with its head": ({}, replace(ROOM, precision="fp8")),
    "int8": ({}, replace(ROOM, precision="int8")),
    "int4": ({}, replace(ROOM, precision="int4")),
    "int4, round to nearest": ({}, replace(ROOM, precision="int4", fit="rtn")),
    "int4 in groups of 32, odd widths, from fp8 blocks": (
        {"fp8_block": (32, 48), "moe_intermediate_size": 39, "hidden_size": 75, "kv_lora_rank": 33},
        replace(ROOM, precision="int4", group_size=32),
    ),
    "mixed, from fp8 blocks": ({"fp8_block": (32, 32)}, MIXED),
    "an embedding in int4, tied": (
        {"tied": True},
        replace(ROOM, rules=(Rule("model.embed_tokens", precision="int4"), Rule("model", precision="int8"))),
    ),
    "an embedding in fp8": ({}, replace(ROOM, rules=(Rule("model.embed_tokens", precision="fp8"),))),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """bf16 with an MTP layer, in two shards, with what a checkpoint has beside its weights."""
    folder = tmp_path_factory.mktemp("models") / "source"
    write_checkpoint(folder, random_config(mtp=1), shards=2)
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>"}')
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "generation_config.json").write_text('{"temperature": 0.6}')
    (folder / "figures").mkdir()
    return folder


def score(folder, profile):
    with Engine.open(folder, profile) as engine:
        found = engine.score(SEQUENCE)
    return found.logprobs, found.argmax


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", CASES)
def test_a_converted_folder_scores_as_quantizing_at_load_does(tmp_path, name):
    options, profile = CASES[name]
    write_checkpoint(tmp_path / "source", random_config(**options))
    convert_checkpoint(tmp_path / "source", tmp_path / "out", profile, shard_bytes=SMALL, workers=2)
    expected = score(tmp_path / "source", profile)
    assert score(tmp_path / "out", ROOM) == expected  # native: as stored
    assert score(tmp_path / "out", profile) == expected  # asked for: not quantized again
    parameters = Checkpoint.open(tmp_path / "source").num_parameters
    assert Checkpoint.open(tmp_path / "out").num_parameters == parameters


@pytest.mark.parametrize("name", ["int4", "int8", "fp8", "bf16"])
def test_every_tensor_can_be_read_by_the_safetensors_library(source, tmp_path, name):
    convert_checkpoint(source, tmp_path / "out", name, shard_bytes=SMALL)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    found = {}
    for shard in sorted(set(index["weight_map"].values())):
        with safe_open(tmp_path / "out" / shard, "pt") as file:
            found |= {key: (file.get_tensor(key), shard) for key in file.keys()}  # noqa: SIM118
    assert {key: shard for key, (_, shard) in found.items()} == index["weight_map"]
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor, _ in found.values())


def test_pure_fp8_is_described_exactly_as_deepseek_does(source, tmp_path):
    convert_checkpoint(source, tmp_path / "out", "fp8")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["quantization_config"] == {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    }
    tensors = Checkpoint.open(tmp_path / "out").tensors
    assert tensors["model.layers.1.mlp.experts.3.up_proj.weight_scale_inv"].dtype == "F32"
    assert tensors["lm_head.weight"].dtype == tensors["model.embed_tokens.weight"].dtype == "BF16"


def test_formats_are_described_in_few_rules_and_read_back(source, tmp_path):
    convert_checkpoint(source, tmp_path / "out", MIXED)
    quantization = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert (quantization["quant_method"], quantization["fit"]) == ("dsv3chat", "hqq")
    assert {"modules": "lm_head", "format": "int8", "group_size": 128} in quantization["formats"]
    assert {
        "modules": "model.layers.1.mlp.experts.*.up_proj",
        "format": "int4",
        "group_size": 32,
    } in quantization["formats"]
    assert {"modules": "model.layers.0-1.self_attn.o_proj", "format": "fp8"} in quantization["formats"]
    formats = Checkpoint.open(tmp_path / "out").formats
    assert formats["model.layers.1.mlp.experts.7.up_proj.weight"].group_size == 32
    assert not [name for name in formats if name.startswith("model.layers.2.mlp")]


def test_mtp_layers_are_left_out_and_the_rest_of_the_folder_comes_along(source, tmp_path):
    report = convert_checkpoint(source, tmp_path / "out", "int8")
    assert any("MTP layer 3" in note for note in report.notes)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["num_nextn_predict_layers"] == 0
    opened = Checkpoint.open(tmp_path / "out")
    assert not opened.notes
    assert not [name for name in opened.tensors if name.startswith("model.layers.3.")]
    for name in ("tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (source / name).read_bytes()


def test_a_report_counts_what_is_in_the_files(source, tmp_path):
    report = convert_checkpoint(source, tmp_path / "out", "int4", shard_bytes=SMALL)
    shards = list((tmp_path / "out").glob("*.safetensors"))
    assert report.num_shards == len(shards) > 2
    assert report.nbytes == sum(path.stat().st_size for path in shards)
    tensors = Checkpoint.open(tmp_path / "out").tensors
    assert sum(fmt.nbytes for fmt in report.formats) == sum(info.nbytes for info in tensors.values())
    assert all(path.stat().st_size <= SMALL + 20_000 for path in shards)  # and a header


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"precision": "int8"}, "as int4 in groups of 64 and quantized again to int8 in groups of 128"),
        ({"precision": "int4", "group_size": 32}, "quantized again to int4 in groups of 32"),
        ({"precision": "bf16"}, "as int4 in groups of 64 and widened to bf16"),
        ({"precision": "int4"}, None),
        ({}, None),
    ],
)
def test_a_profile_of_other_formats_is_obeyed_and_said(source, tmp_path, asked, words):
    convert_checkpoint(source, tmp_path / "out", "int4")
    with Engine.open(tmp_path / "out", replace(ROOM, **asked)) as engine:
        notes = [note for note in engine.info.notes if "are stored as" in note]
    assert len(notes) == (words is not None)
    assert words is None or words in notes[0]


def test_places_of_a_profile_play_no_part(source, tmp_path):
    profile = replace(
        ROOM,
        device="cuda:0",
        precision="int8",
        rules=(Rule(EXPERTS, device="disk", precision="int4"), Rule("lm_head", device="cuda:1")),
    )
    convert_checkpoint(source, tmp_path / "out", profile)
    convert_checkpoint(
        source, tmp_path / "other", replace(ROOM, precision="int8", rules=(Rule(EXPERTS, precision="int4"),))
    )
    assert contents(tmp_path / "out") == contents(tmp_path / "other")


def test_the_number_of_workers_changes_no_byte(source, tmp_path):
    for workers in (1, 3):
        convert_checkpoint(source, tmp_path / str(workers), "int4", workers=workers, shard_bytes=SMALL)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


KILLED = """
import os, signal, sys
from pathlib import Path
from engine import convert_checkpoint
left = int(sys.argv[3])
def on_progress(progress):
    global left
    left -= progress.stage == sys.argv[4]
    if left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
convert_checkpoint(Path(sys.argv[1]), Path(sys.argv[2]), "int4", shard_bytes=60_000, workers=2, on_progress=on_progress)
"""


@pytest.mark.parametrize(
    ("events", "stage"), [(3, "converting"), (45, "converting"), (1, "writing the rest")]
)
def test_after_kill_9_the_same_call_makes_the_same_bytes_and_redoes_no_finished_shard(
    source, tmp_path, events, stage
):
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(out), str(events), stage], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    written = {path.name: path.stat().st_mtime_ns for path in partial.glob("*.safetensors")}
    assert bool(written) == (events != 3)  # the first kill comes in the middle of the first shard
    report = convert_checkpoint(source, out, "int4", shard_bytes=SMALL)
    assert written.items() <= {path.name: path.stat().st_mtime_ns for path in out.iterdir()}.items()
    assert report.num_kept == len(written)
    convert_checkpoint(source, tmp_path / "undisturbed", "int4", shard_bytes=SMALL)
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert not partial.exists()


def test_a_stop_keeps_finished_shards_and_a_damaged_one_is_made_again(source, tmp_path):
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    convert_checkpoint(source, tmp_path / "undisturbed", "int8", shard_bytes=SMALL)
    finished: set[str] = set()

    def on_progress(progress):
        finished.update(path.name for path in partial.glob("*.safetensors"))

    with pytest.raises(LoadCancelledError, match="the same command goes on"):
        convert_checkpoint(
            source,
            out,
            "int8",
            shard_bytes=SMALL,
            on_progress=on_progress,
            cancelled=lambda: len(finished) >= 2,
        )
    shards = sorted(partial.glob("*.safetensors"))
    assert len(shards) == 2
    assert not list(partial.glob("*.tmp"))
    flipped = bytearray(shards[0].read_bytes())
    flipped[-1] ^= 1
    shards[0].write_bytes(flipped)
    report = convert_checkpoint(source, out, "int8", shard_bytes=SMALL)
    assert report.num_kept == 1
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_other_settings_or_a_changed_source_do_not_go_on_with_a_begun_conversion(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    write_checkpoint(source, random_config())
    with pytest.raises(LoadCancelledError):
        convert_checkpoint(source, out, "int8", cancelled=lambda: True)
    with pytest.raises(ConversionError, match="other settings"):
        convert_checkpoint(source, out, "int4")
    os.utime(source / "model.safetensors", ns=(1, 1))
    with pytest.raises(ConversionError, match="changed since"):
        convert_checkpoint(source, out, "int8")


def test_a_finished_conversion_is_left_as_it_is(source, tmp_path):
    out = tmp_path / "out"
    convert_checkpoint(source, out, "int8", shard_bytes=SMALL)
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    report = convert_checkpoint(source, out, "int8", shard_bytes=SMALL)
    assert (report.num_kept, report.converted_bytes) == (report.num_shards, 0)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(ConversionError, match="other settings"):
        convert_checkpoint(source, out, "int4")
    next(out.glob("*.safetensors")).unlink()
    with pytest.raises(ConversionError, match="missing or cut"):
        convert_checkpoint(source, out, "int8", shard_bytes=SMALL)


def test_a_disk_that_fills_on_the_way_leaves_nothing_under_a_final_name(source, tmp_path, monkeypatch):
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    written = []
    write = os.pwrite

    def full(descriptor, data, offset):
        written.append(len(data))
        if len(written) > 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, offset)

    monkeypatch.setattr(shard_file.os, "pwrite", full)
    with pytest.raises(ConversionError, match="No space left on device; make room"):
        convert_checkpoint(source, out, "int4", shard_bytes=10**9, workers=2)
    assert not out.exists()
    assert [path.name for path in partial.iterdir()] == [RECORD]
    monkeypatch.undo()
    convert_checkpoint(source, out, "int4", shard_bytes=10**9)
    convert_checkpoint(source, tmp_path / "undisturbed", "int4", shard_bytes=10**9)
    assert contents(out) == contents(tmp_path / "undisturbed")


def test_a_disk_without_room_is_refused_before_anything_is_computed(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ConversionError, match=r"needs [\d,]+ bytes more, 50,000 are free"):
        convert_checkpoint(source, tmp_path / "out", "int4")
    assert [path.name for path in (tmp_path / "out.partial").iterdir()] == [RECORD]


def test_places_that_hold_something_else_are_refused_and_untouched(source, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("years")
    with pytest.raises(ConversionError, match="holds something else"):
        convert_checkpoint(source, full, "int4")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConversionError, match="holds something else"):
        convert_checkpoint(source, tmp_path / "file", "int4")
    full.rename(tmp_path / "new.partial")
    with pytest.raises(ConversionError, match="holds something else"):
        convert_checkpoint(source, tmp_path / "new", "int4")
    assert (tmp_path / "new.partial" / "thesis.txt").read_text() == "years"
    for inside in (source, source / "int4", source.parent, tmp_path / "x.partial"):
        with pytest.raises(ConversionError):
            convert_checkpoint(source, inside, "int4")
    assert not (source / "int4").exists()
    (tmp_path / "empty").mkdir()
    convert_checkpoint(source, tmp_path / "empty", "int4")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_two_conversions_into_one_folder_do_not_meet(source, tmp_path):
    partial = tmp_path / "out.partial"
    partial.mkdir()
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ConversionError, match="another process"):
            convert_checkpoint(source, tmp_path / "out", "int4")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("first", ["int4", "bf16"])
def test_a_conversion_is_not_converted_again(source, tmp_path, first):
    convert_checkpoint(source, tmp_path / "out", first)
    with pytest.raises(ConversionError, match="convert the original"):
        convert_checkpoint(tmp_path / "out", tmp_path / "again", "int8")


def test_settings_without_meaning_are_refused(source, tmp_path):
    with pytest.raises(ConversionError, match="means nothing for fp8"):
        convert_checkpoint(source, tmp_path / "out", "fp8", group_size=64)
    with pytest.raises(ConversionError, match="holds nothing"):
        convert_checkpoint(source, tmp_path / "out", "fp8", shard_bytes=0)
    assert not list(tmp_path.iterdir())


def test_values_that_are_no_numbers_end_it_with_the_tensor_s_name(tmp_path):
    write_checkpoint(tmp_path / "source", random_config())
    checkpoint = Checkpoint.open(tmp_path / "source")
    name = "model.layers.1.mlp.experts.2.down_proj.weight"
    info = checkpoint.tensors[name]
    with (tmp_path / "source" / info.shard).open("r+b") as file:
        file.seek(info.offset + info.nbytes - 2)
        file.write(b"\xff\x7f")  # a NaN of bfloat16
    with pytest.raises(CheckpointError, match=name):
        convert_checkpoint(tmp_path / "source", tmp_path / "out", "int4")
    assert not list((tmp_path / "out.partial").glob("*.safetensors*"))


def edit_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config["quantization_config"])
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda q: q.update(version=2), UnsupportedModelError, "version is 2"),
        (lambda q: q.pop("formats"), CheckpointError, "formats is missing"),
        (
            lambda q: q["formats"].clear(),
            CheckpointError,
            r"q_a_proj.weight is \[24, 32\], expected \[24, 64\]",
        ),
        (
            lambda q: q["formats"][0].update(format="int3"),
            CheckpointError,
            "format is .int3., expected one of",
        ),
        (lambda q: q["formats"][0].update(group_size=7), CheckpointError, "group_size is 7"),
        (lambda q: q["formats"][0].update(modules="model..x"), CheckpointError, "modules is"),
        (lambda q: q["formats"][0].update(group_size=32), CheckpointError, "weight_scale is BF16"),
        (lambda q: q["formats"][0].update(format="int8"), CheckpointError, "is U8"),
    ],
)
def test_a_description_that_does_not_fit_the_files_is_refused(source, tmp_path, change, error, message):
    convert_checkpoint(source, tmp_path / "out", "int4")
    edit_config(tmp_path / "out", change)
    with pytest.raises(error, match=message):
        Checkpoint.open(tmp_path / "out")


def test_scales_that_are_no_numbers_are_refused_at_load(source, tmp_path):
    convert_checkpoint(source, tmp_path / "out", "int4")
    info = Checkpoint.open(tmp_path / "out").tensors["lm_head.weight_zero"]
    with (tmp_path / "out" / info.shard).open("r+b") as file:
        file.seek(info.offset)
        file.write(b"\x00\x7e")  # a NaN of float16
    with pytest.raises(CheckpointError, match=r"lm_head\.weight: .* convert"):
        Engine.open(tmp_path / "out", ROOM)
