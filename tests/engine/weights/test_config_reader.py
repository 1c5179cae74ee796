"""config.json: every spelling that checkpoints use is read, everything else is refused by its name."""

import json
from contextlib import suppress
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import CheckpointError, ModelError, UnsupportedModelError
from engine.model.config import ModelConfig, YarnScaling
from engine.weights.config_reader import config_from_dict
from tests.engine.checkpoints import YARN, random_config


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


def test_every_field_comes_from_its_key():
    raw = random_config(fp8_block=(32, 64), mtp=1, dsv3chat={"name": "tiny"})
    config = config_from_dict(raw)
    same = {field.name for field in fields(ModelConfig)} & raw.keys()
    assert len(same) == 26
    assert {key: getattr(config, key) for key in same} == {key: raw[key] for key in same}
    assert config.weight_block_size == (32, 64)
    assert config.metadata == {"name": "tiny"}


@pytest.mark.parametrize(
    "architecture", ["DeepseekV2ForCausalLM", "DeepseekV32ForCausalLM", "LlamaForCausalLM"]
)
def test_another_architecture_is_refused_with_its_name(architecture):
    raw = random_config(architectures=[architecture])
    with pytest.raises(UnsupportedModelError, match=architecture):
        config_from_dict(raw)


@pytest.mark.parametrize("architectures", [None, [], "DeepseekV3ForCausalLM", 3])
def test_without_a_list_of_architectures_the_model_is_unknown(architectures):
    with pytest.raises(UnsupportedModelError, match="architectures"):
        config_from_dict(random_config(architectures=architectures))


def test_the_model_type_does_not_matter():
    assert config_from_dict(random_config(model_type="kimi_k2")) == config_from_dict(random_config())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scoring_func", "softmax"),
        ("topk_method", "greedy"),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("rope_interleave", False),
    ],
)
def test_an_option_that_is_not_built_is_refused_with_key_and_value(key, value):
    with pytest.raises(UnsupportedModelError, match=rf"{key} is {value!r}"):
        config_from_dict(random_config(**{key: value}))


def test_options_that_newer_files_leave_out_have_the_built_value():
    raw = without(
        random_config(), "scoring_func", "topk_method", "moe_layer_freq", "attention_bias", "hidden_act"
    )
    assert config_from_dict(raw) == config_from_dict(random_config())


@pytest.mark.parametrize(
    "key",
    [
        *(
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "kv_lora_rank",
            "rope_theta",
        ),
        *("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "intermediate_size", "moe_intermediate_size"),
        *("num_experts_per_tok", "n_group", "topk_group", "routed_scaling_factor", "rms_norm_eps"),
        "max_position_embeddings",
    ],
)
@pytest.mark.parametrize("wrong", ["absent", "text", -1, True, float("nan"), float("inf"), None])
def test_a_shape_that_is_missing_or_nonsense_is_refused_by_name(key, wrong):
    raw = random_config()
    if wrong == "absent":
        del raw[key]
    else:
        raw[key] = wrong
    with pytest.raises(CheckpointError, match=key):
        config_from_dict(raw, where="there/config.json")


def test_a_dense_model_needs_nothing_about_experts():
    raw = random_config(n_routed_experts=None)
    dense = without(
        raw, "moe_intermediate_size", "num_experts_per_tok", "n_group", "topk_group", "n_shared_experts"
    )
    config = config_from_dict(dense)
    assert not any(config.is_moe_layer(layer) for layer in range(config.num_hidden_layers))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"qk_rope_head_dim": 7}, "even"),
        ({"n_group": 3}, "does not divide"),
        ({"n_group": 8}, "two best"),
        ({"topk_group": 5}, "topk_group 5 is more"),
        ({"num_experts_per_tok": 5}, "num_experts_per_tok 5 is more than the 4"),
        ({"num_key_value_heads": 2}, "num_key_value_heads"),
        ({"eos_token_id": 160}, "not below vocab_size"),
        ({"bos_token_id": 999}, "not below vocab_size"),
    ],
)
def test_values_that_contradict_each_other_are_refused(overrides, words):
    with pytest.raises(CheckpointError, match=words):
        config_from_dict(random_config(**overrides))


