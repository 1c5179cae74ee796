"""`dsv3chat review` in lines: what it prints and writes, and that no failure looks like a clean review."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from dsv3chat import cli, cli_chat, exit_codes
from tests.dsv3chat.process.review_driver import DEFECT, ReviewBackend

SCHEMAS = Path(__file__).parent / "review" / "schemas"
MARKED = "def f(a=[]):\n    return a\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """The working folder: one file with a defect and one without."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text(MARKED)
    (tmp_path / "good.py").write_text("x = 1\n")
    return tmp_path


@pytest.fixture
def review(tree, monkeypatch, capfd):
    """Run the command over scripted answers; returns (exit code, standard output, standard error, backend)."""

    def run(*flags, answers=None, **options):
        backend = ReviewBackend(answers if answers is not None else {"bad.py": [DEFECT]}, **options)
        monkeypatch.setattr(cli_chat, "make_backend", lambda launch: backend)
        code = cli.run(["review", *flags])
        out, err = capfd.readouterr()
        return code, out, err, backend

    return run


def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tree):
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    return tree


def test_findings_go_to_stdout_and_everything_else_to_stderr(review):
    code, out, err, _ = review()
    assert code == 1
    assert out.splitlines() == [
        "bad.py:1: high mutable-default: The default list is shared. (1.00)",
        "     1| def f(a=[]):",
        "   fix| def f(a=None):",
        "1 finding (1 high) in 2 files",
    ]
    assert "2 files, 2 chunks" in err


def test_a_clean_review_says_of_what(review):
    code, out, _, _ = review(answers={})
    assert (code, out) == (0, "no findings in 2 files\n")


@pytest.mark.parametrize(
    ("severity", "rule", "fail_on", "expected"),
    [
        ("error", "mutable-default", "high", 1),
        ("error", "mutable-default", "critical", 0),
        ("warning", "mutable-default", "high", 0),
        ("warning", "mutable-default", "medium", 1),
        ("info", "mutable-default", "low", 1),
        ("info", "sql-injection", "critical", 1),
        ("error", "sql-injection", "none", 0),
    ],
)
def test_the_exit_code_follows_severity_and_fail_on(review, severity, rule, fail_on, expected):
    answers = {"bad.py": [DEFECT | {"severity": severity, "rule": rule}]}
    assert review("--fail-on", fail_on, answers=answers)[0] == expected


@pytest.mark.parametrize("name", ["sarif", "gitlab", "rdjson"])
@pytest.mark.parametrize("answers", [{}, {"bad.py": [DEFECT]}, {"bad.py": "no JSON"}])
def test_stdout_is_one_document_that_fits_its_schema(review, name, answers):
    _, out, _, _ = review("-f", name, answers=answers)
    schema = {"sarif": "sarif-2.1.0.json", "gitlab": "gitlab-code-quality.json", "rdjson": "rdjson.json"}[
        name
    ]
    jsonschema.validate(json.loads(out), json.loads((SCHEMAS / schema).read_text("utf-8")))


def test_json_tells_what_was_done_and_what_it_took(review):
    code, out, _, _ = review("-f", "json")
    report = json.loads(out)
    assert report["exit_code"] == code == 1
    assert [finding["path"] for finding in report["findings"]] == ["bad.py"]
    assert report["reviewed"] == ["bad.py", "good.py"]
    assert report["usage"]["chunks"] == 2
    assert report["usage"]["prompt_tokens"] > 0
    assert report["complete"] is True


