"""Loading: exact values in the chosen format, the bytes that were promised, progress, cancel."""

import dataclasses
import json
import threading

import pytest
import torch

from engine.errors import CheckpointError, LoadCancelledError
from engine.kernels.cpu import cpu_packer
from engine.profile.values import Profile, Rule
from engine.quant.formats import DTYPES, dequantize, quantize
from engine.quant.matrix import Format, Matrix, MatrixStack
from engine.weights.checkpoint import Checkpoint
from engine.weights.loader import load
from engine.weights.placement import place
from tests.engine.checkpoints import random_config, random_tensors, write_checkpoint, write_tensors

ATTENTION = {"q": "q_proj", "q_a": "q_a_proj", "q_b": "q_b_proj", "kv_a": "kv_a_proj_with_mqa", "kv_b": "kv_b_proj", "o": "o_proj"}  # fmt: skip
ATTENTION_NORMS = {"q_a_norm": "q_a_layernorm", "kv_a_norm": "kv_a_layernorm"}


def by_name(parameters, tied):
    """{Hugging Face name: Matrix or float32 tensor} of a parameter tree, written down independently of the loader."""
    found = {"model.embed_tokens.weight": parameters.embedding, "model.norm.weight": parameters.norm}
    if not tied:
        found["lm_head.weight"] = parameters.head

    def mlp(prefix, value):
        for kind in ("gate", "up", "down"):
            found[f"{prefix}.{kind}_proj.weight"] = getattr(value, kind)

    for i, layer in enumerate(parameters.layers):
        prefix = f"model.layers.{i}"
        found[f"{prefix}.input_layernorm.weight"] = layer.input_norm
        found[f"{prefix}.post_attention_layernorm.weight"] = layer.post_attention_norm
        for ours, theirs in (ATTENTION | ATTENTION_NORMS).items():
            value = getattr(layer.attention, ours)
            if value is not None:
                found[f"{prefix}.self_attn.{theirs}.weight"] = value
        if not hasattr(layer.mlp, "router"):
            mlp(f"{prefix}.mlp", layer.mlp)
            continue
        found[f"{prefix}.mlp.gate.weight"] = layer.mlp.router
        found[f"{prefix}.mlp.gate.e_score_correction_bias"] = layer.mlp.correction_bias
        for kind in ("gate", "up", "down"):
            stack = getattr(layer.mlp, kind)
            assert isinstance(stack, MatrixStack)
            for expert in range(len(stack)):
                found[f"{prefix}.mlp.experts.{expert}.{kind}_proj.weight"] = stack[expert]
        if layer.mlp.shared is not None:
            mlp(f"{prefix}.mlp.shared_experts", layer.mlp.shared)
    return found


def load_from(folder, **profile):
    checkpoint = Checkpoint.open(folder)
    return load(checkpoint, place(checkpoint, Profile(**profile)))


def test_int4_is_fitted_as_the_profile_says(tmp_path):
    values = write_checkpoint(tmp_path, random_config(), seed=2)
    stored = values["model.layers.1.self_attn.o_proj.weight"]
    for fit in ("hqq", "rtn"):
        loaded = load_from(tmp_path, precision="int4", fit=fit).parameters.layers[1].attention.o
        expected = quantize(stored, Format.INT4, fit=fit)
        assert torch.equal(loaded.data, expected.data)
        assert torch.equal(loaded.scale, expected.scale)
    assert not torch.equal(expected.data, quantize(stored, Format.INT4, fit="hqq").data)


