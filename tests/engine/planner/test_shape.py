"""Where a shape comes from: a config alone, a folder, a published table; and never torch."""

import json
import subprocess
import sys

import pytest

from engine import Profile, convert_checkpoint
from engine.errors import ModelError, ModelNotFoundError
from engine.planner import read_shape
from engine.planner.need import compute_need
from engine.weights.checkpoint import Checkpoint
from engine.weights.placement import place
from tests.conftest import ROOT
from tests.engine.checkpoints import random_config, write_checkpoint


def test_a_folder_says_how_each_tensor_is_stored(tmp_path):
    write_checkpoint(tmp_path, random_config(fp8_block=(32, 32)))
    shape = read_shape(str(tmp_path))
    assert shape.stored["model.layers.1.self_attn.o_proj.weight"] == "fp8"
    assert shape.stored["model.embed_tokens.weight"] == "bf16"
    assert shape.source == str(tmp_path)


def test_a_config_alone_counts_layers_in_fp8_and_the_head_wide(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(random_config(fp8_block=(32, 32))))
    shape = read_shape(str(tmp_path / "config.json"))
    from engine.weights.names import expected_tensors

    stored = {spec.name: shape.stored_precision(spec) for spec in expected_tensors(shape.config).values()}
    assert stored["model.layers.1.mlp.experts.0.up_proj.weight"] == "fp8"
    assert stored["lm_head.weight"] == stored["model.embed_tokens.weight"] == "bf16"
    assert "alone" in shape.source


def test_a_folder_without_its_weights_is_planned_from_its_config_and_says_so(tmp_path):
    write_checkpoint(tmp_path, random_config())
    for file in tmp_path.glob("*.safetensors*"):
        file.unlink()
    shape = read_shape(str(tmp_path))
    assert not shape.stored
    assert "alone" in shape.source
    assert "no weights" in shape.source


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_config_says_the_width_of_what_is_not_quantized(tmp_path, dtype):
    (tmp_path / "config.json").write_text(json.dumps(random_config(torch_dtype=dtype)))
    assert read_shape(str(tmp_path / "config.json")).default_precision == {"float32": "fp32", "float16": "fp16"}.get(dtype, "bf16")  # fmt: skip


def test_a_model_that_is_not_here_is_planned_by_its_published_shape_or_refused():
    assert "not on this machine" in read_shape("deepseek-ai/DeepSeek-R1").source
    with pytest.raises(ModelNotFoundError):
        read_shape("deepseek-ai/DeepSeek-V9")


def test_a_file_that_is_no_config_is_refused(tmp_path):
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ModelError, match=r"other\.json"):
        read_shape(str(tmp_path / "other.json"))


def test_a_plan_loads_no_torch():
    program = (
        "import sys, engine\n"
        "engine.make_plan, engine.read_rates\n"
        "shape = engine.read_shape('deepseek-ai/DeepSeek-V3')\n"
        "print('torch' in sys.modules, shape.num_parameters)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.split() == ["False", "671026419200"]


def test_a_converted_folder_is_planned_with_its_own_formats_and_groups(tmp_path):
    write_checkpoint(tmp_path / "source", random_config())
    profile = Profile(precision="int4", group_size=32)
    convert_checkpoint(tmp_path / "source", tmp_path / "out", profile)
    shape, checkpoint = read_shape(str(tmp_path / "out")), Checkpoint.open(tmp_path / "out")
    for opened in (Profile(), Profile(precision="int4"), Profile(precision="int8")):
        assert compute_need(shape, opened).weights_bytes == place(checkpoint, opened).total_bytes
