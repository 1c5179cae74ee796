"""What an @ names, and what happens to the file before anything is sent."""

import os
import subprocess

import pytest

from dsv3chat import attachments
from dsv3chat.attachments import AttachmentError, Reference, find_references, load_attachment


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "work"
    (folder / "src" / "[id]").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("".join(f"line {i}\n" for i in range(1, 51)))
    (folder / "src" / "[id]" / "page.tsx").write_text("x")
    (folder / "my file.py").write_text("one\r\ntwo\r\n")
    (folder / "property").write_text("a file of that name")
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def load(root, label, limit=None):
    (reference,) = find_references(f"@{label}", root)
    return load_attachment(reference, root, lambda text: len(text.split()), limit)


def refused(root, label, limit=None):
    with pytest.raises(AttachmentError) as caught:
        load(root, label, limit)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("see @src/a.py.", ["src/a.py"]),
        ("(@src/a.py:10-40), please", ["src/a.py:10-40"]),
        ("@src/a.py:10: why?", ["src/a.py:10"]),
        ("@src/ and @src/a.py @src/a.py", ["src/", "src/a.py"]),
        ('@"my file.py":2 and @"gone file"', ["my file.py:2", "gone file"]),
        ("@src/[id]/page.tsx!", ["src/[id]/page.tsx"]),
        ("(see @src/[id])", ["src/[id]"]),
        ("@property exists here", ["property"]),
        ("@stor.py is a slip, @gone/x too", ["stor.py", "gone/x"]),
        ("write to me@example.com or @someone, @v1.2 @. @.. @", []),
        ("@dataclass\nclass A:\n    @functools.cache\n    @app.get('/items')\n    @app.route(\"/x\")", []),
        ("import x from '@/components/x' and \"@types/node\"", []),
        ("`@src/a.py` is text\n```\n@src/a.py\n```\n@src/", ["src/"]),
        ("```\n@src/a.py never closed", []),
        ("[@click=x]go[/] [@click=app.bell('a/b')]z[/] @click=x]", []),
        ("[@src/a.py]z[/] {@src/a.py}, (@gone/x)y", ["src/a.py", "gone/x"]),
    ],
)
def test_references_are_files_and_slips_but_not_prose_or_code(root, text, labels):
    assert [r.label for r in find_references(text, root)] == labels


def test_lines_are_read_from_the_label(root):
    found = find_references("@src/a.py:10-40 @src/a.py:7 @src/a.py:7-", root)
    assert [(r.path, r.first_line, r.last_line) for r in found] == [
        ("src/a.py", 10, 40),
        ("src/a.py", 7, 7),
        ("src/a.py", 7, None),
    ]


def test_a_colon_in_an_existing_name_is_part_of_it(root):
    (root / "log:10").write_text("x")
    assert find_references("@log:10", root) == [Reference("log:10", "log:10")]


def test_a_file_comes_whole_with_its_size(root):
    attachment = load(root, "src/a.py")
    assert (attachment.label, attachment.num_lines, attachment.num_tokens) == ("src/a.py", 50, 100)


def test_lines_come_without_the_rest(root):
    assert load(root, "src/a.py:10-11").text == "line 10\nline 11"
    assert load(root, "src/a.py:49-").text == "line 49\nline 50"
    assert load(root, '"my file.py":2').text == "two"


@pytest.mark.parametrize("lines", ["51", "0", "40-60", "11-10"])
def test_lines_outside_the_file_are_refused_with_its_length(root, lines):
    assert "lines 1 to 50" in refused(root, f"src/a.py:{lines}")


def test_a_folder_becomes_its_listing(root):
    attachment = load(root, "src/")
    assert attachment.text == "[id]/page.tsx  1 bytes\na.py  391 bytes"
    assert "has no lines" in refused(root, "src:3")


def test_an_absent_file_names_the_nearest(root):
    assert "did you mean @src/a.py?" in refused(root, "src/aa.py")