OPTIONS = [
    {},
    {"tied": True, "q_lora_rank": None},
    {"fp8_block": (32, 48), "mtp": 1},
    {"fp8_block": (128, 128), "first_k_dense_replace": 0, "n_shared_experts": 0},
    {"moe_layer_freq": 2, "num_hidden_layers": 4},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("precision", ["native", "bf16", "fp32"])
def test_every_value_is_the_stored_one_rounded_at_most_once(tmp_path, options, precision):
    config = random_config(**options)
    weights = write_checkpoint(tmp_path, config, shards=3)
    checkpoint = Checkpoint.open(tmp_path)
    found = by_name(load_from(tmp_path, precision=precision).parameters, config["tie_word_embeddings"])
    assert set(found) == set(checkpoint.specs)
    for name, value in found.items():
        expected = weights[name]
        if not isinstance(value, Matrix):
            assert value.dtype == torch.float32
            assert torch.equal(value, expected), name
            continue
        assert value.data.dtype == DTYPES[value.format]
        assert value.data.is_contiguous()
        if precision == "bf16":
            expected = expected.bfloat16().float()
        assert torch.equal(dequantize(value), expected), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_native_keeps_each_float_dtype(tmp_path, dtype):
    weights = write_checkpoint(tmp_path, random_config(), dtype=dtype)
    parameters = load_from(tmp_path).parameters
    assert parameters.layers[1].mlp.gate.data.dtype == dtype
    assert torch.equal(parameters.embedding.data.float(), weights["model.embed_tokens.weight"])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("precision", ["native", "bf16", "fp32", "fp8", "int8", "int4"])
def test_held_bytes_are_the_placed_bytes(tmp_path, options, precision):
    write_checkpoint(tmp_path, random_config(**options))
    checkpoint = Checkpoint.open(tmp_path)
    placement = place(checkpoint, Profile(precision=precision))
    assert load(checkpoint, placement).bytes_by_tier == placement.bytes_by_tier


def test_a_tied_head_is_the_embedding_and_counts_once(tmp_path):
    write_checkpoint(tmp_path, random_config(tied=True))
    parameters = load_from(tmp_path).parameters
    assert parameters.head is parameters.embedding


def test_a_rule_gives_one_part_another_format(tmp_path):
    write_checkpoint(tmp_path, random_config(fp8_block=(32, 32)))
    rules = (Rule("model.layers.*.mlp.experts", precision="bf16"),)
    layer = load_from(tmp_path, rules=rules).parameters.layers[1]
    assert layer.mlp.up.format is Format.BF16
    assert layer.mlp.shared.up.format is Format.FP8


def test_scales_stored_in_bfloat16_are_read_as_float32(tmp_path):
    config = random_config(fp8_block=(32, 32))
    tensors, _ = random_tensors(config)
    name = "model.layers.0.self_attn.o_proj.weight"
    tensors[f"{name}_scale_inv"] = tensors[f"{name}_scale_inv"].bfloat16()
    write_tensors(tmp_path, tensors)
    (tmp_path / "config.json").write_text(json.dumps(config))
    matrix = load_from(tmp_path).parameters.layers[0].attention.o
    assert matrix.scale.dtype == torch.float32
    assert torch.equal(matrix.scale, tensors[f"{name}_scale_inv"].float())


def test_tensors_that_begin_at_odd_bytes_are_read_right(tmp_path):
    config = random_config()
    weights = write_checkpoint(tmp_path, config)
    file = tmp_path / "model.safetensors"
    raw = file.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    file.write_bytes((size + 1).to_bytes(8, "little") + raw[8 : 8 + size] + b" " + raw[8 + size :])
    found = by_name(load_from(tmp_path).parameters, tied=False)
    for name, value in found.items():
        assert torch.equal(dequantize(value) if isinstance(value, Matrix) else value, weights[name])


@pytest.mark.parametrize("precision", ["native", "bf16"])
@pytest.mark.parametrize("where", ["values", "scales"])
def test_fp8_that_is_no_number_is_refused_with_the_name(tmp_path, precision, where):
    config = random_config(fp8_block=(32, 32))
    tensors, _ = random_tensors(config)
    name = "model.layers.2.mlp.experts.3.up_proj.weight"
    if where == "values":
        tensors[name].view(torch.uint8)[5, 5] = 0xFF
    else:
        tensors[f"{name}_scale_inv"][0, 0] = float("inf")
    write_tensors(tmp_path, tensors)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=name):
        load_from(tmp_path, precision=precision)


