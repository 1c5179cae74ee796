"""The built nano: its tensors' hashes, and what transformers in float32 says with it, against the recorded answers."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

EXPECTED = json.loads((Path(__file__).parent / "expected.json").read_text("utf-8"))


def widened(tensors, name):
    """A tensor in float32; FP8 blocks times their scale."""
    values = tensors.get_tensor(name).float()
    if f"{name}_scale_inv" not in tensors.keys():  # noqa: SIM118 (safe_open has no other way)
        return values
    scales = tensors.get_tensor(f"{name}_scale_inv")
    wide = scales.repeat_interleave(128, 0).repeat_interleave(128, 1)
    return values * wide[: values.shape[0], : values.shape[1]]


@pytest.fixture(scope="module")
def one_thread():
    """Thousands of small operations: on a busy machine torch's threads would mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reference(nano_dir, one_thread):
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    settings = json.loads((nano_dir / "config.json").read_text("utf-8"))
    del settings["quantization_config"]
    config = DeepseekV3Config(**settings, attn_implementation="eager", experts_implementation="eager")
    with torch.device("meta"):
        model = DeepseekV3ForCausalLM(config)
    with safe_open(nano_dir / "model.safetensors", "pt") as tensors:
        state = {}
        for name in model.state_dict():
            experts, _, projection = name.rpartition(".experts.")
            if name == "lm_head.weight":
                state[name] = widened(tensors, "model.embed_tokens.weight")
            elif experts:
                parts = ("gate_proj", "up_proj") if projection == "gate_up_proj" else (projection,)
                state[name] = torch.stack(
                    [
                        torch.cat([widened(tensors, f"{experts}.experts.{e}.{p}.weight") for p in parts])
                        for e in range(config.n_routed_experts)
                    ]
                )
            else:
                state[name] = widened(tensors, name)
    model.load_state_dict(state, assign=True)
    rotary = model.model.rotary_emb
    rotary.__init__(config)  # its frequencies are no part of the state
    return model.eval()


def test_tensors_have_the_recorded_hashes(nano_dir):
    with safe_open(nano_dir / "model.safetensors", "pt") as tensors:
        for name, expected in EXPECTED["sha256"].items():
            content = tensors.get_tensor(name).contiguous().view(torch.uint8).numpy().tobytes()
            assert hashlib.sha256(content).hexdigest() == expected, name


@pytest.mark.parametrize("case", range(len(EXPECTED["cases"])))
def test_logprobs_and_greedy_tokens_are_the_recorded_ones(reference, case):
    case = EXPECTED["cases"][case]
    ids = torch.tensor([case["ids"]])
    with torch.no_grad():
        logprobs = reference(ids).logits[0].log_softmax(-1)
    found = logprobs[:-1].gather(1, ids[0, 1:, None]).flatten()
    torch.testing.assert_close(
        found, torch.tensor(case["logprobs"]), rtol=0, atol=1e-4
    )  # five decimals are recorded
    start = case["num_prompt_tokens"]
    assert logprobs.argmax(-1)[start - 1 : -1].tolist() == case["ids"][start:]


def test_tokenizer_gives_the_recorded_prompts(nano_dir):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(nano_dir / "tokenizer.json"))
    for case in EXPECTED["cases"]:
        ids = tokenizer.encode(case["prompt"], add_special_tokens=False).ids
        assert ids == case["ids"][: case["num_prompt_tokens"]]
        answer = case["ids"][case["num_prompt_tokens"] :]
        assert tokenizer.decode(answer) == case["answer"]
