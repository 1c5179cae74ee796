"""The line-by-line chat and the plain turn, in process, over a scripted backend."""

import io

import pytest

from dsv3chat.attachments import AttachmentError
from dsv3chat.conversation import Conversation
from dsv3chat.fake_backend import FakeBackend, Reply
from dsv3chat.interrupts import Interrupts
from dsv3chat.plain import PlainChat
from dsv3chat.plain_chat import LineChat
from dsv3chat.plain_input import InputError, question, read_stdin
from dsv3chat.plain_output import Narrator, TextOutput
from dsv3chat.store import Store
from engine import LoadProgress, RequestTooLargeError, SamplingParams


class Session:
    """A line chat with its parts in reach."""

    def __init__(self, folder, replies=None, context_tokens=4096, terminal=False):
        self.backend = FakeBackend(list(replies or [Reply("An answer.")]), context_tokens=context_tokens)
        self.backend.load(lambda progress: None)
        self.store = Store(folder / "state" / "conversations.db")
        self.out = io.BytesIO()
        narrator = Narrator(False)
        output = TextOutput(self.out, terminal, narrator)
        self.chat = PlainChat(
            self.backend, Conversation(), SamplingParams(), folder, output, Interrupts(), self.store
        )
        self.lines = []
        self.loop = LineChat(self.chat, narrator, lambda: self.lines.pop(0) if self.lines else None)

    def say(self, *lines):
        self.lines = list(lines)
        return self.loop.run()

    @property
    def text(self):
        return self.out.getvalue().decode()


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path)


def test_questions_and_answers_are_saved_as_they_end(session):
    assert session.say("one", "", "two", "/quit") == 0
    assert session.text == "An answer.\nAn answer.\n"
    saved = session.store.load(session.store.latest())
    assert [m.text for m in saved.path] == ["one", "An answer.", "two", "An answer."]
    assert saved.path[-1].usage.completion_tokens == 3
    assert (saved.model, saved.profile, saved.title) == ("scripted", "fake", "one")


def test_a_new_conversation_keeps_the_system_message(session):
    session.say("/system Be brief.", "one", "/new", "two")
    assert [[m.content for m in prompt] for prompt in session.backend.prompts] == [
        ["Be brief.", "one"],
        ["Be brief.", "two"],
    ]
    assert len(session.store.list()) == 2


def test_regenerating_keeps_both_answers(session, capsys):
    session.say("/regenerate", "one", "/regenerate")
    assert "no question" in capsys.readouterr().err
    path = session.chat.conversation.path
    assert len(path) == 2
    assert len(session.chat.conversation.siblings(path[-1].id)) == 2


def test_compacting_goes_on_from_the_summary_and_says_it(tmp_path, capsys):
    session = Session(tmp_path, [Reply("A long answer."), Reply("They spoke.\x1b[2J"), Reply("ok")])
    session.say("/compact", "one", "/compact", "two")
    assert [m.content for m in session.backend.prompts[-1]][1:] == ["They spoke.\x1b[2J", "two"]
    err = capsys.readouterr().err
    assert "nothing to compact" in err
    assert "They spoke.␛[2J" in err
    assert "They spoke" not in session.text


def test_a_failed_compaction_changes_nothing(tmp_path, capsys):
    session = Session(tmp_path, [Reply("one"), Reply("summary", fail_after=0)])
    session.say("q", "/compact")
    assert "not compacted (logits are not finite" in capsys.readouterr().err
    assert [m.text for m in session.chat.conversation.path] == ["q", "one"]


def test_export_sessions_and_help_work_without_a_screen(session, tmp_path, capsys):
    session.say("one", "/export json x.json", "/export", "/sessions", "/help", "/theme", "/export md x.json")
    err = capsys.readouterr().err
    assert (tmp_path / "x.json").exists()
    assert (tmp_path / "one.md").exists()
    assert session.chat.conversation.id[:8] in err
    assert "/regenerate: answer" in err
    assert "/theme needs the full screen" in err
    assert "exists and is not overwritten" in err
    old = session.chat.conversation.id
    session.say("/new", f"/sessions {old[:6]}", "more")
    assert session.chat.conversation.id == old
    assert len(session.backend.prompts[-1]) == 3


