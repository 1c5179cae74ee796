"""What is known of a model without loading it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from dsv3chat.nano import DATA_DIR
from dsv3chat.review.model import choose_protocol, describe_model, estimate_prompt
from engine import Message, ModelNotFoundError, Profile
from engine.paths import models_dir

HEADER = {
    "__metadata__": {"format": "pt"},
    "a.weight": {"dtype": "F8_E4M3", "shape": [3, 4], "data_offsets": [0, 12]},
    "a.weight_scale_inv": {"dtype": "F32", "shape": [1, 1], "data_offsets": [12, 16]},
}
PROFILE = Profile(name="p", max_batch_size=3, cache_lens=4096)


@pytest.fixture
def folder(tmp_path):
    """A checkpoint with weights and, since reading one takes half a second, without a tokenizer."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({"max_position_embeddings": 8192}))
    header = json.dumps(HEADER).encode()
    (made / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    return made


def test_a_folder_is_described_from_its_files_and_the_profile(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DATA_DIR / name, folder / name)
    found = describe_model(str(folder), PROFILE)
    assert (found.name, found.profile, found.concurrency) == ("model", "p", 3)
    assert found.num_parameters == 12
    assert found.context_tokens == 4096
    assert found.exact_tokens
    assert found.count_tokens("hello world") == 2
    assert choose_protocol(None, found).name == "general"


def test_nano_that_is_not_built_yet_is_described_from_its_data():
    found = describe_model("nano", PROFILE)
    assert not models_dir().exists()
    assert (found.name, found.num_parameters) == ("nano", None)
    assert choose_protocol(None, found).name == "nano"
    assert found.exact_tokens


def test_every_build_of_nano_is_the_same_model(nano_dir, monkeypatch):
    before = describe_model("nano", PROFILE)
    models_dir().mkdir(parents=True)
    (models_dir() / "nano").symlink_to(nano_dir)
    after = describe_model("nano", PROFILE)
    assert after.digest == before.digest
    assert after.num_parameters is not None


def test_a_model_that_is_not_there_is_an_error():
    with pytest.raises(ModelNotFoundError):
        describe_model("./none", PROFILE)


def test_a_copy_of_the_files_is_the_same_model_and_a_name_alone_changes_nothing(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    copied = describe_model(str(tmp_path / "copy"), PROFILE)
    assert copied.digest == describe_model(str(folder), PROFILE).digest


@pytest.mark.parametrize("change", ["config", "tokenizer", "template", "size", "time"])
def test_whatever_decides_an_answer_changes_the_digest(folder, change):
    before = describe_model(str(folder), PROFILE).digest
    weights = folder / "model.safetensors"
    if change == "config":
        (folder / "config.json").write_text("{}")
    elif change == "tokenizer":
        (folder / "tokenizer_config.json").write_text("{}")
    elif change == "template":
        (folder / "chat_template.jinja").write_text("x")
    elif change == "size":
        weights.write_bytes(weights.read_bytes() + b"\0")
    else:
        os.utime(weights, (1, 1))
    assert describe_model(str(folder), PROFILE).digest != before


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"precision": "bf16"}, False),
        ({"compute": "bfloat16"}, False),
        ({"kv_precision": "bf16"}, False),
        ({"max_batch_size": 1}, True),
        ({"cache_lens": 9999}, True),
        ({"name": "other"}, True),
    ],
)
def test_of_the_profile_the_arithmetic_counts(folder, change, same):
    before = describe_model(str(folder), PROFILE).digest
    assert (describe_model(str(folder), replace(PROFILE, **change)).digest == before) == same


def test_without_a_tokenizer_tokens_are_estimated_and_that_is_known(folder):
    found = describe_model(str(folder), PROFILE)
    assert not found.exact_tokens
    messages = [Message("user", "x" * 300)]
    assert found.count_prompt(messages) == estimate_prompt(messages) == 105


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]"])
def test_damaged_weights_only_leave_the_number_of_parameters_open(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    assert describe_model(str(folder), PROFILE).num_parameters is None


def test_describing_and_planning_load_no_torch(folder):
    script = (
        "import sys; from dsv3chat.review.model import describe_model; from engine import Profile; "
        "import dsv3chat.review.reviewer; describe_model(sys.argv[1], Profile()); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