@pytest.mark.parametrize("label", ["../secret.txt", "link.txt", "folder/secret.txt", "/etc/passwd"])
def test_nothing_outside_the_working_folder_is_read(root, label):
    (root / "link.txt").symlink_to(root.parent / "secret.txt")
    (root / "folder").symlink_to(root.parent)
    message = refused(root, label)
    assert "outside the working folder" in message
    assert str(root) in message


def test_a_home_folder_outside_is_outside(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert "outside" in refused(root, "~/secret.txt")


def test_a_working_folder_behind_a_link_still_contains_its_files(root):
    link = root.parent / "link"
    link.symlink_to(root)
    assert load(link, "src/a.py").num_lines == 50


def test_a_loop_of_links_is_an_error(root):
    (root / "loop.py").symlink_to(root / "loop.py")
    assert "@loop.py" in refused(root, "loop.py")


def test_a_pipe_is_refused_without_waiting_for_it(root):
    os.mkfifo(root / "pipe.txt")
    assert "neither a file nor a folder" in refused(root, "pipe.txt")


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01\0\0", b"\x89PNG\r\n\x1a\n\xff", b"caf\xe9 \x01"])
def test_binary_is_refused(root, data):
    (root / "x.bin").write_bytes(data)
    assert "binary" in refused(root, "x.bin")


@pytest.mark.parametrize(
    ("data", "text", "label"),
    [
        (b"\xef\xbb\xbfna\xc3\xafve\r\n", "naïve\n", "x.txt"),
        (b"na\xefve", "naïve", "x.txt (Latin-1)"),
        (b"\x93na\xefve\x94", "“naïve”", "x.txt (Windows-1252)"),
        ("naïve".encode("utf-16"), "naïve", "x.txt (UTF-16)"),
        (b"", "", "x.txt"),
    ],
)
def test_encodings_are_read_and_said(root, data, text, label):
    (root / "x.txt").write_bytes(data)
    attachment = load(root, "x.txt")
    assert (attachment.text, attachment.label) == (text, label)
    assert attachment.num_lines == (1 if text else 0)


def test_an_unreadable_file_says_why(root, monkeypatch):
    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(attachments.Path, "read_bytes", forbidden)
    assert "cannot be read: Permission denied" in refused(root, "src/a.py")


def test_more_tokens_than_the_context_holds_are_refused_with_the_number_and_a_way_out(root):
    message = refused(root, "src/a.py", limit=60)
    assert "has 100 tokens in 50 lines, the context has room for 60" in message
    assert "@src/a.py:1-15" in message
    assert load(root, "src/a.py:1-15", limit=60).num_tokens <= 60


def test_a_line_that_is_too_long_for_the_context_is_not_answered_with_a_part(root):
    (root / "one.txt").write_text("word " * 100)
    assert "in 1 line, the context has room for 60; its lines are too long" in refused(root, "one.txt", 60)


def test_a_file_far_beyond_the_context_is_not_counted_to_its_end(root):
    (root / "big.txt").write_text("word " * 10_000)
    counted = []

    def count(text):
        counted.append(len(text))
        return len(text.split())

    with pytest.raises(AttachmentError, match="more than"):
        load_attachment(Reference("big.txt", "big.txt"), root, count, 100)
    assert counted == [1600]


def test_a_huge_file_is_not_even_read(root, monkeypatch):
    with open(root / "huge.txt", "wb") as file:
        file.truncate(attachments.MAX_FILE_BYTES + 1)
    monkeypatch.setattr(attachments.Path, "read_bytes", lambda path: pytest.fail("was read"))
    assert "32 MiB" in refused(root, "huge.txt")


def test_a_folder_that_git_ignores_can_still_be_listed(root):
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    (root / ".gitignore").write_text("out/\n")
    (root / "out").mkdir()
    (root / "out" / "x.log").write_text("abc")
    assert load(root, "out/").text == "x.log  3 bytes"
