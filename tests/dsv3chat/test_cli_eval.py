"""`dsv3chat eval`: the table and the JSON, what is refused, and one small model through the whole of it."""

import json

import pytest
import torch

from dsv3chat import cli
from dsv3chat.evaluation_table import to_json, to_text
from engine import Estimate, Evaluation, Quality
from engine.evaluation.values import Answers, Tie
from tests.engine.checkpoints import random_config, write_checkpoint
from tests.engine.text.tokenizers import trained

NONE = Estimate(0.0, None)
REFERENCE = Quality("reference", 185_700_000, 20.0, NONE, NONE, Estimate(1.0, 0.0), (3.0,), (0.0,), 1.0, 2.0)
INT4 = Quality(
    "nano-int4",
    92_300_000,
    21.8,
    Estimate(0.09, 0.0123),
    Estimate(0.084123, 0.004456),
    Estimate(0.8321, 0.0123),
    (3.1, 3.2),
    (0.08, 0.09),
    3.0,
    4.0,
    Answers((512, 80), (0.5, 0.1), (True, False), 5.5),
)
SHORT = Quality("evil\x1b[2J\nname", 1_000_000, 22.0, NONE, NONE, NONE, (3.1,), (0.1,), 0.2, 0.2)
FOUND = Evaluation(
    "nano", 2047, 512, 256, 64, REFERENCE, (INT4, SHORT), (Tie("nano-int4", "x", Estimate(-0.001, 0.002)),)
)


def test_the_table_is_aligned_markdown_with_errors_where_there_are_any():
    lines = to_text(FOUND).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({len(line) for line in table}) == 1
    assert len({line.count("|") for line in table}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert cells[0][:5] == ["profile", "weights", "perplexity", "change", "KL"]
    assert cells[2] == ["reference", "185.7 MB", "20.000", "-", "-", "-", "-", "-", "3"]
    assert cells[3] == [
        "nano-int4", "92.3 MB", "21.800", "+9.00 ± 1.23 %", "0.08412 ± 0.00446", "83.2 ± 1.2 %", "30 %", "1 of 2", "12",
    ]  # fmt: skip
    assert cells[4][3:8] == ["+0.00 %", "0.00000", "0.0 %", "-", "-"]
    assert "2047 tokens counted, windows of 512 that move by 256" in lines[0]
    assert lines[-1] == "- nano-int4 and x: -0.00100 ± 0.00200"


def test_names_are_made_harmless_in_the_table_and_ties_are_left_out_where_there_are_none():
    text = to_text(Evaluation("nano", 9, 512, 256, 64, REFERENCE, (SHORT,), ()))
    assert "\x1b" not in text
    assert "evil␛[2J name" in text
    assert "told apart" not in text


def test_json_holds_every_value_and_those_by_block():
    document = json.loads(json.dumps(to_json(FOUND)))
    assert (document["model"], document["num_tokens"], document["block"]) == ("nano", 2047, 64)
    assert (document["reference"]["perplexity"], document["reference"]["seconds"]) == (20.0, 3.0)
    int4 = document["profiles"][0]
    assert int4["kl"] == {"value": 0.084123, "error": 0.004456}
    assert (int4["kl_blocks"], int4["seconds"]) == ([0.08, 0.09], 12.5)
    assert int4["answers"] == {
        "tokens": [512, 80], "repeated": [0.5, 0.1], "looping": [True, False], "seconds": 5.5, "repetition": 0.3,
    }  # fmt: skip
    assert document["profiles"][1]["answers"] is None
    assert document["ties"][0]["first"] == "nano-int4"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profiles", "nano-cpu,,nano-int4"], "found an empty name"),
        (["--profiles", ""], "found an empty name"),
        (["--profiles", "nano-cp"], "nano-cpu"),
        (["--profiles", "nano-cpu,nano-cpu"], "two profiles would be called 'nano-cpu'"),
        (["--variant", "nano-cpu"], "expected NAME=PROFILE"),
        (["--variant", "=nano-cpu"], "expected NAME=PROFILE"),
        (["--variant", "a="], "expected NAME=PROFILE"),
        (["--variant", "a=nano-cpu,cache_len=3"], "cache_lens"),
        (["--variant", "a=nano-cpu,"], "found no ="),
        (["--set", "defaults.precision=int5"], "int4"),
        (["--text", "absent.txt"], "No such file"),
        (["--tokens", "1"], "x>=2"),
        (["--answers", "9"], "0<=x<=8"),
        (["no-such-model"], "no-such-model"),
    ],
)
def test_a_wrong_command_line_exits_2_says_why_and_prints_no_table(arguments, message, capfd):
    assert cli.run(["eval", *arguments]) == 2
    out, err = capfd.readouterr()
    assert (message in err, out) == (True, "")
    assert "internal" not in err


def test_a_text_that_is_no_utf_8_is_refused_as_json_where_json_was_asked_for(tmp_path, capfd):
    (tmp_path / "text").write_bytes(b"abc \xff")
    assert cli.run(["eval", "--text", str(tmp_path / "text"), "--json"]) == 2
    document = json.loads(capfd.readouterr().out)
    assert "cannot be read as UTF-8 text" in document["error"]["message"]
    assert document["exit_code"] == 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_checkpoint(folder, random_config(vocab_size=450, num_hidden_layers=2), seed=5, dtype=torch.float32)
    return trained(folder, "byte-level")


def test_a_small_model_from_command_line_to_document(model, tmp_path, capfd):
    profile = tmp_path / "mine.yaml"
    profile.write_text("name: mine\ndefaults: {precision: int4}\nmax_new_tokens: 512\n")
    text = tmp_path / "text"
    text.write_text("some ordinary words of a sentence " * 30)
    arguments = ["eval", str(model), "--profiles", str(profile), "--text", str(text), "--tokens", "200"]
    variant = ["--variant", "wide=nano-cpu,defaults.group_size=32,defaults.precision=int8"]
    assert cli.run([*arguments, *variant, "--answers", "1", "--json"]) == 0
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["num_tokens"] == 199
    assert [one["name"] for one in document["profiles"]] == ["mine", "wide"]
    assert document["profiles"][0]["kl"]["value"] > document["profiles"][1]["kl"]["value"] > 0
    assert all(len(one["answers"]["tokens"]) == 1 for one in document["profiles"])
    assert "mine (2 of 3): text" in err
    assert cli.run([*arguments, "--answers", "0"]) == 0
    assert "| mine " in capfd.readouterr().out