YARN_READ = YarnScaling(8.0, 128, 32.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["type", "rope_type"])
def test_yarn_is_read_in_both_spellings_of_its_type(name):
    scaling = {**without(YARN, "type"), name: "yarn"}
    assert config_from_dict(random_config(rope_scaling=scaling)).yarn == YARN_READ


def test_yarn_is_read_from_the_rope_parameters_of_transformers_5():
    raw = without(random_config(), "rope_scaling", "rope_theta")
    config = config_from_dict(
        {**raw, "rope_parameters": {**YARN, "rope_type": "yarn", "rope_theta": 50000.0}}
    )
    assert (config.rope_theta, config.yarn) == (50000.0, YARN_READ)


@pytest.mark.parametrize("rope", [{"rope_scaling": None}, {"rope_scaling": {"type": "default"}}, {}])
def test_plain_rope_has_no_scaling(rope):
    assert config_from_dict({**without(random_config(), "rope_scaling"), **rope}).yarn is None


def test_yarn_keys_that_are_left_out_have_the_papers_values():
    scaling = {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096}
    assert config_from_dict(random_config(rope_scaling=scaling)).yarn == YarnScaling(40.0, 4096, 32, 1, 1, 0)


@pytest.mark.parametrize(
    ("scaling", "words"),
    [
        ({"type": "linear", "factor": 2.0}, "'linear'"),
        ({"factor": 2.0}, "rope_type is missing"),
        ({"type": "yarn", "rope_type": "default"}, "rope_type"),
        ({**YARN, "attention_factor": 1.3}, "attention_factor"),
        ({**YARN, "truncate": False}, "truncate"),
        ({**YARN, "factor": 0}, "factor"),
        ({**YARN, "original_max_position_embeddings": None}, "original_max_position_embeddings"),
        ({**YARN, "rope_theta": 5.0}, "rope_theta"),
        ("yarn", "rope_scaling"),
    ],
)
def test_other_scalings_are_refused_by_name(scaling, words):
    with pytest.raises((UnsupportedModelError, CheckpointError), match=words):
        config_from_dict(random_config(rope_scaling=scaling))


def test_two_spellings_of_rope_must_agree():
    raw = random_config(yarn=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    with pytest.raises(CheckpointError, match="contradict"):
        config_from_dict(raw)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        ({"fmt": "e5m2"}, "e5m2"),
        ({"activation_scheme": "static"}, "static"),
        ({"weight_block_size": None}, "weight_block_size"),
        ({"weight_block_size": [128]}, "weight_block_size"),
        ({"weight_block_size": [128, 0]}, "weight_block_size"),
    ],
)
def test_another_quantization_is_refused_and_the_block_size_never_guessed(change, words):
    raw = random_config(fp8_block=(128, 128))
    raw["quantization_config"].update(change)
    with pytest.raises((UnsupportedModelError, CheckpointError), match=words):
        config_from_dict(raw)


@pytest.mark.parametrize(
    ("own", "generation", "expected"),
    [
        (2, {}, (2,)),
        ([2, 5], {}, (2, 5)),
        (2, {"eos_token_id": 7}, (7, 2)),
        (2, {"eos_token_id": [7, 2]}, (7, 2)),
        (None, {"eos_token_id": 7}, (7,)),
        (None, {}, ()),
    ],
)
def test_ends_of_turn_are_joined_from_both_files(own, generation, expected):
    assert config_from_dict(random_config(eos_token_id=own), generation).eos_token_ids == expected


def test_a_bad_end_of_turn_names_the_file_it_stands_in():
    with pytest.raises(CheckpointError, match=r"generation_config\.json: eos_token_id"):
        config_from_dict(random_config(), {"eos_token_id": "</s>"})


def test_the_config_survives_json():
    raw = random_config(yarn=True, fp8_block=(32, 32))
    assert config_from_dict(json.loads(json.dumps(raw))) == config_from_dict(raw)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = sorted({*random_config(), "rope_parameters", "quantization_config", "dsv3chat", "mlp_bias"})


@given(st.dictionaries(st.sampled_from(KEYS), ANY_JSON, min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_whatever_a_config_holds_it_is_read_or_refused_with_a_reason(change):
    with suppress(ModelError):  # any other error fails the test
        config = config_from_dict(random_config(**change), change)
        assert config.num_hidden_layers >= 1
