"""Opening a checkpoint: what fits is described, what does not is refused with the names."""

import json
import os
from contextlib import suppress

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError
from engine.weights.checkpoint import Checkpoint
from engine.weights.safetensors_header import read_header
from tests.engine.checkpoints import (
    random_config,
    random_tensors,
    tensor_shapes,
    transformers_model,
    write_checkpoint,
    write_tensors,
)

INDEX = "model.safetensors.index.json"


def write_changed(folder, config, change, shards=1):
    """A checkpoint whose stored tensors went through `change(tensors)` in place."""
    tensors, _ = random_tensors(config)
    change(tensors)
    write_tensors(folder, tensors, shards)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


OPTIONS = [
    {},
    {"tied": True, "q_lora_rank": None},
    {"fp8_block": (32, 32), "mtp": 1},
    {"fp8_block": (128, 128), "first_k_dense_replace": 0},
    {"first_k_dense_replace": 3},
    {"moe_layer_freq": 2, "num_hidden_layers": 5},
    {"n_shared_experts": 0},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shards", [1, 3])
def test_every_option_opens_from_one_file_and_from_shards(tmp_path, options, shards):
    config = random_config(**options)
    weights = write_checkpoint(tmp_path / "m", config, shards=shards)
    checkpoint = Checkpoint.open(tmp_path / "m")
    main = [n for n in tensor_shapes(config) if f"layers.{config['num_hidden_layers']}." not in n]
    assert set(checkpoint.specs) == set(main)
    assert checkpoint.num_parameters == sum(weights[name].numel() for name in main)
    assert checkpoint.name == "m"


def test_read_gives_the_stored_values_and_a_copy(tmp_path):
    config = random_config(fp8_block=(32, 32))
    stored, _ = random_tensors(config)
    write_checkpoint(tmp_path, config, shards=2)
    checkpoint = Checkpoint.open(tmp_path)
    for name, tensor in stored.items():
        read = checkpoint.read(name)
        assert read.dtype == tensor.dtype
        assert torch.equal(read.view(torch.uint8), tensor.view(torch.uint8))
    checkpoint.read("model.norm.weight").zero_()
    assert torch.equal(checkpoint.read("model.norm.weight"), stored["model.norm.weight"])


def test_a_model_saved_by_transformers_5_opens(tmp_path):
    config = random_config(yarn=True)
    transformers_model(config, write_checkpoint(tmp_path / "m", config)).save_pretrained(tmp_path / "hf")
    ours, saved = Checkpoint.open(tmp_path / "m"), Checkpoint.open(tmp_path / "hf")
    assert saved.config == ours.config
    assert set(saved.tensors) == set(ours.tensors)


def test_mtp_layers_are_named_with_their_size_and_left_out(tmp_path):
    write_checkpoint(tmp_path, random_config(mtp=2, fp8_block=(32, 32)))
    checkpoint = Checkpoint.open(tmp_path)
    assert [note.partition(" (")[0] for note in checkpoint.notes] == ["MTP layer 3", "MTP layer 4"]
    assert all("MB) is recognised and left out" in note for note in checkpoint.notes)


def test_an_mtp_layer_that_the_config_does_not_count_is_known_by_its_own_tensors(tmp_path):
    config = random_config(mtp=1)
    write_checkpoint(tmp_path, config)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 0}))
    assert "MTP layer 3" in Checkpoint.open(tmp_path).notes[0]


def test_an_ordinary_layer_too_many_is_not_taken_for_an_mtp_layer(tmp_path):
    config = random_config(num_hidden_layers=4)
    write_checkpoint(tmp_path, config)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match=r"not known \(\d+\): model\.layers\.3\."):
        Checkpoint.open(tmp_path)


def test_absent_shards_are_listed_all_with_their_tensors_and_nothing_starts(tmp_path):
    write_checkpoint(tmp_path, random_config(), shards=4)
    counts = {}
    for shard in json.loads((tmp_path / INDEX).read_text())["weight_map"].values():
        counts[shard] = counts.get(shard, 0) + 1
    gone = ["model-00002-of-00004.safetensors", "model-00004-of-00004.safetensors"]
    for shard in gone:
        (tmp_path / shard).unlink()
    with pytest.raises(CheckpointError, match="download incomplete, 2 of 4 shards") as caught:
        Checkpoint.open(tmp_path)
    assert all(f"{shard} ({counts[shard]} tensors)" in str(caught.value) for shard in gone)


