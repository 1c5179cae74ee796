"""Files of a review: whole or not there, with the mode and through the link that the person chose."""

import os
import stat

import pytest

from dsv3chat.plain_output import OutputError
from dsv3chat.review.formats import FORMATS
from dsv3chat.review_command.outputs import encoded, write_atomically, write_targets
from dsv3chat.review_command.request import Target, parse_size
from tests.dsv3chat.review.formats.reports import document, finding


def test_a_file_is_replaced_with_its_mode_and_through_its_link(tmp_path):
    (tmp_path / "real.sarif").write_bytes(b"before")
    (tmp_path / "real.sarif").chmod(0o640)
    (tmp_path / "link.sarif").symlink_to("real.sarif")
    write_atomically(tmp_path / "link.sarif", b"after")
    assert (tmp_path / "real.sarif").read_bytes() == b"after"
    assert stat.S_IMODE((tmp_path / "real.sarif").stat().st_mode) == 0o640
    assert (tmp_path / "link.sarif").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_new_file_gets_the_mode_of_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, failing):
    (tmp_path / "a").write_bytes(b"before")

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, refuse)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "a", b"after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"before")]


def test_what_is_no_file_is_written_to_as_it_is():
    write_atomically(os.devnull, b"x")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_one_file_that_fails_keeps_no_other_from_being_written(tmp_path):
    targets = [
        Target(FORMATS["json"], tmp_path / "gone" / "a.json"),
        Target(FORMATS["text"], tmp_path / "b.txt"),
    ]
    with pytest.raises(OutputError, match=r"gone/a\.json cannot be written"):
        write_targets(targets, document(finding()))
    assert (tmp_path / "b.txt").read_text().startswith("src/app.py:12")


def test_a_name_that_is_no_utf_8_keeps_its_bytes():
    assert encoded(os.fsdecode(b"latin-\xe9.py") + "ï") == b"latin-\xe9.py\xc3\xaf"
    assert encoded("\ud800") == b"?"


@pytest.mark.parametrize(
    ("text", "size"),
    [("1MB", 10**6), ("512 KiB", 512 << 10), ("2000", 2000), ("1.5mb", 1_500_000), ("1G", 10**9), ("7b", 7)],
)
def test_a_size_is_bytes_with_the_usual_units(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1", "1 XB", "0", "0.1", "1e6"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match=r"size|byte"):
        parse_size(text)
