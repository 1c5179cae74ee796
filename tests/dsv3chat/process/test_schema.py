"""`--schema FILE`: the answer of plain mode is JSON that meets it, or an error."""

import json
import os
import pty
import subprocess

import pytest

from tests.dsv3chat.process.processes import run

COLOUR = '{"type":"object","properties":{"colour":{"type":"string","maxLength":9}},"required":["colour"]}'


@pytest.fixture
def colour(tmp_path):
    (tmp_path / "colour.json").write_text(COLOUR)
    return str(tmp_path / "colour.json")


def test_a_schema_reaches_the_model_and_a_whole_answer_is_done(start, colour):
    code, out, err = run(start, {"text": '{"colour":"red"}'}, "-p", "Name one", "--schema", colour)
    assert (code, out) == (0, b'{"colour":"red"}\n')
    assert f"SCHEMA {COLOUR}" in err


def test_an_answer_that_is_cut_before_it_meets_its_schema_exits_1_and_says_so(start, colour):
    flags = ["-p", "Name one", "--schema", colour, "--max-tokens", "1"]
    code, out, err = run(start, {"text": '{"colour":"red"}'}, *flags)
    assert (code, out) == (1, b'{"colo\n')
    assert "not the JSON that --schema asks for" in err
    code, out, _ = run(start, {"text": '{"colour":"red"}'}, *flags, "--json")
    document = json.loads(out)
    assert code == document["exit_code"] == 1
    assert document["finish_reason"] == "length"
    assert any("--schema" in warning for warning in document["warnings"])
    code, out, _ = run(start, {"text": '{"colour":"red"}'}, *flags, "--jsonl")
    assert code == json.loads(out.splitlines()[-1])["exit_code"] == 1


@pytest.mark.parametrize(
    ("schema", "says"),
    [(None, "cannot be read"), ("{", "not a JSON Schema"), ('{"type":"strin"}', "Invalid type: strin")],
)
def test_a_schema_file_that_cannot_be_used_exits_2_before_a_model_is_loaded(start, tmp_path, schema, says):
    if schema is not None:
        (tmp_path / "bad.json").write_text(schema)
    code, out, err = run(start, {"text": "x", "crash": True}, "-p", "hi", "--schema", "bad.json")
    assert (code, out) == (2, b"")
    assert says in err
    assert "bad.json" in err
    assert "Traceback" not in err


def test_a_schema_and_a_stop_string_exclude_each_other(start, colour):
    code, _, err = run(start, {"text": "x"}, "-p", "hi", "--schema", colour, "--stop", "}")
    assert (code, "--stop" in err) == (2, True)


@pytest.mark.parametrize("env", [{}, {"TERM": "dumb"}], ids=["full-screen", "line-by-line"])
def test_a_schema_without_a_question_is_a_usage_error(start, colour, env):
    controller, terminal = pty.openpty()
    process = start(
        {"text": "x"},
        "--schema",
        colour,
        env_more=env,
        stdin=terminal,
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    _, err = process.communicate(timeout=180)
    os.close(controller)
    assert process.returncode == 2
    assert b"--schema is for one question" in err
