"""Reading a conversion again: the errors are those of the definition, and a changed shard does not pass."""

import json

import pytest
import torch

from engine import ConversionError, LoadCancelledError, Profile, Rule, convert_checkpoint, verify_conversion
from engine.quant import formats
from engine.quant.matrix import Format
from engine.weights.checkpoint import Checkpoint
from tests.engine.checkpoints import random_config, write_checkpoint

PROFILE = Profile(precision="int8", rules=(Rule("model.layers.*.mlp.experts", precision="int4"),))


@pytest.fixture
def folders(tmp_path):
    """(original, conversion, float32 values of the original)."""
    values = write_checkpoint(tmp_path / "source", random_config(fp8_block=(32, 48)))
    convert_checkpoint(tmp_path / "source", tmp_path / "out", PROFILE, shard_bytes=60_000)
    return tmp_path / "source", tmp_path / "out", values


def test_errors_are_relative_rms_of_the_original_s_values(folders):
    source, out, values = folders
    found = verify_conversion(source, out, workers=2)
    by_format = {f.format: f for f in found.formats}
    assert set(by_format) == {"as stored", "bf16", "int8 in groups of 128", "int4 in groups of 64"}
    assert by_format["as stored"].relative_rms == by_format["bf16"].relative_rms == 0
    names = [name for name in values if ".mlp.experts." in name]
    squared_error = squared = 0.0
    for name in names:
        wanted = values[name]
        back = formats.dequantize(formats.quantize(wanted, Format.INT4))
        squared_error += float((back - wanted).double().square().sum())
        squared += float(wanted.double().square().sum())
    int4 = by_format["int4 in groups of 64"]
    assert int4.num_tensors == len(names)
    assert int4.relative_rms == pytest.approx((squared_error / squared) ** 0.5, rel=1e-6)
    assert by_format["int8 in groups of 128"].relative_rms < int4.relative_rms < int4.worst_rms


def test_the_worst_tensors_come_first(folders):
    found = verify_conversion(*folders[:2])
    errors = [error.relative_rms for error in found.worst]
    assert len(errors) == 10
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == max(f.worst_rms for f in found.formats)
    assert all(error.format == "int4 in groups of 64" for error in found.worst)


def test_a_shard_that_has_changed_does_not_pass(folders):
    source, out, _ = folders
    shard = sorted(out.glob("*.safetensors"))[1]
    data = bytearray(shard.read_bytes())
    data[-5] ^= 4
    shard.write_bytes(data)
    with pytest.raises(ConversionError, match=f"{shard.name} is not what was written"):
        verify_conversion(source, out)


def test_what_is_no_conversion_of_the_source_is_refused(folders, tmp_path):
    source, out, _ = folders
    with pytest.raises(ConversionError, match=r"has no conversion\.json"):
        verify_conversion(source, source)
    write_checkpoint(tmp_path / "other", random_config(intermediate_size=64))
    with pytest.raises(ConversionError, match="of different shapes"):
        verify_conversion(tmp_path / "other", out)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"identity": "a", "source": "b", "shards": {"c": 1}},
        {"identity": "a", "source": "b", "shards": []},
    ],
)
def test_a_record_that_is_none_is_refused(folders, record):
    source, out, _ = folders
    (out / "conversion.json").write_text(json.dumps(record))
    with pytest.raises(ConversionError, match="is not the record of a conversion"):
        verify_conversion(source, out)


def test_a_verification_can_be_stopped(folders):
    source, out, _ = folders
    with pytest.raises(LoadCancelledError, match="stopped"):
        verify_conversion(source, out, cancelled=lambda: True)
    stages = []
    with pytest.raises(LoadCancelledError, match="stopped"):
        verify_conversion(
            source,
            out,
            on_progress=lambda progress: stages.append(progress.stage),
            cancelled=lambda: "comparing" in stages,
        )


def test_a_matrix_of_zeros_has_no_error(tmp_path):
    write_checkpoint(tmp_path / "source", random_config())
    checkpoint = Checkpoint.open(tmp_path / "source")
    info = checkpoint.tensors["lm_head.weight"]
    with (tmp_path / "source" / info.shard).open("r+b") as file:
        file.seek(info.offset)
        file.write(bytes(info.nbytes))
    assert not torch.count_nonzero(checkpoint.read("lm_head.weight"))
    convert_checkpoint(tmp_path / "source", tmp_path / "out", "int4")
    found = verify_conversion(tmp_path / "source", tmp_path / "out")
    assert "lm_head.weight" not in {error.name for error in found.worst}