def test_an_error_before_the_answer_leaves_the_conversation_as_it_was(session, capsys):
    session.say("see @gone.txt", "word " * 5000, "/frobnicate")
    err = capsys.readouterr().err
    assert "@gone.txt: there is no such file" in err
    assert "the context holds 4096" in err
    assert "/frobnicate is no command" in err
    assert session.chat.conversation.path == []
    assert session.store.latest() is None


def test_a_single_question_raises_instead(session):
    with pytest.raises(AttachmentError):
        session.chat.ask("see @gone.txt")
    with pytest.raises(RequestTooLargeError):
        session.chat.ask("word " * 5000)


def test_an_answer_that_fails_is_kept_and_the_chat_goes_on(tmp_path, capsys):
    session = Session(tmp_path, [Reply("half of it", fail_after=1), Reply("whole")])
    session.say("one", "two")
    first, second = (m for m in session.chat.conversation.path if m.role == "assistant")
    assert (first.text, first.status, second.text) == ("half", "failed", "whole")
    assert "the answer failed: logits are not finite" in capsys.readouterr().err


def test_when_the_context_is_full_the_oldest_turns_leave_and_it_says_so(tmp_path, capsys):
    session = Session(tmp_path, [Reply("word " * 60)], context_tokens=400)
    session.say(*(["question " * 10] * 6))
    assert "oldest messages were left out" in capsys.readouterr().err
    assert len(session.chat.conversation.path) == 12


def test_a_store_that_cannot_write_is_said_and_the_answer_still_comes(session, capsys):
    session.store.close()
    session.say("one")
    assert session.text == "An answer.\n"
    assert "not saved" in capsys.readouterr().err


def test_a_line_end_split_over_deltas_is_one_line_end_on_a_terminal(tmp_path):
    from engine import Finished, TextDelta

    session = Session(tmp_path, terminal=True)
    output = session.chat.output
    output.begin({})
    for text in ("a\r", "\nb\x1b", "[2Jc\r"):
        output.event(TextDelta(text, 1, 0.0))
    output.end(Finished("stop", None), 0)
    assert session.text == "a\nb␛[2Jc␍\n"


def test_thinking_is_left_out_of_standard_output_and_shown_on_demand(tmp_path, capsys):
    session = Session(tmp_path, [Reply("Answer.", thinking="hm\x1b")])
    session.say("one")
    assert session.text == "Answer.\n"
    assert "hm" not in capsys.readouterr().err
    session.chat.output = TextOutput(session.out, False, Narrator(False), show_thinking=True)
    session.say("two")
    assert "hm␛\n" in capsys.readouterr().err


def test_progress_is_redrawn_on_a_terminal_and_a_line_a_stage_elsewhere(capsys):
    for is_terminal, expected in (
        (False, "dsv3chat: a\ndsv3chat: b\n"),
        (True, "\r\x1b[Ka · 1 of 2 MB\r\x1b[Kb\r\x1b[K"),
    ):
        narrator = Narrator(is_terminal)
        narrator.progress(LoadProgress("a", 1_000_000, 2_000_000))
        narrator.progress(LoadProgress("a", 1_500_000, 2_000_000))
        narrator.progress(LoadProgress("b"))
        narrator.erase()
        assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("prompt", "stdin", "text"),
    [("a", "b\n", "a\n\nb"), ("", "b", "b"), (None, "\nb\n", "b"), ("a", None, "a"), ("a", " \n", "a")],
)
def test_a_question_is_the_flag_then_the_pipe(prompt, stdin, text):
    assert question(prompt, stdin) == text


def test_an_empty_question_is_refused():
    with pytest.raises(InputError, match="there is no -p"):
        question(None, "\n")


def test_standard_input_that_cannot_be_read_says_so(tmp_path):
    with open(tmp_path / "x", "w") as write_only, pytest.raises(InputError, match="cannot be read"):
        read_stdin(write_only.fileno(), lambda text: None)
