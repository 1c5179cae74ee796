"""Names of profiles to files."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import paths
from engine.errors import ProfileError
from engine.profile import find_profile, list_profiles


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a user's folder of profiles, both empty."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("DSV3CHAT_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path


def write(path: Path, text: str = "model: nano\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_project_stands_above_the_user_above_what_is_shipped(folders: Path) -> None:
    assert find_profile("nano-cpu") == paths.shipped_profiles_dir() / "nano-cpu.yaml"
    user = write(folders / "config" / "profiles" / "nano-cpu.yml")
    assert find_profile("nano-cpu") == user
    project = write(folders / "work" / ".dsv3chat" / "profiles" / "nano-cpu.yaml")
    assert find_profile("nano-cpu").resolve() == project


def test_a_folder_or_file_of_the_same_name_does_not_hide_a_profile(folders: Path) -> None:
    (folders / "work" / "nano-cpu").mkdir()
    assert find_profile("nano-cpu").name == "nano-cpu.yaml"


def test_a_path_is_taken_as_it_is(folders: Path) -> None:
    file = write(folders / "work" / "sub" / "mine.yaml")
    assert find_profile("sub/mine.yaml") == Path("sub/mine.yaml")
    assert find_profile(str(file)) == file
    other = write(folders / "work" / "plain")
    assert find_profile("./plain").resolve() == other


@pytest.mark.parametrize(
    "name", ["nano-cpo", "nano-cpu.yaml", "sub/x", "", "a" * 5000, "a\0b", "~nobody/x.yaml"]
)
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ProfileError, match="nano-cpu"):
        find_profile(name)


def test_a_typo_gets_the_nearest_name() -> None:
    with pytest.raises(ProfileError, match="nearest known: nano-cpu"):
        find_profile("nano_cpu")


def test_a_broken_file_is_listed_with_its_error(folders: Path) -> None:
    good = write(folders / "config" / "profiles" / "good.yaml", "description: fine\n")
    bad = write(folders / "work" / ".dsv3chat" / "profiles" / "bad.yaml", "cache_len: 3\n")
    write(folders / "config" / "profiles" / "bad.yaml")
    write(folders / "config" / "profiles" / ".hidden.yaml")
    write(folders / "config" / "profiles" / "notes.txt")
    found = {entry.name: entry for entry in list_profiles()}
    assert set(found) >= {"good", "bad", "nano-cpu"}
    assert not {".hidden", "notes"} & set(found)
    assert (found["good"].path, found["good"].origin, found["good"].description) == (good, "user", "fine")
    assert found["good"].error is None
    assert found["bad"].path.resolve() == bad
    assert "cache_lens" in (found["bad"].error or "")
    assert found["nano-cpu"].origin == "shipped"