def test_json_lines_end_with_the_report(review):
    _, out, _, _ = review("-f", "jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    events = [line["event"] for line in lines]
    assert (events[0], events[-1]) == ("start", "end")
    assert events.count("finding") == lines[-1]["findings"] == 1
    assert events.count("file") == 2
    assert lines[-1]["exit_code"] == 1


def test_annotations_and_markdown_are_printed(review):
    assert review("-f", "github")[1].startswith(
        "::error file=bad.py,line=1,endLine=1,title=mutable-default::"
    )
    assert "`bad.py:1`" in review("-f", "markdown")[1]


def test_files_are_written_beside_stdout(review, tree):
    code, out, err, _ = review("-o", "sarif=out.sarif", "-o", "notes.md", "-o", "json=a=b.json")
    assert code == 1
    assert out.endswith("1 finding (1 high) in 2 files\n")
    assert json.loads((tree / "out.sarif").read_text())["version"] == "2.1.0"
    assert (tree / "notes.md").read_text().startswith("## Code review")
    assert json.loads((tree / "a=b.json").read_text())["format"] == "dsv3chat-review"
    assert "wrote sarif → out.sarif" in err
    assert sorted(p.name for p in tree.iterdir()) == [
        "a=b.json",
        "bad.py",
        "good.py",
        "notes.md",
        "out.sarif",
    ]


def test_a_files_name_says_more_than_the_format_of_stdout(review, tree):
    _, out, _, _ = review("-f", "json", "-o", "out.sarif", "-o", "gl-code-quality-report.json")
    assert json.loads(out)["format"] == "dsv3chat-review"
    assert "runs" in json.loads((tree / "out.sarif").read_text())
    assert isinstance(json.loads((tree / "gl-code-quality-report.json").read_text()), list)


@pytest.mark.parametrize(
    "flags", [("-f", "sarif", "-o", "out.json"), ("-f", "sarif", "-o", "sarif=out.json")]
)
def test_what_a_file_gets_is_not_printed_as_well(review, tree, flags):
    code, out, err, _ = review(*flags)
    assert (code, out) == (1, "")
    assert "runs" in json.loads((tree / "out.json").read_text())
    assert "1 finding (1 high) in 2 files" in err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--staged", "--uncommitted"], "--staged and --uncommitted exclude each other"),
        (["--diff", "--stdin-diff"], "--diff and --stdin-diff exclude each other"),
        (["--commit", ""], "--commit is empty"),
        (["--strategy", "hunk"], "--strategy hunk needs a diff"),
        (["--context-findings"], "--context-findings needs a diff"),
        (["--dry-run", "-f", "sarif"], "--dry-run makes no report"),
        (["--dry-run", "-o", "a.json"], "--dry-run makes no report"),
        (["--dry-run", "--update-baseline"], "--dry-run finds nothing"),
        (["--update-baseline", "--max-findings", "3"], "--update-baseline with --max-findings"),
        (["--evaluate", "a.jsonl", "bad.py"], "--evaluate and PATH exclude each other"),
        (["--evaluate", "a.jsonl", "--staged"], "--evaluate and a diff exclude each other"),
        (["--evaluate", "a.jsonl", "-f", "sarif"], "--evaluate prints text or json"),
        (["-o", "report"], "which format?"),
        (["-o", "srif=report"], "did you mean sarif?"),
        (["-o", "sarif="], "names no file"),
        (["-o", "json=-"], "names no file"),
        (["-o", "nowhere/a.sarif"], "there is no folder nowhere"),
        (["-o", "json=."], "is a folder"),
        (["-o", "json=a", "-o", "sarif=./a"], "names a twice"),
        (["--max-file-bytes", "much"], "'much' is no size"),
        (["--max-file-bytes", "0"], "less than one byte"),
        (["--min-confidence", "2"], "0<=x<=1"),
        (["--passes", "4"], "1<=x<=3"),
        (["--protocol", "nono"], "known are nano, general"),
        (["-f", "xml"], "'xml' is not one of"),
        (["--bogus"], "No such option '--bogus'"),
        (["nowhere.py"], "nowhere.py"),
        (["--baseline", "none.json"], "the baseline none.json cannot be read"),
        (["--model", "no/such"], "no/such"),
        (["--profile", "nope"], "nope"),
        (["--resume"], "there is nothing to resume"),
        (["--diff"], "repository"),
        (["--evaluate", "none.jsonl"], "none.jsonl: cannot be read"),
    ],
)
def test_what_is_wrong_exits_2_in_its_own_words_and_runs_no_model(review, flags, message, monkeypatch, tree):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tree.parent))
    code, out, err, backend = review(*flags)
    assert code == 2
    assert message in " ".join((err + out).split())
    assert "no findings" not in out + err
    assert backend.num_loads == 0


