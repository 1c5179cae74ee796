"""`dsv3chat convert`: what it prints, refuses and returns; the conversion itself is tested with the engine."""

import errno
import json
import os
import signal

import pytest

from dsv3chat import cli, exit_codes
from dsv3chat.convert_run import Pace, duration
from dsv3chat.plain_output import Narrator
from engine import LoadProgress
from engine.convert import shard_file
from tests.engine.checkpoints import random_config, write_checkpoint


@pytest.fixture
def source(tmp_path):
    write_checkpoint(tmp_path / "source", random_config(mtp=1))
    return tmp_path / "source"


def test_a_conversion_reports_formats_bytes_and_errors(source, tmp_path, capfd):
    out = tmp_path / "out"
    assert cli.run(["convert", str(source), str(out), "--format", "int8", "--verify"]) == 0
    printed = capfd.readouterr()
    assert "int8 in groups of 128: " in printed.out
    assert "relative RMS error" in printed.out
    assert "MTP layer 3" in printed.err
    assert "converting · " in printed.err
    assert "\x1b" not in printed.err + printed.out
    assert cli.run(["convert", str(source), str(out), "--format", "int8"]) == 0
    assert "finished already; nothing was converted" in capfd.readouterr().out


def test_the_report_as_json_is_the_only_thing_on_standard_output(source, tmp_path, capfd):
    arguments = ["convert", str(source), str(tmp_path / "out"), "--json", "--verify", "--workers", "1"]
    assert cli.run([*arguments, "--group-size", "32", "--fit", "rtn", "--shard-size", "60 kB"]) == 0
    report = json.loads(capfd.readouterr().out)
    names = {fmt["name"] for fmt in report["conversion"]["formats"]}
    assert "int4 in groups of 32" in names
    assert report["conversion"]["num_shards"] > 2
    assert report["verification"]["worst"][0]["relative_rms"] > 0


def test_a_profile_gives_the_formats_wherever_it_would_put_them(source, tmp_path, capfd):
    profile = tmp_path / "mine.yaml"
    profile.write_text(
        "defaults: {device: 'cuda:0', precision: int8}\n"
        "optimization_rules:\n  - {match: model.layers.*.mlp.experts, device: disk, precision: int4}\n"
    )
    assert cli.run(["convert", str(source), str(tmp_path / "out"), "--profile", str(profile)]) == 0
    printed = capfd.readouterr().out
    assert "int4 in groups of 64" in printed
    assert "int8 in groups of 128" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--device", "cuda"], "--device cuda is not built"),
        (["--profile", "nano-int4", "--format", "int4"], "--format and --profile exclude each other"),
        (["--profile", "nano-int4", "--group-size", "64"], "--group-size and --profile exclude each other"),
        (["--format", "fp8", "--group-size", "64"], "means nothing for fp8"),
        (["--shard-size", "0"], "less than one byte"),
        (["--shard-size", "5 apples"], "is no size"),
        (["--shard-size", "inf"], "is no size"),
        (["--workers", "0"], "--workers"),
        (["--format", "int3"], "int3"),
    ],
)
def test_flags_without_meaning_are_refused_before_anything_is_written(
    source, tmp_path, capfd, flags, message
):
    assert cli.run(["convert", str(source), str(tmp_path / "out"), *flags]) == exit_codes.USAGE
    assert message in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_full_disk_ends_with_its_exit_code_and_in_json_where_asked(source, tmp_path, capfd, monkeypatch):
    def full(descriptor, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shard_file.os, "pwrite", full)
    assert cli.run(["convert", str(source), str(tmp_path / "out"), "--json"]) == exit_codes.USAGE
    report = json.loads(capfd.readouterr().out)
    assert "No space left on device" in report["error"]["message"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, exit_codes.INTERRUPTED), (signal.SIGTERM, exit_codes.TERMINATED)]
)
def test_a_signal_ends_it_in_order_and_the_same_command_goes_on(
    source, tmp_path, capfd, monkeypatch, number, code
):
    arguments = ["convert", str(source), str(tmp_path / "out"), "--format", "int8", "--shard-size", "60kB"]
    write = shard_file.ShardFile.write
    sent = []

    def signalling(self, part, tensor):
        if "layers.2.self_attn" in part.name and not sent:
            sent.append(os.kill(os.getpid(), number))
        write(self, part, tensor)

    monkeypatch.setattr(shard_file.ShardFile, "write", signalling)
    assert cli.run(arguments) == code
    assert "the same command goes on" in capfd.readouterr().err
    assert not list((tmp_path / "out.partial").glob("*.tmp"))
    assert cli.run(arguments) == 0
    assert "finished before" in capfd.readouterr().out


def test_progress_says_bytes_rate_and_time_left(capfd, monkeypatch):
    now = iter([100.0, 110.0, 110.1])
    monkeypatch.setattr("dsv3chat.convert_run.time.monotonic", lambda: next(now))
    pace = Pace(Narrator(redraws=False), redraws=False)
    total = 10_000_000_000
    pace.show(LoadProgress("converting", 2_000_000_000, total, "shard 1 of 2"))
    pace.show(LoadProgress("converting", 4_000_000_000, total, "shard 1 of 2"))
    pace.show(LoadProgress("converting", 4_000_000_001, total, "shard 1 of 2"))  # too soon for a line
    assert capfd.readouterr().err.splitlines() == [
        "dsv3chat: converting · 2.00 of 10.00 GB · shard 1 of 2",
        "dsv3chat: converting · 4.00 of 10.00 GB · 200 MB/s · 30 s left · shard 1 of 2",
    ]


def test_durations_are_in_the_unit_that_fits():
    assert [duration(seconds) for seconds in (0.4, 59, 61, 7500)] == ["0 s", "59 s", "1 min", "2 h 5 min"]
