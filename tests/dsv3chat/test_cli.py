"""The command line: starts light, prints where things are, refuses what it does not know."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsv3chat import cli, cli_chat, exit_codes
from dsv3chat.launch import plan_launch
from dsv3chat.mode import Terminals, choose_mode
from dsv3chat.settings import Settings
from engine import ProfileError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"DSV3CHAT_{name}_DIR", str(tmp_path / name.lower()))
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["paths"],
        ["--version"],
        ["doctor", "--json"],
        ["models"],
        ["review", "--help"],
        ["convert", "--help"],
    ],
)
def test_a_command_that_runs_no_model_imports_neither_torch_nor_textual(arguments):
    program = (
        "import sys\n"
        "from dsv3chat.cli import run\n"
        f"code = run({arguments!r})\n"
        "heavy = {'torch', 'textual', 'rich', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "print(sorted(heavy), code, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stderr.splitlines()[-1] == "[] 0"
    assert done.stdout


def test_paths_are_where_the_environment_says(folders, capfd):
    assert cli.run(["paths", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["conversations"] == str(folders / "state" / "conversations.db")
    assert found["settings"] == str(folders / "config" / "settings.yaml")
    assert not (folders / "state").exists()


def test_help_names_every_exit_code(capfd):
    assert cli.run(["--help"]) == 0
    text = capfd.readouterr().out
    codes = [value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)]
    assert all(str(code) in text.partition("Exit codes:")[2] for code in codes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--json", "--jsonl", "-p", "x"], "exclude each other"),
        (["-c", "--resume", "ab"], "exclude each other"),
        (["--temperature", "0", "doctor"], "--temperature belongs to the chat"),
        (["doktor"], "No such command 'doktor'"),
        (["-p", "x", "--max-tokens", "0"], "max_new_tokens = 0"),
        (["-p", "x", "--top-p", "2"], "top_p = 2.0"),
        (["-p", "x", "--stop", ""], "empty stop string"),
        (["-p", "x", "--set", "cache_len=3"], "cache_lens"),
    ],
)
def test_a_wrong_command_line_exits_2_and_says_why(arguments, message, capfd):
    assert cli.run(arguments) == 2
    out, err = capfd.readouterr()
    assert message in err + out


def test_a_wrong_settings_file_is_named(folders, capfd):
    (folders / "config").mkdir()
    (folders / "config" / "settings.yaml").write_text("thme: dark\n")
    assert cli.run(["-p", "x"]) == 2
    assert "settings.yaml:1: thme is no setting; did you mean theme?" in capfd.readouterr().err


ALL = Terminals(True, True, True)


@pytest.mark.parametrize(
    ("found", "environ", "given", "plain", "reason"),
    [
        (ALL, {"TERM": "xterm"}, {}, False, "are terminals"),
        (Terminals(False, True, True), {"TERM": "xterm"}, {}, True, "stdin is no terminal"),
        (Terminals(True, False, True), {"TERM": "xterm"}, {}, True, "stdout is no terminal"),
        (Terminals(True, True, False), {"TERM": "xterm"}, {}, True, "stderr is no terminal"),
        (ALL, {"TERM": "dumb"}, {}, True, "TERM=dumb"),
        (ALL, {"TERM": "xterm", "ACCESSIBLE": "1"}, {}, True, "ACCESSIBLE"),
        (ALL, {"TERM": "xterm", "ACCESSIBLE": "0"}, {}, False, "are terminals"),
        (ALL, {"TERM": "xterm"}, {"prompt": True}, True, "-p"),
        (ALL, {"TERM": "xterm"}, {"machine": True}, True, "--json"),
    ],
)
def test_full_screen_needs_three_terminals_and_nothing_that_asks_for_lines(
    found, environ, given, plain, reason
):
    mode = choose_mode(found=found, environ=environ, **given)
    assert mode.plain is plain
    assert reason in mode.reason


@pytest.mark.parametrize("flag", ["model", "profile"])
def test_an_empty_flag_is_refused_and_not_taken_for_the_default(flag):
    with pytest.raises(ProfileError, match=f"--{flag} is empty"):
        plan_launch(**{flag: ""}, environ={})


def test_flag_beats_environment_beats_settings_beats_default(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nmodel: from-profile\n")
    settings = Settings(model="from-settings", profile=str(file))
    environ = {
        "DSV3CHAT_MODEL": "from-environment",
        "DSV3CHAT_PROFILE": "nano-cpu",
        "DSV3CHAT_MAX_NEW_TOKENS": "99",
    }

    def chosen(**given):
        launch = plan_launch(**{"environ": {}, **given})
        return launch.model, launch.model_origin, launch.profile.name, launch.profile_origin

    assert chosen() == ("nano", "profile nano-cpu", "nano-cpu", "default")
    assert chosen(settings=settings) == ("from-settings", "settings", "mine", "settings")
    assert chosen(settings=settings, profile=str(file)) == (
        "from-profile",
        "profile mine",
        "mine",
        "--profile",
    )
    assert chosen(settings=settings, environ=environ) == (
        "from-environment", "DSV3CHAT_MODEL", "nano-cpu", "DSV3CHAT_PROFILE",
    )  # fmt: skip
    assert chosen(model="m", profile=str(file), environ=environ) == ("m", "--model", "mine", "--profile")
    assert plan_launch(environ=environ).profile.max_new_tokens == 99
    assert plan_launch(environ=environ, overrides=["max_new_tokens=7"]).profile.max_new_tokens == 7
    with pytest.raises(ProfileError, match="nano-cpu"):
        plan_launch(profile="nano-cp", environ={})


@pytest.mark.parametrize("way", ["flag", "environment", "settings"])
def test_a_model_of_ones_own_keeps_its_stored_formats_unless_a_profile_is_chosen(way):
    """The default of nano is bf16, which would undo a conversion and double an FP8 checkpoint."""

    def chosen(model, **given):
        environ = {"DSV3CHAT_MODEL": model} if way == "environment" else {}
        settings = Settings(model=model) if way == "settings" else Settings()
        launch = plan_launch(model if way == "flag" else None, settings=settings, environ=environ, **given)
        return launch.model, launch.profile.name, launch.profile.precision, launch.profile_origin

    assert chosen("./converted") == ("./converted", "as-stored", "native", "default")
    assert chosen("./converted", profile="nano-cpu")[2] == "bf16"
    assert chosen("nano") == ("nano", "nano-cpu", "bf16", "default")


def test_the_full_screen_gets_the_flags_and_its_failure_becomes_an_exit_code(monkeypatch, capfd):
    """The app itself is tested in ui/; here it is a stand-in that keeps what it was given."""
    from engine import ModelNotFoundError

    given = []

    class App:
        failure = None

        def __init__(self, *arguments):
            given.extend(arguments)

        def run_guarded(self):
            self.failure = ModelNotFoundError("there is no model\x1b[2J")
            return 1

    module = type(os)("dsv3chat.app")
    module.ChatApp = App
    monkeypatch.setitem(sys.modules, "dsv3chat.app", module)
    monkeypatch.setattr(cli_chat, "choose_mode", lambda *a: choose_mode(found=ALL, environ={"TERM": "xterm"}))
    before = sys.getswitchinterval()
    try:
        assert cli.run(["--seed", "3", "--system", "Be brief.", "--model", "m"]) == 2
        assert sys.getswitchinterval() == pytest.approx(0.001)
    finally:
        sys.setswitchinterval(before)
    backend, store, settings, conversation, params, root, resumed = given
    assert (backend.model, params.seed, conversation.system) == ("m", 3, "Be brief.")
    assert (settings, root, resumed) == (Settings(), Path.cwd(), False)
    assert store.path.name == "conversations.db"
    assert "there is no model␛[2J" in capfd.readouterr().err