@pytest.mark.parametrize(
    "flags", [["--staged", "--uncommitted"], ["--bogus"], ["nowhere.py"], ["--resume"], ["--profile", "nope"]]
)
def test_what_is_wrong_is_json_where_json_is_asked_for(review, flags):
    code, out, err, _ = review(*flags, "-f", "json")
    document = json.loads(out)
    assert code == document["exit_code"] == 2
    assert document["error"]["message"]
    assert "Error" in document["error"]["kind"] or document["error"]["kind"] == "NoSuchOption"
    assert err == ""


@pytest.mark.parametrize("name", ["json", "jsonl", "sarif", "gitlab", "rdjson"])
@pytest.mark.parametrize("flag", ["-f{}", "--format={}"])
def test_an_error_of_a_json_format_is_json_that_no_reader_takes_for_a_report(review, name, flag):
    code, out, err, _ = review(flag.format(name), load_error="no model [red]\x1b")
    document = json.loads(out.splitlines()[-1] if name == "jsonl" else out)
    assert code == document["exit_code"] == 2
    assert (
        document["error"] == {"kind": "ModelNotFoundError", "message": "no model [red]\x1b"}
        or flag == "-f={}"
    )
    assert not {"findings", "diagnostics", "runs"} & set(document)
    assert "no findings" not in err


def test_an_answer_that_is_no_json_leaves_the_review_incomplete_and_outranks_findings(review, tree):
    answers = {"bad.py": [DEFECT], "good.py": "I think it is fine."}
    code, out, err, _ = review("-o", "a.sarif", "-o", "a.json", answers=answers)
    assert code == exit_codes.INCOMPLETE == 3
    assert out.splitlines()[-1].startswith("INCOMPLETE: 1 file not reviewed")
    assert "good.py: not reviewed:" in out
    assert "good.py: not reviewed:" in err
    invocation = json.loads((tree / "a.sarif").read_text())["runs"][0]["invocations"][0]
    assert (invocation["executionSuccessful"], invocation["exitCode"]) == (False, 3)
    report = json.loads((tree / "a.json").read_text())
    assert report["raw_answers"][0]["text"] == "I think it is fine."
    assert [finding["path"] for finding in report["findings"]] == ["bad.py"]


def test_a_budget_that_runs_out_leaves_the_review_incomplete(review):
    code, out, _, _ = review("--budget", "130", answers={})
    assert code == 3
    assert "INCOMPLETE" in out
    assert "no findings in 2 files" not in out


def test_where_every_file_is_skipped_nothing_was_reviewed(review, tree):
    (tree / "a.c").write_text("int main;\n")
    code, out, err, backend = review("a.c")
    assert (code, out) == (0, "nothing was reviewed; 1 file skipped\n")
    assert "nothing to review in a.c: skipped 1 file: nano reviews Python (1: a.c)" in err
    assert backend.num_loads == 0


def test_a_diff_that_changes_nothing_is_no_review(review, repository):
    code, out, err, backend = review("--staged")
    assert (code, out) == (0, "nothing was reviewed\n")
    assert "nothing to review in git diff --staged: there are no changes" in err
    assert backend.num_loads == 0


def test_a_diff_covers_the_changes(review, repository):
    (repository / "good.py").write_text("x = 1\ny = 2\n")
    code, out, _, backend = review("--diff", "-f", "json", answers={})
    assert code == 0
    assert json.loads(out)["reviewed"] == ["good.py"]
    assert len(backend.prompts) == 1


