"""Completion after the @: fuzzy, quick, and blind to what git ignores."""

import os
import subprocess
import time

import pytest

from dsv3chat import file_listing
from dsv3chat.file_listing import Candidate, Listing, complete_path, listing


@pytest.fixture
def root(tmp_path):
    for name in ("src/engine/kv.py", "src/engine/page_table.py", "src/engine/paged_attn.py", "README.md", "my file.py",
                 "node_modules/x/kv.js", ".hidden/kv.txt", "build/kv.o"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 9)
    return tmp_path


def paths(fragment, root, **kwargs):
    return [c.path for c in complete_path(fragment, root, **kwargs)]


def test_the_name_counts_more_than_the_folder(root):
    assert paths("page", root)[:2] == ["src/engine/page_table.py", "src/engine/paged_attn.py"]
    assert paths("KV", root) == ["src/engine/kv.py"]
    assert paths("engine/kv", root) == ["src/engine/kv.py"]


def test_letters_in_order_are_enough(root):
    assert paths("pgtbl", root) == ["src/engine/page_table.py"]
    assert paths("zzz", root) == []


def test_a_candidate_has_size_and_tokens_and_quotes_what_needs_it(root):
    (found,) = complete_path("my", root)
    assert found == Candidate("my file.py", 9, 3)
    assert found.insert_text == '@"my file.py"'
    assert complete_path("kv", root)[0].insert_text == "@src/engine/kv.py"


def test_folders_are_offered_too(root):
    assert complete_path("src", root, limit=1) == [Candidate("src/", None, None)]
    assert "src/engine/" in paths("engine/", root)


def test_an_empty_fragment_shows_the_top(root):
    assert paths("", root) == ["src/", "README.md", "my file.py"]


@pytest.mark.parametrize("fragment", ['"my', "./my", "my file.py:10-2"])
def test_quotes_dots_and_lines_do_not_disturb(root, fragment):
    assert paths(fragment, root) == ["my file.py"]


def test_hidden_and_generated_folders_are_not_walked(root):
    assert not any(part in p for p in listing(root).paths for part in ("node_modules", ".hidden", "build"))


def test_a_walk_is_bounded_and_follows_no_link(root, monkeypatch):
    (root / "loop").symlink_to(root)
    assert not any(p.startswith("loop/") for p in listing(root).paths)
    monkeypatch.setattr(file_listing, "MAX_FILES", 2)
    assert len(list(file_listing.walk(root))) == 2


def test_in_a_repository_gitignore_decides(root):
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".gitignore").write_text("*.md\nbuild/\nnode_modules/\n")
    (root / 'naïve "x".py').write_text("x")
    found = listing(root).paths
    assert "README.md" not in found
    assert 'naïve "x".py' in found
    assert ".hidden/kv.txt" in found


def test_a_file_that_is_gone_is_not_offered(root):
    listing(root)
    (root / "README.md").unlink()
    assert paths("README", root) == []


def test_a_stale_listing_answers_at_once_and_is_renewed(root, monkeypatch):
    listing(root)
    (root / "fresh.py").write_text("x")
    assert paths("fresh", root) == []
    monkeypatch.setattr(file_listing, "FRESH_SECONDS", -1.0)
    deadline = time.monotonic() + 60
    while paths("fresh", root) != ["fresh.py"]:
        assert time.monotonic() < deadline, "the listing was not renewed"
        time.sleep(0.01)


def test_a_name_that_is_not_utf8_is_left_out(root):
    with open(os.fsencode(root) + b"/bad\xff.py", "w"):
        pass
    assert all(p.isascii() for p in listing(root).paths)


def test_fifty_thousand_paths_rank_the_one_that_is_meant_first():
    names = (*(f"pkg{i % 100}/module_{i}/file_{i}.py" for i in range(50_000)), "pkg7/target_kernel.py")
    big = Listing(names, names, 0.0)
    assert big.search("target_k", 3)[0] == "pkg7/target_kernel.py"
    assert big.search("tgtkrnl", 3)[0] == "pkg7/target_kernel.py"
    assert len(big.search("f", 8)) == 8
