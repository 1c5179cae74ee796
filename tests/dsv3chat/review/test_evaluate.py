"""Evaluation: the arithmetic on counted cases, the form of the JSON, refused files, a run against scripted answers."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import pytest

from dsv3chat.engine_backend import EngineBackend
from dsv3chat.review.evaluate import EvaluationError, evaluate
from dsv3chat.review.evaluation import Evaluation
from dsv3chat.review.labelled import LabelledChunk, LabelledFileError, read_labelled
from dsv3chat.review.model import ReviewedModel, describe_model
from dsv3chat.review.nano_protocol import NANO
from dsv3chat.review.scores import Outcome, score
from dsv3chat.review.values import Chunk, ReviewOptions
from engine import (
    EngineClosedError,
    Failed,
    Finished,
    ModelInfo,
    ModelNotFoundError,
    TextDelta,
    TokenLogprob,
    Usage,
    find_profile,
    read_profile,
)

MODEL = ReviewedModel("scripted", "none", "", 3, None, {}, len, True)


def outcome(labels, found, num_lines=4, valid=True):
    chunk = Chunk("a.py", "python", 1, ("x",) * num_lines)
    return Outcome(LabelledChunk(chunk, frozenset(labels), 1), found, valid)


def evaluation(outcomes, at=0.5, seconds=2.0):
    return Evaluation("nano", "nano-cpu", "nano", at, tuple(outcomes), 100, 60, 10, seconds)


# The arithmetic


def test_a_finding_is_right_when_line_and_rule_are():
    right = outcome([(1, "bare-except")], {(1, "bare-except"): 0.9})
    other_line = outcome([(1, "bare-except")], {(2, "bare-except"): 0.9})
    other_rule = outcome([(1, "bare-except")], {(1, "is-literal"): 0.9})
    scores = score([right, other_line, other_rule], 0.5)
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert scores.num_findings == 3


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    outcomes = [
        outcome([(1, "weak-hash"), (2, "weak-hash")], {(1, "weak-hash"): 0.9}),
        outcome([], {(3, "weak-hash"): 0.7}),
    ]
    scores = score(outcomes, 0.5)
    assert (scores.precision, scores.recall) == (1 / 2, 1 / 2)
    scores = score([*outcomes, outcome([], {(1, "weak-hash"): 0.6})], 0.5)
    assert scores.f1 == pytest.approx(2 / (1 / scores.precision + 1 / scores.recall))


def test_a_finding_below_the_threshold_does_not_count_and_one_at_it_does():
    one = [outcome([(1, "weak-hash")], {(1, "weak-hash"): 0.5})]
    assert score(one, 0.5).recall == 1.0
    assert score(one, 0.51).recall == 0.0


def test_a_rule_is_scored_by_its_own_findings_and_labels():
    outcomes = [outcome([(1, "weak-hash")], {(1, "weak-hash"): 0.9, (2, "is-literal"): 0.9})]
    assert score(outcomes, 0.5, "weak-hash").precision == 1.0
    assert score(outcomes, 0.5, "is-literal").precision == 0.0
    assert score(outcomes, 0.5).precision == 0.5


def test_a_quotient_of_nothing_is_none():
    nothing_found = score([outcome([(1, "weak-hash")], {})], 0.5)
    assert (nothing_found.precision, nothing_found.recall, nothing_found.f1) == (None, 0.0, 0.0)
    nothing_there = score([outcome([], {(1, "weak-hash"): 0.9})], 0.5)
    assert (nothing_there.precision, nothing_there.recall, nothing_there.f1) == (0.0, None, 0.0)
    neither = score([outcome([], {})], 0.5)
    assert (neither.precision, neither.recall, neither.f1) == (None, None, None)


# What is reported


def test_the_json_has_these_keys_and_no_others():
    found = json.loads(evaluation([outcome([(1, "weak-hash")], {(1, "weak-hash"): 0.9})]).to_json())
    scores = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "num_findings": 1}
    assert found == {
        "all": scores,
        "rules": {"weak-hash": scores},
        "findings_per_clean_chunk": None,
        "valid_json_rate": 1.0,
        "num_chunks": 1,
        "seconds": 2.0,
        "tokens_per_s": 25.0,
    }


def test_what_is_undefined_is_null_in_json_and_na_in_the_table():
    missed = evaluation([outcome([(1, "weak-hash")], {})], seconds=0.0)
    found = json.loads(missed.to_json())
    assert found["rules"]["weak-hash"]["precision"] is None
    assert found["rules"]["weak-hash"]["f1"] == 0.0
    assert found["tokens_per_s"] is None
    row = next(line for line in missed.to_text().splitlines() if line.startswith("weak-hash"))
    assert row.split()[:5] == ["weak-hash", "1", "n/a", "0.00", "0.00"]
    assert "nan" not in missed.to_text().lower().split()


def test_findings_per_clean_chunk_counts_clean_chunks_alone():
    outcomes = [
        outcome([], {(1, "weak-hash"): 0.9, (2, "weak-hash"): 0.4}),
        outcome([], {}),
        outcome([(1, "weak-hash")], {(2, "weak-hash"): 0.9}),
    ]
    assert json.loads(evaluation(outcomes).to_json())["findings_per_clean_chunk"] == 0.5
    assert json.loads(evaluation(outcomes, at=0.0).to_json())["findings_per_clean_chunk"] == 1.0


def test_the_table_has_every_threshold_and_every_length():
    outcomes = [
        outcome([(1, "weak-hash")], {(1, "weak-hash"): 0.6}, num_lines=lines) for lines in (1, 5, 6, 14, 15)
    ]
    text = evaluation(outcomes).to_text()
    by_threshold = text.split("By threshold")[1].split("By length")[0].splitlines()[2:7]
    assert [line.split()[0] for line in by_threshold] == ["0", "0.35", "0.5", "0.65", "0.8"]
    assert [line.split()[4] for line in by_threshold] == ["1.00", "1.00", "1.00", "0.00", "0.00"]
    by_length = text.split("By length")[1].splitlines()[2:5]
    assert [line.split("  ")[0] for line in by_length] == ["1 to 5", "6 to 14", "15 and more"]
    assert [line.split()[3] for line in by_length] == ["2", "2", "1"]


# Refused files


GOOD = {
    "path": "a.py",
    "start": 10,
    "code": "x = 1\ny = 2\n",
    "findings": [{"line": 11, "rule": "weak-hash"}],
}


def write(tmp_path, *rows):
    file = tmp_path / "labelled.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def test_lines_count_as_in_the_file_and_a_severity_is_allowed(tmp_path):
    row = {**GOOD, "findings": [{"line": 11, "rule": "weak-hash", "severity": "error"}]}
    (one,) = read_labelled(write(tmp_path, "", row), NANO)
    assert (one.chunk.start, one.chunk.end) == (10, 11)
    assert one.chunk.lines == ("x = 1", "y = 2")
    assert one.labels == {(11, "weak-hash")}
    assert one.source_line == 2


def test_a_protocol_of_one_language_takes_a_path_without_one_at_its_word(tmp_path):
    (one,) = read_labelled(write(tmp_path, {**GOOD, "path": "snippet"}), NANO)
    assert one.chunk.language == "python"


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ("{", "no JSON"),
        ("[" * 20_000, "no JSON"),
        ("[]", "found a list; expected an object"),
        ({k: v for k, v in GOOD.items() if k != "path"}, "path is missing"),
        ({k: v for k, v in GOOD.items() if k != "findings"}, "findings is missing"),
        ({**GOOD, "start": "10"}, "start is text; expected a whole number"),
        ({**GOOD, "start": True}, "start is true or false"),
        ({**GOOD, "start": 0}, "lines count from 1"),
        ({**GOOD, "code": "\n"}, "code is empty"),
        ({**GOOD, "path": "a.c"}, "nano reviews Python"),
        ({**GOOD, "findings": ["weak-hash"]}, "a finding is text"),
        ({**GOOD, "findings": [{"line": 2, "rule": "weak-hash"}]}, "the code on lines 10 to 11"),
        ({**GOOD, "findings": [{"line": 12, "rule": "weak-hash"}]}, "the code on lines 10 to 11"),
        ({**GOOD, "findings": [{"line": 11, "rule": "typo"}]}, "rule 'typo' is none of the protocol nano"),
        ({**GOOD, "findings": [{"line": 11}]}, "rule is missing"),
    ],
)
def test_a_bad_line_is_refused_with_file_and_number(tmp_path, row, wrong):
    file = write(tmp_path, GOOD, row)
    with pytest.raises(LabelledFileError) as caught:
        read_labelled(file, NANO)
    assert str(caught.value).startswith(f"{file}:2: ")
    assert wrong in str(caught.value)


def test_a_file_that_is_absent_empty_or_no_text_is_refused(tmp_path):
    with pytest.raises(LabelledFileError, match="No such file"):
        read_labelled(tmp_path / "absent.jsonl", NANO)
    with pytest.raises(LabelledFileError, match="holds no chunk"):
        read_labelled(write(tmp_path, ""), NANO)
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LabelledFileError, match="not UTF-8"):
        read_labelled(tmp_path / "binary.jsonl", NANO)


# A run


class Scripted:
    """A backend whose answer to a chunk is looked up by the chunk's path; each character is a token of probability p."""

    def __init__(self, answers, p=1.0, load_error=None, held=frozenset()):
        self.answers = answers
        self.held = held  # paths that are never answered, only cancelled
        self.logprob = math.log(p)
        self.load_error = load_error
        self.info = None
        self.asked = []

    def load(self, on_progress):
        if self.load_error is not None:
            raise self.load_error
        self.info = ModelInfo("scripted", "", "", 0, 0, 8192, "none", 1024)
        return self.info

    def cancel_load(self):
        pass

    def start(self, messages, params):
        path = messages[-1].content.split("\n")[0].removeprefix("File: ")
        self.asked.append((path, params))
        return Reply(self, self.answers[path], path in self.held)