def test_a_path_after_diff_is_a_path_and_that_is_said(review, repository):
    (repository / "good.py").write_text("x = 1\ny = 2\n")
    (repository / "bad.py").write_text(MARKED + "\n\nz = 3\n")
    code, out, err, _ = review("--diff", "good.py", "-f", "json")
    assert code == 0
    assert json.loads(out)["reviewed"] == ["good.py"]
    assert "good.py is a path and no revision" in err


@pytest.mark.parametrize("text", ["", "no diff at all\n"])
def test_standard_input_without_a_diff_is_an_error(review, tree, monkeypatch, text):
    (tree / "diff").write_text(text)
    with open(tree / "diff") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        code, out, err, backend = review("--stdin-diff")
    assert (code, out, backend.num_loads) == (2, "", 0)
    assert "standard input" in err


def test_a_diff_on_standard_input_is_reviewed(review, repository, monkeypatch):
    (repository / "bad.py").write_text("x = 1\n" + MARKED)
    diff = subprocess.run(["git", "diff"], capture_output=True, check=True).stdout
    (repository / "diff").write_bytes(diff)
    with open(repository / "diff") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        code, out, _, _ = review("--stdin-diff", "-f", "json", answers={"bad.py": [DEFECT]})
    report = json.loads(out)
    assert code == 1
    assert report["scope"] == "a diff from standard input"
    assert [finding["path"] for finding in report["findings"]] == ["bad.py"]


def test_a_diff_that_was_cut_on_its_way_is_an_incomplete_review(review, repository, monkeypatch):
    (repository / "bad.py").write_text("x = 1\n" + MARKED)
    (repository / "good.py").write_text("x = 1\n" + "y = 2\n" * 9)
    diff = subprocess.run(["git", "diff"], capture_output=True, check=True).stdout
    (repository / "diff").write_bytes(diff[:-20])
    with open(repository / "diff") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        code, out, err, _ = review("--stdin-diff", "-f", "json")
    report = json.loads(out)
    assert code == 3
    assert (report["complete"], report["reviewed"]) == (False, ["bad.py"])
    assert [failed["path"] for failed in report["failed"]] == ["good.py"]
    assert "good.py: not reviewed: its diff is damaged" in err


def test_an_unknown_revision_is_an_error(review, repository):
    code, out, err, _ = review("--diff", "nowhere...HEAD")
    assert (code, out) == (2, "")
    assert "nowhere" in err


def test_a_baseline_hides_what_it_knows_until_something_else_comes(review, tree):
    code, out, err, _ = review("--update-baseline")
    assert (code, out) == (0, "no findings in 2 files; 1 in the baseline\n")
    assert ".dsv3-baseline.json" in err
    code, out, err, _ = review()
    assert (code, out.splitlines()[0]) == (
        0,
        "no findings in 2 files; 1 in the baseline; 1 file skipped; 2 chunks from the review cache",
    )
    assert "1 known findings in" in err
    (tree / "good.py").write_text(MARKED)
    code, out, _, _ = review(answers={"bad.py": [DEFECT], "good.py": [DEFECT]})
    assert code == 1
    assert out.startswith("good.py:1: high")


def test_the_commands_own_files_are_not_reviewed(review, tree):
    (tree / "out.py").write_text(MARKED)
    (tree / "known.py").write_text('{"version": 1, "findings": []}')
    code, _, _, _ = review(
        "-f", "json", "-o", "json=out.py", "--baseline", "known.py", "--update-baseline", answers={}
    )
    assert code == 0
    skipped = json.loads((tree / "out.py").read_text())["skipped"]
    assert [entry["path"] for entry in skipped] == ["known.py", "out.py"]
    assert json.loads((tree / "known.py").read_text())["findings"] == []


def test_an_incomplete_review_leaves_the_baseline_as_it_was(review, tree):
    code, _, err, _ = review("--update-baseline", "--baseline", "known.json", answers={"bad.py": "no JSON"})
    assert code == 3
    assert not (tree / "known.json").exists()
    assert "the baseline is as it was" in err


