"""Two ways to begin the program as a process over a scripted model."""

import pytest

from tests.dsv3chat.process.processes import starting


@pytest.fixture
def start(tmp_path):
    """The chat; a script is a Reply of the fake backend."""
    with starting("plain_driver.py", tmp_path, tmp_path) as begin:
        yield begin


@pytest.fixture
def tree(tmp_path):
    """A folder of two files to review."""
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in ("a.py", "b.py"):
        (folder / name).write_text("def f(a=[]):\n    return a\n")
    return folder


@pytest.fixture
def start_review(tmp_path, tree):
    """The review, in `tree`; a script holds answers by path."""
    with starting("review_driver.py", tmp_path, tree) as begin:
        yield begin
