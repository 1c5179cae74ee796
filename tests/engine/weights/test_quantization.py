"""quantization_config: what is described is read back, in entries that neighbouring layers share."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.weights.config_reader import config_from_dict
from engine.weights.names import expected_tensors
from engine.weights.quantization import StoredFormat, describe, is_converted, read_formats
from tests.engine.checkpoints import random_config

RAW = random_config(num_hidden_layers=6)
SPECS = expected_tensors(config_from_dict(RAW))
FORMATS = [None, StoredFormat("fp8"), *(StoredFormat(p, g) for p in ("int8", "int4") for g in (32, 64, 128))]


def shared(name):
    """The part of a name that decides: experts of one layer and projection have one format."""
    before, experts, after = name.partition(".experts.")
    return before + experts + after.partition(".")[2] if experts else name


@settings(max_examples=40)
@given(st.data())
def test_any_assignment_is_read_back(data):
    chosen = {}
    for name, spec in SPECS.items():
        if spec.kind.is_matrix and shared(name) not in chosen:
            chosen[shared(name)] = data.draw(st.sampled_from(FORMATS))
    formats = {name: stored for name in SPECS if (stored := chosen.get(shared(name))) is not None}
    raw = RAW | {"quantization_config": describe(formats, (128, 128), "hqq")}
    assert is_converted(raw)
    assert read_formats(raw, SPECS) == formats
    assert config_from_dict(raw).weight_block_size == (128, 128)


def test_layers_of_one_format_share_an_entry():
    formats = {name: StoredFormat("int8", 128) for name, spec in SPECS.items() if spec.kind.is_matrix}
    entries = describe(formats, None, None)["formats"]
    assert len(entries) < 20
    assert {
        "modules": "model.layers.1-5.mlp.experts.*.down_proj",
        "format": "int8",
        "group_size": 128,
    } in entries


def test_a_gap_in_the_layers_makes_two_entries():
    name = "model.layers.{}.self_attn.o_proj.weight"
    formats = {name.format(layer): StoredFormat("fp8") for layer in (0, 1, 3)}
    modules = [entry["modules"] for entry in describe(formats, (128, 128), None)["formats"]]
    assert modules == ["model.layers.0-1.self_attn.o_proj", "model.layers.3.self_attn.o_proj"]


def test_an_original_has_no_formats_of_its_own():
    assert read_formats(RAW, SPECS) == {}
    assert read_formats(random_config(fp8_block=(128, 128)), SPECS) == {}