def test_a_second_run_calls_no_model(review):
    assert review()[3].num_loads == 1
    code, out, _, backend = review()
    assert (code, backend.num_loads, backend.prompts) == (1, 0, [])
    assert out.splitlines()[-1] == "1 finding (1 high) in 2 files; 2 chunks from the review cache"


def test_a_dry_run_tells_files_tokens_and_reasons_and_runs_no_model(review, tree):
    (tree / "a.c").write_text("int main;\n")
    code, out, _, backend = review("--dry-run")
    assert code == 0
    assert "bad.py: 1 chunk, " in out
    assert "a.c: skipped: nano reviews Python\n" in out
    assert "2 files, 2 chunks" in out
    assert "the time is not known" in out
    code, out, _, _ = review("--dry-run", "-f", "json")
    plan = json.loads(out)
    assert [file["path"] for file in plan["files"]] == ["bad.py", "good.py"]
    assert plan["skipped"] == [{"path": "a.c", "reason": "nano reviews Python"}]
    assert plan["prompt_tokens"] == sum(file["tokens"] for file in plan["files"]) > 0
    assert backend.num_loads == 0


def test_evaluate_prints_the_figures(review, tree):
    rows = [
        {"path": "bad.py", "start": 1, "code": MARKED, "findings": [{"line": 1, "rule": "mutable-default"}]},
        {"path": "good.py", "start": 1, "code": "x = 1\n", "findings": []},
    ]
    (tree / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, _, _ = review("--evaluate", "labelled.jsonl", "-f", "json")
    figures = json.loads(out)
    assert code == 0
    assert (figures["num_chunks"], figures["all"]["f1"], figures["valid_json_rate"]) == (2, 1.0, 1.0)
    code, out, _, _ = review("--evaluate", "labelled.jsonl")
    assert code == 0
    assert "mutable-default" in out


def test_a_file_that_cannot_be_replaced_stays_and_the_review_is_not_a_success(review, tree, monkeypatch):
    (tree / "old.sarif").write_text("before")

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    code, _, err, _ = review("-o", "old.sarif", answers={})
    assert code == 3
    assert "old.sarif cannot be written: No space left on device" in err
    assert (tree / "old.sarif").read_text() == "before"
    assert [p.name for p in tree.iterdir() if p.name.startswith(".")] == []


def test_a_baseline_in_a_folder_that_is_not_there_is_refused_before_the_review(review):
    code, _, err, backend = review("--update-baseline", "--baseline", "nowhere/known.json")
    assert (code, backend.num_loads) == (2, 0)
    assert "nothing can be written in nowhere" in err


def test_what_the_model_has_to_say_of_itself_is_told_and_reported(review, monkeypatch):
    noted = lambda self: replace(self._info, notes=("the MTP layer is left out",)) if self._info else None  # noqa: E731
    monkeypatch.setattr(ReviewBackend, "info", property(noted))
    _, out, err, _ = review("-f", "json")
    assert "the MTP layer is left out" in err
    assert "the MTP layer is left out" in json.loads(out)["warnings"]


def test_help_names_every_exit_code_of_the_review(capfd):
    assert cli.run(["review", "--help"]) == 0
    text = capfd.readouterr().out.partition("Exit codes:")[2]
    for code in (0, 1, 2, 3, 70, 130, 141):
        assert f" {code}  " in text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--baseline", "closed/base.json"], 2),
        (["-o", "closed/report.json"], 3),
        (["--diff", "closed/x.py"], 2),
        (["--dry-run", "--diff=HEAD", "closed/deeper/x.py"], 2),
    ],
)
def test_a_place_that_the_system_hides_is_no_fault_of_this_program(
    review, repository, monkeypatch, flags, expected
):
    (repository / "closed").mkdir()
    stat = os.stat

    def refuse(path, *arguments, **options):
        if isinstance(path, str | Path) and "closed/" in os.fspath(path):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    code, _, err, _ = review(*flags)
    assert code == expected
    assert "Errno" not in err
    assert "PosixPath" not in err
