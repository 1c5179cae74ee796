"""The store: what is written comes back, survives a kill, and a broken file costs no one their chats."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from dsv3chat.conversation import Attachment, Conversation
from dsv3chat.store import Store, StoreError
from engine import Usage

USAGE = Usage(10, 4, 7, 3, 0.5, 0.25, 1.5, 24.0, None, 99)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "chats.db"


@pytest.fixture
def store(path):
    opened = Store(path)
    yield opened
    opened.close()


def a_conversation(title="Ring buffers"):
    conversation = Conversation(title=title, system="Be brief.", model="nano", profile="nano-cpu")
    file = Attachment("src/a.py:1-2", "a\nb", 2, 4)
    question = conversation.add_user("Why [red]?\x1b[2J", (file,))
    conversation.add_assistant("one", question.id, status="stopped", note="esc", created=1.0)
    conversation.add_assistant(
        "two", question.id, thinking="hm", thinking_tokens=3, usage=USAGE, is_summary=True
    )
    return conversation


def test_everything_of_a_conversation_comes_back(store, path):
    conversation = a_conversation()
    store.save_conversation(conversation)
    reopened = Store(path)
    assert reopened.load(conversation.id) == conversation
    reopened.close()


def test_a_message_saved_alone_is_the_leaf_and_survives_reopening(store, path):
    conversation = a_conversation()
    store.save_conversation(conversation)
    message = conversation.add_user("next")
    store.save_message(conversation.id, message)
    store.close()
    assert Store(path).load(conversation.id).path[-1] == message


def test_the_leaf_can_be_moved_to_a_sibling_and_saved_again(store):
    conversation = a_conversation()
    store.save_conversation(conversation)
    first = conversation.path[0]
    sibling = conversation.siblings(conversation.leaf_id)[0]
    store.set_leaf(conversation.id, sibling.id)
    assert store.load(conversation.id).path == [first, sibling]


def test_saving_a_message_again_changes_it_in_place(store):
    conversation = a_conversation()
    store.save_conversation(conversation)
    last = conversation.path[-1]
    store.save_message(conversation.id, replace(last, text="three", status="failed"))
    loaded = store.load(conversation.id)
    assert (loaded.path[-1].text, loaded.path[-1].status) == ("three", "failed")
    assert len(loaded.messages) == 3


def test_the_list_is_latest_first_without_empty_conversations(store):
    old, new, empty = a_conversation("old"), a_conversation("new"), Conversation(title="empty")
    for conversation in (old, new, empty):
        store.save_conversation(conversation)
    assert [s.title for s in store.list()] == ["new", "old"]
    store.rename(old.id, "renamed")
    assert [s.title for s in store.list(limit=1)] == ["renamed"]
    assert store.latest() == old.id
    assert store.list()[0].num_messages == 3


@pytest.mark.parametrize(
    ("query", "found"), [("RING", 1), ("[red]", 1), ("%", 0), ("_", 0), ("two", 1), ("three", 0)]
)
def test_the_query_is_plain_text_in_titles_and_messages(store, query, found):
    store.save_conversation(a_conversation())
    assert len(store.list(query=query)) == found


def test_umlauts_are_found_in_either_case(store):
    store.save_conversation(a_conversation("Übergröße"))
    assert len(store.list(query="ÜBERGRÖSSE")) == 1


def test_deleting_removes_the_messages_too(store, path):
    conversation = a_conversation()
    store.save_conversation(conversation)
    store.delete(conversation.id)
    assert store.latest() is None
    assert sqlite3.connect(path).execute("SELECT count(*) FROM messages").fetchone() == (0,)


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s.load("nope"),
        lambda s: s.set_leaf("nope", None),
        lambda s: s.rename("nope", "x"),
        lambda s: s.save_message("nope", Conversation().add_user("hi")),
    ],
)
def test_an_unknown_id_is_an_error_that_names_it(store, use):
    with pytest.raises(StoreError, match="nope"):
        use(store)


def test_an_id_is_found_by_its_beginning(store):
    first, second = Conversation(id="abc1"), Conversation(id="abd2")
    store.save_conversation(first)
    store.save_conversation(second)
    assert store.find("abc") == "abc1"
    assert store.find("abd2") == "abd2"
    for beginning, message in (
        ("ab", "more than one"),
        ("x", "no saved"),
        ("", "no saved"),
        ("a%", "no saved"),
    ):
        with pytest.raises(StoreError, match=message):
            store.find(beginning)


def test_history_is_oldest_first_and_drops_repetitions(store):
    for text in ("a", "b", "b", "  ", "a"):
        store.add_history(text)
    assert store.history() == ["a", "b", "a"]
    assert store.history(limit=2) == ["b", "a"]


def test_text_with_lone_surrogates_is_kept_readable(store):
    conversation = Conversation(title="t")
    conversation.add_user("a\udcffb")
    store.save_conversation(conversation)
    assert store.load(conversation.id).path[0].text == "a?b"


def test_files_are_private(store, path):
    store.save_conversation(a_conversation())
    assert path.parent.stat().st_mode & 0o777 == 0o700
    modes = {p.name: p.stat().st_mode & 0o777 for p in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert path.name in modes


def test_what_was_saved_survives_kill_9(path):
    program = (
        "import sys, os, signal, pathlib\n"
        "from dsv3chat.store import Store\n"
        "from dsv3chat.conversation import Conversation\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        "c = Conversation(title='kept')\n"
        "store.save_conversation(c)\n"
        "store.save_message(c.id, c.add_user('question'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    store = Store(path)
    assert store.notice == ""
    assert store.load(store.latest()).path[0].text == "question"


@pytest.mark.parametrize("damage", ["garbage", "middle"])
def test_a_corrupt_file_is_moved_aside_and_said(path, damage):
    store = Store(path)
    for i in range(60):
        store.save_conversation(a_conversation(f"title {i} " + "x" * 3000))
    store.close()
    data = path.read_bytes()
    path.write_bytes(
        b"no database at all" * 99 if damage == "garbage" else data[:8192] + b"\xff" * 8192 + data[16384:]
    )
    broken = path.read_bytes()
    opened = Store(path)
    aside = next(
        p for p in path.parent.iterdir() if ".corrupt-" in p.name and p.suffix not in ("-wal", "-shm")
    )
    assert str(aside) in opened.notice
    assert aside.read_bytes() == broken
    assert opened.list() == []
    opened.save_conversation(a_conversation())
    assert opened.latest() is not None


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path):
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="schema 99"):
        Store(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_an_error_with_the_path(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file" / "chats.db")


def test_two_processes_that_open_and_write_at_once_lose_nothing(path):
    program = (
        "import sys, pathlib\n"
        "from dsv3chat.store import Store\n"
        "from dsv3chat.conversation import Conversation\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        "for i in range(20):\n"
        "    c = Conversation(title=f'{sys.argv[2]} {i}')\n"
        "    c.add_user('x')\n"
        "    store.save_conversation(c)\n"
        "print(store.notice)\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(path), name], stdout=subprocess.PIPE)
        for name in "abc"
    ]
    assert [p.communicate()[0] for p in running] == [b"\n"] * 3
    assert [p.returncode for p in running] == [0] * 3
    assert len(Store(path).list()) == 60


def test_threads_share_one_store(store):
    def write(name):
        for i in range(10):
            conversation = Conversation(title=f"{name}{i}")
            conversation.add_user("x")
            store.save_conversation(conversation)

    threads = [threading.Thread(target=write, args=(n,)) for n in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.list()) == 20


def test_a_closed_store_says_so(store):
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.history()


def test_a_full_disk_is_an_error_and_the_next_write_works(store):
    store.save_conversation(a_conversation())
    store._connection.execute(
        f"PRAGMA max_page_count = {store._connection.execute('PRAGMA page_count').fetchone()[0]}"
    )
    big = Conversation(title="big")
    big.add_user("x" * 200_000)
    with pytest.raises(StoreError, match="full"):
        store.save_conversation(big)
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.save_conversation(big)
    assert store.latest() == big.id
    assert os.path.exists(store.path)