@pytest.mark.parametrize("precision", ["fp8", "int8", "int4"])
def test_a_weight_that_cannot_be_quantized_is_refused_with_the_name(tmp_path, precision):
    config = random_config()
    tensors, _ = random_tensors(config)
    name = "model.layers.2.mlp.experts.3.up_proj.weight"
    tensors[name][5, 5] = float("nan")
    write_tensors(tmp_path, tensors)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=rf"{name}: .*not finite"):
        load_from(tmp_path, precision=precision)


def test_progress_rises_to_the_total_and_names_the_layer(tmp_path):
    write_checkpoint(tmp_path, random_config())
    checkpoint = Checkpoint.open(tmp_path)
    placement = place(checkpoint, Profile())
    events = []
    load(checkpoint, placement, events.append)
    done = [event.done_bytes for event in events]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, placement.total_bytes)
    assert {event.total_bytes for event in events} == {placement.total_bytes}
    assert "layer 2 of 3" in [event.detail for event in events]


@pytest.mark.parametrize("after", [0, 1, 40])
def test_cancel_stops_before_the_next_tensor(tmp_path, after):
    write_checkpoint(tmp_path, random_config())
    checkpoint = Checkpoint.open(tmp_path)
    asked = []

    def cancelled():
        asked.append(None)
        return len(asked) > after

    with pytest.raises(LoadCancelledError):
        load(checkpoint, place(checkpoint, Profile()), cancelled=cancelled)
    assert len(asked) == after + 1


@pytest.mark.parametrize("precision", ["int4", "fp8", "bf16"])
def test_several_threads_load_what_one_loads(tmp_path, precision):
    config = random_config(n_routed_experts=16)
    write_checkpoint(tmp_path, config, seed=3)
    checkpoint = Checkpoint.open(tmp_path)
    placement = place(checkpoint, Profile(precision=precision))
    reports: list[int] = []
    for packer in (None, cpu_packer()):
        alone, together = (
            by_name(load(checkpoint, placement, packer=packer, threads=threads).parameters, tied=False)
            for threads in (1, 5)
        )
        for name, one in alone.items():
            parts = (
                (one, together[name]) if isinstance(one, torch.Tensor) else (one.data, together[name].data)
            )
            assert torch.equal(parts[0].view(torch.uint8), parts[1].view(torch.uint8)), name
    load(checkpoint, placement, lambda progress: reports.append(progress.done_bytes), threads=5)
    assert reports == sorted(reports)
    assert reports[-1] == sum(placed.nbytes for placed in placement.tensors.values())


def test_threads_end_with_a_cancelled_or_failed_load(tmp_path):
    values = write_checkpoint(tmp_path, random_config(n_routed_experts=16), seed=3)
    checkpoint = Checkpoint.open(tmp_path)
    placement = place(checkpoint, Profile(precision="int4"))
    calls = iter(range(10_000))
    with pytest.raises(LoadCancelledError):
        load(checkpoint, placement, cancelled=lambda: next(calls) > 40, threads=4)
    name = next(name for name in values if ".experts.9." in name)
    values[name][0, 0] = float("nan")
    write_tensors(tmp_path, values)
    checkpoint = Checkpoint.open(tmp_path)
    with pytest.raises(CheckpointError, match=name):
        load(checkpoint, placement, threads=4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("convert")]


def test_loaded_weights_are_memory_of_their_own(tmp_path):
    write_checkpoint(tmp_path, random_config(), dtype=torch.float32)
    parameters = load_from(tmp_path).parameters
    before = parameters.norm.clone()
    (tmp_path / "model.safetensors").write_bytes(b"")  # a mapped page would now be gone
    assert torch.equal(parameters.norm, before)
    with pytest.raises(dataclasses.FrozenInstanceError):
        parameters.norm = before
