"""What earlier reviews learnt: answers by question, the speed of a model, which review has not ended. One SQLite file.

Knows no meaning of an answer. Each answer is written as it comes, so a kill loses none that was finished. A cache that
cannot be used never stops a review: `notice` says what is the matter, and nothing is remembered.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from contextlib import suppress
from pathlib import Path

from dsv3chat.review.question import Answer
from engine.paths import cache_dir, private_dir

_MAX_ANSWERS = 50_000  # some kB each; beyond it those unused for longest go
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_by_use ON answers (used);
CREATE TABLE IF NOT EXISTS rates (model TEXT PRIMARY KEY, tokens_per_s REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unfinished (review TEXT PRIMARY KEY, started REAL NOT NULL) WITHOUT ROWID;
"""


def cache_file() -> Path:
    """Where the program keeps it."""
    return cache_dir() / "review" / "answers.db"


class ReviewCache:
    """May be used from any thread; two processes may share one file."""

    def __init__(self, file: Path | None = None) -> None:
        """`file` None: the program's own. Opened here; without a usable file everything is forgotten at once."""
        self.notice = ""
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        file = file if file is not None else cache_file()
        try:
            private_dir(file.parent)
            self._connection = _open(file)
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def answer(self, key: str) -> Answer | None:
        """The answer to the question of this key; None where there is none that can be read."""
        stored = self._ask("UPDATE answers SET used = ? WHERE key = ? RETURNING answer", time.time(), key)
        with suppress(ValueError, KeyError, TypeError):
            return None if stored is None else Answer.from_json(str(stored))
        return None

    def keep(self, key: str, answer: Answer) -> None:
        """Remember an answer: it outlives a kill once this returns."""
        self._ask("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", key, answer.to_json(), time.time())

    def rate(self, model: str) -> float | None:
        """Prompt tokens per second of the last review with this model and profile, the writing of answers included."""
        found = self._ask("SELECT tokens_per_s FROM rates WHERE model = ?", model)
        return found if isinstance(found, float) and found > 0 else None

    def keep_rate(self, model: str, tokens_per_s: float) -> None:
        self._ask("INSERT OR REPLACE INTO rates VALUES (?, ?)", model, tokens_per_s)

    def is_unfinished(self, review: str) -> bool:
        """Whether a review of this identity began and has not ended completely."""
        return self._ask("SELECT 1 FROM unfinished WHERE review = ?", review) is not None

    def begin(self, review: str) -> None:
        """A review of this identity begins. Answers beyond the limit are forgotten here, those unused for longest first."""
        oldest = "SELECT key FROM answers ORDER BY used DESC LIMIT -1 OFFSET ?"
        self._ask(f"DELETE FROM answers WHERE key IN ({oldest})", _MAX_ANSWERS)
        self._ask("INSERT OR REPLACE INTO unfinished VALUES (?, ?)", review, time.time())

    def end(self, review: str) -> None:
        """It has ended completely."""
        self._ask("DELETE FROM unfinished WHERE review = ?", review)

    def close(self) -> None:
        """Idempotent; what is asked afterwards is not known."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _ask(self, statement: str, *values: str | float) -> object:
        """The first value of the first row, None without one. What fails is noticed and ends the use of the cache."""
        with self._lock:
            if self._connection is None:
                return None
            try:
                with self._connection:
                    row = self._connection.execute(statement, values).fetchone()
            except sqlite3.Error as error:
                self._connection.close()
                self._connection = None
                self._give_up(error)
                return None
            return None if row is None else row[0]

    def _give_up(self, error: Exception) -> None:
        self.notice = f"the review cache is not used: {error}; nothing is remembered for the next review"


def _open(file: Path) -> sqlite3.Connection:
    """A file that is damaged is begun anew: it holds nothing that cannot be made again."""
    try:
        return _connect(file)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, no room, no right: not the file's fault
            raise
        for name in (file, Path(f"{file}-wal"), Path(f"{file}-shm")):
            name.unlink(missing_ok=True)
        return _connect(file)


def _connect(file: Path) -> sqlite3.Connection:
    os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite itself would make it readable to others
    connection = sqlite3.connect(file, timeout=10, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection
