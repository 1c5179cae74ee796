"""The settings file: strict when read, careful when written."""

import pytest

from dsv3chat.settings import Settings, SettingsError, load_settings, save_setting, settings_path


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("DSV3CHAT_CONFIG_DIR", str(tmp_path / "config"))
    return settings_path()


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("text", [None, "", "# nothing yet\n"])
def test_without_a_file_or_a_key_the_defaults_hold(path, text):
    if text is not None:
        write(path, text)
    assert load_settings() == Settings()


def test_every_key_is_read(path):
    write(
        path,
        "theme: light\ngauges: strip\nshow_thinking: true\nkeymap: {stop: ctrl+x}\nmodel: nano\nprofile: nano-cpu\n",
    )
    assert load_settings() == Settings("light", "strip", True, {"stop": "ctrl+x"}, "nano", "nano-cpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("theme: dark\nguages: off\n", r"settings.yaml:2: guages is no setting; did you mean gauges\?"),
        ("colour: red\n", "known are theme, gauges"),
        ("gauges: false\n", "settings.yaml:1: gauges: found False, expected one of auto"),
        ("show_thinking: 'yes'\n", "expected true or false"),
        ("theme: 3\n", "theme: found 3, expected a name"),
        ("theme:\n", "theme: found None"),
        ("keymap: {stop: 3}\n", "keymap: found"),
        ("theme: a\ntheme: b\n", "settings.yaml:2: theme stands in line 1 already"),
        ("- a\n", "found list, expected"),
        ("theme: [\n", r"settings.yaml:2: is no YAML"),
        ("theme: !!python/object:os.system x\n", "is no YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_key(path, text, message):
    write(path, text)
    with pytest.raises(SettingsError, match=message):
        load_settings()
    with pytest.raises(SettingsError):
        save_setting("theme", "light")
    assert path.read_text() == text


def test_gauges_off_needs_no_quotes(path):
    write(path, "gauges: off\n")
    assert load_settings().gauges == "off"


def test_a_value_over_several_lines_is_left_as_it_is(path):
    write(path, "theme: >-\n  dark\n")
    with pytest.raises(SettingsError, match="several lines"):
        save_setting("theme", "light")
    assert load_settings().theme == "dark"


def test_an_undecodable_file_is_an_error(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"theme: \xff\n")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings()


def test_saving_keeps_comments_and_other_keys(path):
    write(path, "# mine\ntheme: dark  # the old one\ngauges: full\nmodel: nano")
    save_setting("theme", "it's: light")
    save_setting("show_thinking", True)
    save_setting("model", None)
    assert path.read_text() == "# mine\ntheme: 'it''s: light'\ngauges: full\nshow_thinking: true\n"
    assert load_settings() == Settings(theme="it's: light", gauges="full", show_thinking=True)


def test_a_new_file_is_private(path):
    save_setting("gauges", "off")
    assert load_settings().gauges == "off"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("key", "value"), [("colour", "x"), ("keymap", "x"), ("gauges", "round"), ("theme", True)]
)
def test_what_cannot_be_read_back_is_not_written(path, key, value):
    with pytest.raises(SettingsError, match=key):
        save_setting(key, value)
    assert not path.exists()


def test_values_that_yaml_would_read_as_something_else_come_back_as_text(path):
    for value in ("off", "1.5", "null", "Größe", "a # b"):
        save_setting("theme", value)
        assert load_settings().theme == value