@pytest.mark.parametrize("shard", ["../elsewhere.safetensors", "/etc/passwd", "", 7])
def test_an_index_cannot_point_out_of_the_folder(tmp_path, shard):
    write_checkpoint(tmp_path, random_config(), shards=2)
    index = json.loads((tmp_path / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = shard
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        Checkpoint.open(tmp_path)


def test_an_index_that_contradicts_the_shards_is_refused_with_the_name(tmp_path):
    write_checkpoint(tmp_path, random_config(), shards=2)
    index = json.loads((tmp_path / INDEX).read_text())
    del index["weight_map"]["model.norm.weight"]
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"holds model\.norm\.weight"):
        Checkpoint.open(tmp_path)
    index["weight_map"] |= {
        "model.norm.weight": "model-00002-of-00002.safetensors",
        "ghost": "model-00001-of-00002.safetensors",
    }
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="ghost"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("cut", [1, 100, 10_000, "header", "empty"])
def test_a_cut_file_is_refused_before_anything_is_read(tmp_path, cut):
    write_checkpoint(tmp_path, random_config())
    file = tmp_path / "model.safetensors"
    size = {"header": 50, "empty": 0}.get(cut) if isinstance(cut, str) else file.stat().st_size - cut
    os.truncate(file, size)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is cut"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"dtype": "F4"}, "no known dtype"),
        ({"dtype": ["F32"]}, "no known dtype"),
        ({"shape": [-4, 4]}, "shape"),
        ({"shape": [4, 5]}, "takes 80"),
        ({"data_offsets": [0]}, "bytes"),
        ({"data_offsets": [64, 128]}, "hole"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path, entry, words):
    header = json.dumps({"w": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} | entry}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    (tmp_path / "config.json").write_text(json.dumps(random_config()))
    with pytest.raises(CheckpointError, match=words):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("raw", [b"not json at all, and long enough to be one", b"[1, 2]"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, raw):
    (tmp_path / "model.safetensors").write_bytes(len(raw).to_bytes(8, "little") + raw)
    (tmp_path / "config.json").write_text(json.dumps(random_config()))
    with pytest.raises(CheckpointError, match="no JSON"):
        Checkpoint.open(tmp_path)


def test_a_git_lfs_pointer_is_told_from_a_cut_file(tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    (tmp_path / "config.json").write_text(json.dumps(random_config()))
    with pytest.raises(CheckpointError, match=r"is a Git LFS pointer .*git lfs pull"):
        Checkpoint.open(tmp_path)


def test_missing_extra_and_misshapen_tensors_are_named_in_one_error(tmp_path):
    def change(tensors):
        del tensors["model.layers.1.self_attn.o_proj.weight"]
        tensors["model.layers.1.self_attn.q_proj.bias"] = torch.zeros(4)
        tensors["model.norm.weight"] = torch.zeros(63)

    folder = write_changed(tmp_path, random_config(), change)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(folder)
    text = str(caught.value)
    assert "missing (1): model.layers.1.self_attn.o_proj.weight" in text
    assert "not known (1): model.layers.1.self_attn.q_proj.bias" in text
    assert "model.norm.weight is [63], expected [64]" in text


def test_a_long_list_of_names_is_cut_and_counted(tmp_path):
    def change(tensors):
        for name in [n for n in tensors if ".mlp.experts." in n]:
            del tensors[name]

    folder = write_changed(tmp_path, random_config(), change)
    with pytest.raises(CheckpointError, match=r"missing \(48\): model.* and 43 more"):
        Checkpoint.open(folder)


@pytest.mark.parametrize("rows", [3, 1])
def test_another_number_of_scale_rows_is_refused_with_the_name(tmp_path, rows):
    name = "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv"  # 40 rows in blocks of 32: 2 scale rows

    def change(tensors):
        assert tensors[name].shape == (2, 2)
        tensors[name] = torch.ones(rows, 2)

    folder = write_changed(tmp_path, random_config(fp8_block=(32, 32)), change)
    with pytest.raises(CheckpointError, match=rf"{name} is \[{rows}, 2\], expected \[2, 2\]"):
        Checkpoint.open(folder)


def test_fp8_without_scales_or_without_a_block_size_is_refused(tmp_path):
    name = "model.layers.0.self_attn.o_proj.weight"
    config = random_config(fp8_block=(32, 32))
    write_changed(tmp_path / "a", config, lambda tensors: tensors.pop(f"{name}_scale_inv"))
    with pytest.raises(CheckpointError, match=f"{name}_scale_inv is missing"):
        Checkpoint.open(tmp_path / "a")
    write_checkpoint(tmp_path / "b", config)
    del config["quantization_config"]
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="no quantization_config"):
        Checkpoint.open(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("model.embed_tokens.weight", torch.float8_e4m3fn),
        ("model.norm.weight", torch.float8_e4m3fn),
        ("model.layers.1.mlp.gate.weight", torch.int64),
        ("model.layers.0.self_attn.o_proj.weight", torch.int32),
        ("model.layers.0.self_attn.o_proj.weight", torch.float8_e5m2),
    ],
)
def test_a_dtype_that_the_tensor_cannot_have_is_refused_by_name(tmp_path, name, dtype):
    def change(tensors):
        tensors[name] = tensors[name].float().to(dtype)

    folder = write_changed(tmp_path, random_config(), change)
    with pytest.raises(CheckpointError, match=f"{name} is "):
        Checkpoint.open(folder)


def test_scales_beside_a_weight_that_is_not_fp8_are_refused(tmp_path):
    name = "model.layers.0.self_attn.o_proj.weight_scale_inv"
    folder = write_changed(
        tmp_path, random_config(), lambda tensors: tensors.update({name: torch.ones(1, 1)})
    )
    with pytest.raises(CheckpointError, match=rf"{name} \(its weight is BF16\)"):
        Checkpoint.open(folder)


def test_known_leftovers_do_no_harm(tmp_path):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    folder = write_changed(tmp_path, random_config(), lambda tensors: tensors.update({name: torch.ones(4)}))
    assert Checkpoint.open(folder).notes == ()


def test_a_head_beside_a_tied_embedding_is_left_out_and_said(tmp_path):
    def change(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    folder = write_changed(tmp_path, random_config(tied=True), change)
    assert Checkpoint.open(folder).notes == (
        "lm_head.weight is left out: config.json ties the head to the embedding",
    )


def test_a_config_of_absurd_size_is_refused_at_once(tmp_path):
    write_checkpoint(tmp_path, random_config())
    (tmp_path / "config.json").write_text(json.dumps(random_config(num_hidden_layers=10**12)))
    with pytest.raises(CheckpointError, match="1,000,000,000,000 layers"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize("text", ["{", "", "[]", "null", "\x00\xff"])
def test_a_broken_config_names_the_file(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        Checkpoint.open(tmp_path)


def test_a_broken_index_names_the_file(tmp_path):
    write_checkpoint(tmp_path, random_config(), shards=2)
    for text in ("{", "{}", '{"weight_map": []}'):
        (tmp_path / INDEX).write_text(text)
        with pytest.raises(CheckpointError, match="index"):
            Checkpoint.open(tmp_path)


def test_no_folder_and_no_config_are_not_found(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no such folder"):
        Checkpoint.open(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (None, "no weights"),
        ("pytorch_model.bin", r"pytorch_model\.bin"),
        ("model-00001-of-00002.safetensors", "incomplete"),
    ],
)
def test_a_folder_without_readable_weights_says_what_it_found(tmp_path, file, words):
    (tmp_path / "config.json").write_text(json.dumps(random_config()))
    if file:
        (tmp_path / file).touch()
    with pytest.raises(CheckpointError, match=words):
        Checkpoint.open(tmp_path)


def test_the_generation_config_is_handed_on_and_may_be_absent(tmp_path):
    write_checkpoint(tmp_path, random_config())
    assert Checkpoint.open(tmp_path).generation_config == {}
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.4, "eos_token_id": [7]}')
    checkpoint = Checkpoint.open(tmp_path)
    assert checkpoint.generation_config["temperature"] == 0.4
    assert checkpoint.config.eos_token_ids == (7, 2)


def test_another_architecture_is_refused_before_its_weights_are_looked_at(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(random_config(architectures=["DeepseekV4ForCausalLM"])))
    with pytest.raises(UnsupportedModelError, match="DeepseekV4ForCausalLM"):
        Checkpoint.open(tmp_path)


def test_a_snapshot_of_the_hub_cache_is_called_by_its_hub_id(tmp_path):
    folder = tmp_path / "models--deepseek-ai--DeepSeek-V3" / "snapshots" / "0123abcd"
    write_checkpoint(folder, random_config())
    assert Checkpoint.open(folder).name == "deepseek-ai/DeepSeek-V3"


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("fuzz") / "model.safetensors"
    write_tensors(file.parent, {"a": torch.ones(3, 5), "b": torch.ones(7, dtype=torch.bfloat16)})
    return file


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_a_header_holds_no_tensor_lies_outside_the_file(small_file, data):
    raw = bytearray(small_file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    damaged = small_file.with_name("damaged.safetensors")
    damaged.write_bytes(raw)
    with suppress(CheckpointError):  # any other error fails the test
        tensors = read_header(damaged)
        assert all(0 <= info.offset <= info.offset + info.nbytes <= len(raw) for info in tensors.values())
