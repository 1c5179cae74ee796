"""Conversations and input history in one SQLite file. Knows no screen and no engine thread."""

from __future__ import annotations

import builtins
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dsv3chat import store_rows
from dsv3chat.conversation import ChatMessage, Conversation
from engine.paths import private_dir

BUSY_SECONDS = 10.0
HISTORY_KEPT = 2000
CHECKED_BYTES = 64 * 1024**2  # a larger file gets no full check at the start: it reads every page


class StoreError(Exception):
    """The database cannot be used; the message says why and what to do. The chat can go on without saving."""


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """One line of the list of sessions. `updated` is time.time() of the last change."""

    id: str
    title: str
    model: str
    profile: str
    updated: float
    num_messages: int


class Store:
    """Usable from several threads and by several processes at once. `notice` is what a person must be told, or "".

    `lasting` is False for a stand-in that is gone at the end of the program.

    WAL with synchronous=FULL: what a method wrote is on the disk when it returns. The file is 0600, its folder 0700.
    """

    notice: str

    def __init__(self, path: Path, lasting: bool = True) -> None:
        """Open or create the file. A corrupt one is moved aside, never deleted, and `notice` says where.

        StoreError: no permission, no space, locked for longer than BUSY_SECONDS, or written by a newer dsv3chat.
        """
        self.path = path
        self.lasting = lasting
        self.notice = ""
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        try:
            try:
                self._connection = self._open()
            except sqlite3.DatabaseError as error:
                if not _is_corruption(error):
                    raise
                aside = _move_aside(path)
                self.notice = (
                    f"the saved conversations could not be read ({error}); the file was moved to {aside} "
                    "and a new one begun"
                )
                self._connection = self._open()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: {error}; conversations are not saved") from error

    def _open(self) -> sqlite3.Connection:
        private_dir(self.path.parent)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(self.path, 0o600)
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.create_function("folded", 1, lambda text: str(text).casefold(), deterministic=True)
            _switch_to_wal(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            if self.path.stat().st_size <= CHECKED_BYTES:
                (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if answer != "ok":
                    raise sqlite3.DatabaseError(f"database disk image is malformed: {answer}")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        known = len(store_rows.MIGRATIONS)
        connection.execute("BEGIN IMMEDIATE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > known:
                raise StoreError(
                    f"{self.path}: written by a newer dsv3chat (schema {version}, this one knows {known}); "
                    "update dsv3chat, or set DSV3CHAT_STATE_DIR to another folder"
                )
            for script in store_rows.MIGRATIONS[version:]:
                for statement in script:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {known}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    @contextmanager
    def _transaction(self, write: bool = True) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                raise StoreError(f"{self.path}: the store is closed")
            try:
                self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection.in_transaction:  # a COMMIT that failed, of a full disk say
                    with suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                raise StoreError(f"{self.path}: {error}") from error

    def save_conversation(self, conversation: Conversation) -> None:
        """Write the conversation and every message in it."""
        with self._transaction() as db:
            db.execute(store_rows.UPSERT_CONVERSATION, store_rows.conversation_row(conversation, time.time()))
            rows = [store_rows.message_row(conversation.id, m) for m in conversation.messages.values()]
            db.executemany(store_rows.UPSERT_MESSAGE, rows)

    def save_message(self, conversation_id: str, message: ChatMessage) -> None:
        """Write one message of a saved conversation and make it the leaf; on disk when this returns."""
        with self._transaction() as db:
            self._touch(db, conversation_id, "leaf_id = ?", message.id)
            db.execute(store_rows.UPSERT_MESSAGE, store_rows.message_row(conversation_id, message))

    def set_leaf(self, conversation_id: str, leaf_id: str | None) -> None:
        """Remember the end of the active path."""
        with self._transaction() as db:
            self._touch(db, conversation_id, "leaf_id = ?", leaf_id)

    def rename(self, conversation_id: str, title: str) -> None:
        """Give it another title."""
        with self._transaction() as db:
            self._touch(db, conversation_id, "title = ?", title)

    def _touch(self, db: sqlite3.Connection, conversation_id: str, change: str, value: str | None) -> None:
        found = db.execute(
            f"UPDATE conversations SET updated = ?, {change} WHERE id = ?",
            (time.time(), value, conversation_id),
        )
        if found.rowcount == 0:
            raise StoreError(f"no saved conversation has the id {conversation_id}")

    def list(self, limit: int = 200, query: str = "") -> list[ConversationSummary]:
        """Conversations with messages, the latest first; `query` is looked for in titles and messages, in any case."""
        with self._transaction(write=False) as db:
            rows = db.execute(store_rows.LIST, {"query": query.casefold(), "limit": limit}).fetchall()
        return [ConversationSummary(*row) for row in rows]

    def load(self, conversation_id: str) -> Conversation:
        """StoreError when there is none with this id."""
        with self._transaction(write=False) as db:
            head = db.execute(store_rows.SELECT_CONVERSATION, (conversation_id,)).fetchone()
            rows = db.execute(store_rows.SELECT_MESSAGES, (conversation_id,)).fetchall()
        if head is None:
            raise StoreError(f"no saved conversation has the id {conversation_id}")
        return store_rows.conversation_of(head, rows)

    def latest(self) -> str | None:
        """The id of the conversation with messages that changed last."""
        found = self.list(limit=1)
        return found[0].id if found else None

    def find(self, beginning: str) -> str:
        """The one id that begins so. StoreError when there is none, or more than one."""
        with self._transaction(write=False) as db:
            rows = db.execute(
                "SELECT id FROM conversations WHERE substr(id, 1, ?) = ? LIMIT 2", (len(beginning), beginning)
            ).fetchall()
        if not beginning or len(rows) != 1:
            what = (
                "more than one saved conversation has"
                if len(rows) > 1 and beginning
                else "no saved conversation has"
            )
            raise StoreError(f"{what} an id that begins with {beginning!r}")
        return str(rows[0][0])

    def delete(self, conversation_id: str) -> None:
        """Remove a conversation and its messages; nothing happens when there is none."""
        with self._transaction() as db:
            db.execute("DELETE FROM conversations WHERE id = ?", (conversation_id,))

    def add_history(self, text: str) -> None:
        """Append to the inputs; the same text twice in a row counts once, only the last HISTORY_KEPT stay."""
        with self._transaction() as db:
            last = db.execute("SELECT text FROM history ORDER BY id DESC LIMIT 1").fetchone()
            if not text.strip() or (last and last[0] == text):
                return
            db.execute("INSERT INTO history (text, created) VALUES (?, ?)", (text, time.time()))
            db.execute(
                "DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?",
                (HISTORY_KEPT,),
            )

    def history(self, limit: int = 500) -> builtins.list[str]:
        """The latest inputs, oldest first."""
        with self._transaction(write=False) as db:
            rows = db.execute("SELECT text FROM history ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
        return [text for (text,) in reversed(rows)]

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """The one statement for which SQLite does not wait by itself while another process does the same."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _is_corruption(error: sqlite3.DatabaseError) -> bool:
    """Not a lock, a full disk or a missing permission: the bytes themselves are no database, or a broken one."""
    if isinstance(error, sqlite3.OperationalError | sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return False
    code = getattr(
        error, "sqlite_errorcode", None
    )  # absent on the error that a failed quick_check raises here
    return code is None or (code & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _move_aside(path: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.corrupt-{stamp}-{os.getpid()}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):  # another process moved it first
            os.replace(f"{path}{suffix}", f"{aside}{suffix}")
    return aside
