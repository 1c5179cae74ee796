"""The review cache: what it keeps, from whom it is hidden, and that it never stops a review."""

import sqlite3
import subprocess
import sys
import threading

import pytest

from dsv3chat.review import cache as module
from dsv3chat.review.cache import ReviewCache, cache_file
from dsv3chat.review.question import Answer, Choice, Question
from engine import Message

ANSWER = Answer(
    '{"ä\u2028":"\\u0000"}', "stop", (Choice(0, 1, -0.1234567890123), Choice(1, 3, 0.0)), 10, 4, 2
)


@pytest.fixture
def cache(tmp_path):
    opened = ReviewCache(tmp_path / "review" / "answers.db")
    yield opened
    opened.close()


def test_an_answer_comes_back_exactly(cache):
    cache.keep("k", ANSWER)
    assert cache.answer("k") == ANSWER
    assert cache.answer("other") is None


def test_an_answer_without_probabilities_comes_back_without_any(cache):
    plain = Answer("x", "length", None)
    cache.keep("k", plain)
    assert cache.answer("k") == plain


@pytest.mark.parametrize("change", range(7))
def test_everything_that_decides_an_answer_is_in_its_key(change):
    messages = (Message("system", "s"), Message("user", "u"))
    base = ("identity", messages, "schema", 10, 0.5, 1)
    other = ("identity2", (Message("system", "su"), Message("user", "")), "schema2", 11, 0.6, 2)
    keys = []
    for position in (None, change):
        values = [other[i] if i == position else base[i] for i in range(6)]
        keys.append(Question(*values[1:]).key(values[0]))
    assert (keys[0] == keys[1]) == (change == 6)  # 6 changes nothing


def test_a_greedy_answer_does_not_depend_on_the_seed():
    messages = (Message("user", "u"),)
    assert Question(messages, "s", 1, 0.0, 1).key("i") == Question(messages, "s", 1, 0.0, 2).key("i")


def test_only_the_owner_reads_it(cache, tmp_path):
    cache.keep("k", ANSWER)
    folder = tmp_path / "review"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}


def test_its_place_is_the_programs_cache(own_folders):
    assert cache_file() == own_folders / "cache" / "review" / "answers.db"


def test_what_was_kept_outlives_a_kill(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from dsv3chat.review.cache import ReviewCache\n"
        "from dsv3chat.review.question import Answer\n"
        "cache = ReviewCache(Path(sys.argv[1])); cache.keep('k', Answer('t', 'stop', None)); cache.begin('r')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    file = tmp_path / "answers.db"
    subprocess.run([sys.executable, "-c", script, str(file)], check=False)
    cache = ReviewCache(file)
    assert cache.answer("k") == Answer("t", "stop", None)
    assert cache.is_unfinished("r")
    cache.close()


@pytest.mark.parametrize("content", [b"this is no database" * 100, b""])
def test_a_damaged_file_is_begun_anew(tmp_path, content):
    file = tmp_path / "answers.db"
    file.write_bytes(content)
    cache = ReviewCache(file)
    cache.keep("k", ANSWER)
    assert (cache.answer("k"), cache.notice) == (ANSWER, "")
    cache.close()


def test_an_answer_that_cannot_be_read_is_none(cache, tmp_path):
    cache.keep("k", ANSWER)
    with sqlite3.connect(tmp_path / "review" / "answers.db") as other:
        other.execute("UPDATE answers SET answer = '{}'")
    assert cache.answer("k") is None


def test_a_place_that_cannot_be_used_is_said_and_forgets(tmp_path):
    (tmp_path / "file").write_text("")
    cache = ReviewCache(tmp_path / "file" / "answers.db")
    cache.keep("k", ANSWER)
    cache.keep_rate("m", 1.0)
    cache.begin("r")
    assert (cache.answer("k"), cache.rate("m"), cache.is_unfinished("r")) == (None, None, False)
    assert "the review cache is not used" in cache.notice
    cache.close()


def test_a_cache_that_fails_later_is_said_once_and_forgets(cache):
    cache._connection.execute("DROP TABLE answers")
    cache.keep("k", ANSWER)
    assert "no such table" in cache.notice
    assert cache.answer("k") is None


def test_rates_and_unfinished_reviews_are_kept_until_changed(cache):
    cache.keep_rate("m", 12.5)
    cache.keep_rate("m", 13.5)
    cache.begin("r")
    assert (cache.rate("m"), cache.rate("n")) == (13.5, None)
    assert cache.is_unfinished("r")
    cache.end("r")
    assert not cache.is_unfinished("r")


def test_beyond_the_limit_the_longest_unused_go(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_ANSWERS", 2)
    clock = iter(range(100))
    monkeypatch.setattr(module.time, "time", lambda: float(next(clock)))
    file = tmp_path / "answers.db"
    cache = ReviewCache(file)
    for key in "abc":
        cache.keep(key, ANSWER)
    cache.answer("a")
    cache.begin("r")
    assert [key for key in "abc" if cache.answer(key)] == ["a", "c"]
    cache.close()


def test_threads_and_two_openers_share_one_file(tmp_path):
    file = tmp_path / "answers.db"
    caches = [ReviewCache(file), ReviewCache(file)]
    threads = [
        threading.Thread(target=lambda n=n: [caches[n % 2].keep(f"{n}-{i}", ANSWER) for i in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(caches[0].answer(f"{n}-{i}") for n in range(4) for i in range(20))
    for cache in caches:
        assert cache.notice == ""
        cache.close()