class Reply:
    def __init__(self, backend, answer, held):
        self.backend = backend
        self.answer = answer
        self.held = held
        self.cancelled = threading.Event()

    def wait(self, timeout=None):
        usage = Usage(100, 60, len(str(self.answer)), 0, 0.0, 0.1, 0.1, None, None, 0)
        if self.held:
            return [Finished("cancelled", usage)] if self.cancelled.wait(timeout) else []
        if isinstance(self.answer, Failed):
            return [self.answer]
        deltas = [
            TextDelta(c, 1, 0.0, "answer", (0,), (TokenLogprob(0, self.backend.logprob),))
            for c in self.answer
        ]
        return [*deltas, Finished("stop", usage)]

    def cancel(self):
        self.cancelled.set()


def answer(*places):
    findings = [
        {"line": line, "severity": "error", "rule": rule, "message": "m", "suggestion": ""}
        for line, rule in places
    ]
    return json.dumps({"findings": findings}, separators=(",", ":"))


def chunk(path, *labels):
    return LabelledChunk(Chunk(path, "python", 10, ("x = 1", "y = 2")), frozenset(labels), 1)


def test_a_run_asks_each_chunk_once_with_the_protocols_prompt_and_grammar():
    backend = Scripted({"a.py": answer((11, "weak-hash")), "b.py": answer()})
    told = []
    labelled = [chunk("a.py", (11, "weak-hash")), chunk("b.py")]
    result = evaluate(
        labelled,
        backend,
        NANO,
        ReviewOptions(),
        model=MODEL,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert sorted(path for path, _ in backend.asked) == ["a.py", "b.py"]
    for path, params in backend.asked:
        one = next(one for one in labelled if one.chunk.path == path)
        assert params.grammar.schema == NANO.schema(one.chunk)
        assert params.temperature == 0.0
    assert told == [(1, 2), (2, 2)]
    assert [dict(o.found) for o in result.outcomes] == [{(11, "weak-hash"): 1.0}, {}]
    assert (result.min_confidence, result.prompt_tokens, result.reused_tokens) == (0.5, 200, 120)
    found = json.loads(result.to_json())
    assert found["all"]["f1"] == 1.0
    assert found["findings_per_clean_chunk"] == 0.0


def test_outcomes_keep_the_files_order_whatever_is_answered_first():
    paths = [f"{i}.py" for i in range(20)]
    backend = Scripted({path: answer() for path in paths})
    result = evaluate([chunk(path) for path in paths], backend, NANO, ReviewOptions(), model=MODEL)
    assert [o.labelled.chunk.path for o in result.outcomes] == paths


def test_confidence_is_the_products_and_min_confidence_is_applied_afterwards():
    text = answer((11, "weak-hash"))
    backend = Scripted({"a.py": text}, p=0.99)
    result = evaluate(
        [chunk("a.py", (11, "weak-hash"))], backend, NANO, ReviewOptions(min_confidence=0.9), model=MODEL
    )
    length = text.index('","message') - text.index('{"line"')
    assert result.outcomes[0].found[11, "weak-hash"] == pytest.approx(0.99**length)
    assert json.loads(result.to_json())["all"]["recall"] == 0.0
    assert score(result.outcomes, 0.0).recall == 1.0


def test_an_answer_that_is_no_json_lowers_the_rate_and_finds_nothing():
    backend = Scripted({"a.py": "I see no problem.", "b.py": answer()})
    result = evaluate([chunk("a.py"), chunk("b.py")], backend, NANO, ReviewOptions(), model=MODEL)
    assert json.loads(result.to_json())["valid_json_rate"] == 0.5
    assert len(backend.asked) == 3  # one retry, as in a review


def test_a_chunk_without_an_answer_ends_the_evaluation_and_names_its_line():
    backend = Scripted({"a.py": Failed("too large", "RequestTooLargeError")})
    with pytest.raises(
        EvaluationError, match=r"line 1 of the labelled file \(a.py:10\) got no answer: too large"
    ):
        evaluate([chunk("a.py")], backend, NANO, ReviewOptions(), model=MODEL)


def test_a_model_that_breaks_or_is_not_there_is_the_engines_error():
    with pytest.raises(ModelNotFoundError):
        evaluate(
            [chunk("a.py")],
            Scripted({}, load_error=ModelNotFoundError("no such model")),
            NANO,
            ReviewOptions(),
            model=MODEL,
        )
    backend = Scripted({"a.py": Failed("out of memory", EngineClosedError.__name__)})
    with pytest.raises(Exception, match="out of memory") as caught:
        evaluate([chunk("a.py")], backend, NANO, ReviewOptions(), model=MODEL)
    assert not isinstance(caught.value, EvaluationError)


def test_an_interrupt_stops_what_runs_and_asks_nothing_more():
    paths = [f"{i}.py" for i in range(50)]
    backend = Scripted({path: answer() for path in paths}, held=frozenset(paths[1:]))

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(
            [chunk(path) for path in paths],
            backend,
            NANO,
            ReviewOptions(),
            model=MODEL,
            on_progress=interrupt,
        )
    assert len(backend.asked) <= 1 + MODEL.concurrency


def test_nano_tells_planted_defects_from_their_clean_twins(nano_dir):
    profile = read_profile(find_profile("nano-cpu"))
    rules = {"none-comparison", "is-literal"}
    rows = read_labelled(Path(__file__).parent / "labelled" / "rules.jsonl", NANO)
    first = [
        next(i for i, row in enumerate(rows) if rule in {name for _, name in row.labels}) for rule in rules
    ]
    labelled = [rows[i + twin] for i in sorted(first) for twin in (0, 1)]
    backend = EngineBackend(str(nano_dir), profile)
    try:
        result = evaluate(
            labelled, backend, NANO, ReviewOptions(), model=describe_model(str(nano_dir), profile)
        )
    finally:
        backend.close()
    found = json.loads(result.to_json())
    assert found["valid_json_rate"] == 1.0
    assert found["all"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "num_findings": 2}
    assert found["findings_per_clean_chunk"] == 0.0
    assert all(0.5 < sure <= 1.0 for outcome in result.outcomes for sure in outcome.found.values())
    assert result.reused_tokens > 0
