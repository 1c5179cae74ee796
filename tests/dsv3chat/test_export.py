"""Exports: complete, private, never over an existing file."""

import json
from pathlib import Path

import pytest

from dsv3chat.conversation import Attachment, Conversation
from dsv3chat.export import ExportError, to_json, to_markdown, write_export
from engine import Usage


@pytest.fixture
def conversation():
    made = Conversation(title="Why [red]? / ../x", system="Be brief.", model="nano", profile="nano-cpu")
    question = made.add_user("Why?", (Attachment("a.md", "```py\nx\n```", 3, 9),))
    made.add_assistant("left out", question.id)
    made.add_assistant(
        "Be\u00ed cause\x1b[2J", question.id, thinking="hm", thinking_tokens=2, status="failed",
        note="logits are not finite", usage=Usage(1, 0, 2, 2, 0.0, 0.1, 0.2, 10.0, 5.0, 1),
    )  # fmt: skip
    return made


def test_markdown_shows_the_active_path_with_files_thinking_and_how_it_ended(conversation):
    text = to_markdown(conversation)
    assert "# Why [red]? / ../x" in text
    assert "## System\n\nBe brief." in text
    assert "````\n```py\nx\n```\n````" in text  # a longer fence than any in the file
    assert "<summary>thinking, 2 tokens</summary>\n\nhm" in text
    assert "*failed: logits are not finite*" in text
    assert "left out" not in text


def test_json_holds_every_sibling_and_is_ascii(conversation):
    text = to_json(conversation)
    document = json.loads(text)
    assert text.isascii()
    assert "\x1b" not in text
    assert [m["text"] for m in document["messages"]] == ["Why?", "left out", "Beí cause\x1b[2J"]
    assert document["path"] == [m.id for m in conversation.path]
    assert document["messages"][2]["usage"]["decode_tokens_per_s"] == 5.0
    assert document["messages"][0]["attachments"][0]["label"] == "a.md"


def test_a_made_name_stays_in_the_folder_and_gets_a_number(conversation, tmp_path):
    first = write_export(conversation, "md", None, tmp_path)
    second = write_export(conversation, "md", None, tmp_path)
    assert [p.name for p in (first, second)] == ["why-red-x.md", "why-red-x-2.md"]
    assert first.parent == tmp_path
    assert first.stat().st_mode & 0o777 == 0o600
    assert first.read_text() == to_markdown(conversation)


def test_an_existing_file_is_never_overwritten(conversation, tmp_path):
    (tmp_path / "mine.json").write_text("precious")
    with pytest.raises(ExportError, match="exists and is not overwritten"):
        write_export(conversation, "json", Path("mine.json"), tmp_path)
    assert (tmp_path / "mine.json").read_text() == "precious"


def test_a_dangling_link_is_not_written_through(conversation, tmp_path):
    (tmp_path / "link.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExportError, match="exists"):
        write_export(conversation, "md", Path("link.md"), tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_an_error_with_the_path(conversation, tmp_path):
    with pytest.raises(ExportError, match=r"no/x\.md cannot be written: No such file"):
        write_export(conversation, "md", Path("no/x.md"), tmp_path)


def test_an_empty_conversation_writes_nothing(tmp_path):
    with pytest.raises(ExportError, match="empty"):
        write_export(Conversation(), "md", None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_lone_surrogates_do_not_stop_an_export(tmp_path):
    conversation = Conversation()
    conversation.add_user("a\udc80b")
    assert write_export(conversation, "md", Path("x.md"), tmp_path).read_text().endswith("a?b\n")
    assert json.loads(write_export(conversation, "json", Path("x.json"), tmp_path).read_text())
