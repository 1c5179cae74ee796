"""Names to folders: nano is built when needed, everything else is the engine's to find."""

import pytest

import engine
from dsv3chat import models
from dsv3chat.nano import BUILT_BYTES, NAME
from engine import KnownModel, ModelNotFoundError


def ignore(_progress):
    pass


def never():
    return False


@pytest.fixture
def found(monkeypatch, tmp_path):
    """The engine knows `other` and the broken `half`, and a nano that the front end lists itself."""
    folder = tmp_path / "other"

    def find(name):
        if name != "other":
            raise ModelNotFoundError(f"no {name}")
        return folder

    known = [
        KnownModel(NAME, models.models_dir() / NAME, "built", 1),
        KnownModel("other", folder, "built", 5),
        KnownModel("org/half", tmp_path / "half", "hub", 3, "1 of 2 weight files are missing"),
    ]
    monkeypatch.setattr(engine, "find_model", find, raising=False)
    monkeypatch.setattr(engine, "list_models", lambda: known, raising=False)
    return folder


def test_nano_is_built_where_built_models_are_kept(found, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(models, "ensure_nano", lambda **given: calls.append(given) or tmp_path)
    assert models.resolve_model("nano", ignore, never) == tmp_path
    assert calls == [{"on_progress": ignore, "cancelled": never}]


def test_other_names_go_to_the_engine(found):
    assert models.resolve_model("other", ignore, never) == found
    with pytest.raises(ModelNotFoundError):
        models.resolve_model("./nano", ignore, never)


def test_nano_is_listed_once_and_first_before_it_is_built(found):
    nano, other, half = models.known_models()
    assert (nano.name, nano.state, nano.size_bytes) == (NAME, "built at first use", BUILT_BYTES)
    assert "fetches 93 MB" in nano.note
    assert (other.name, other.path, other.size_bytes, other.state) == ("other", found, 5, "ready")
    assert (half.name, half.size_bytes, half.state) == ("org/half", 3, "unusable")
    assert half.note == "1 of 2 weight files are missing"


def test_a_built_nano_is_listed_as_ready_with_its_size(found, nano_dir):
    models.models_dir().mkdir(parents=True)
    (models.models_dir() / NAME).symlink_to(nano_dir)
    nano = models.known_models()[0]
    assert nano.state == "ready"
    assert nano.size_bytes == sum(f.stat().st_size for f in nano_dir.iterdir())
    assert abs(nano.size_bytes - BUILT_BYTES) < 1_000_000


def test_a_name_that_nothing_has_is_refused_by_the_engine_itself():
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        models.resolve_model("no-such-model", ignore, never)


def test_a_folder_is_found_by_its_path(nano_dir):
    assert models.resolve_model(str(nano_dir), ignore, never) == nano_dir
