"""What of a conversation goes to the model, and what leaves when there is no room."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv3chat.context import apply_compaction, compaction_draft, fit
from dsv3chat.conversation import Attachment, Conversation
from engine import RequestTooLargeError


class Counter:
    """Counts a character of content as a token, and three for each message."""

    def __init__(self):
        self.calls = 0

    def count_tokens(self, messages):
        self.calls += 1
        return sum(3 + len(m.content) for m in messages)


def a_conversation(sizes, system=None):
    conversation = Conversation(system=system)
    for i, (asked, answered) in enumerate(sizes):
        question = conversation.add_user(str(i).ljust(asked, "q"))
        if answered:
            conversation.add_assistant(str(i).ljust(answered, "a"), question.id)
    return conversation


def test_what_fits_goes_whole():
    conversation = a_conversation([(10, 10), (10, 0)], system="s")
    fitted = fit(conversation, Counter(), 1000, 100)
    assert fitted.messages == conversation.prompt()
    assert (fitted.dropped, fitted.warn, fitted.max_new_tokens) == ((), False, 100)
    assert fitted.prompt_tokens == 4 + 3 * 13


def test_at_90_percent_it_warns_and_nothing_leaves():
    conversation = a_conversation([(447, 447), (3, 0)])
    fitted = fit(conversation, Counter(), 1000, 400)
    assert fitted.prompt_tokens == 906
    assert (fitted.warn, fitted.dropped) == (True, ())
    assert fitted.max_new_tokens == 94


def test_beyond_it_the_oldest_turns_leave_and_are_named():
    conversation = a_conversation([(200, 200)] * 3 + [(50, 0)], system="system")
    fitted = fit(conversation, Counter(), 1000, 100)
    assert [m.text[0] for m in fitted.dropped] == ["0", "0"]
    assert fitted.messages[0].role == "system"
    assert fitted.messages[1].content.startswith("1")
    assert fitted.warn


def test_the_same_turns_stay_out_for_the_next_questions():
    """The beginning of the prompt, and with it the prefix cache, changes every eighth of the context only."""
    conversation = a_conversation([(20, 20)] * 40)
    heads = set()
    for _ in range(12):
        question = conversation.add_user("q" * 20)
        heads.add(fit(conversation, Counter(), 1600, 100).messages[0].content)
        conversation.add_assistant("a" * 20, question.id)
    assert len(heads) <= 4


def test_many_turns_need_few_counts():
    counter = Counter()
    fit(a_conversation([(20, 20)] * 500 + [(5, 0)]), counter, 2000, 100)
    assert counter.calls <= 12


def test_a_last_message_that_cannot_fit_is_refused_with_the_numbers():
    conversation = a_conversation([(10, 10)])
    conversation.add_user("why", (Attachment("big.py", "x" * 2000, 1, 2000),))
    with pytest.raises(RequestTooLargeError, match=r"needs 20\d\d tokens.*2000 of them attached.*holds 1000"):
        fit(conversation, Counter(), 1000, 100)


def test_a_regenerated_answer_does_not_count_its_siblings():
    conversation = a_conversation([(10, 10)])
    question = conversation.path[0]
    conversation.truncate_to(question.id)
    assert len(fit(conversation, Counter(), 1000, 100).messages) == 1


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(1, 400)), max_size=12),
    st.integers(1, 300),
    st.integers(64, 1500),
    st.integers(1, 600),
)
def test_a_fitted_prompt_fits_and_keeps_the_ends(sizes, last, context, max_new):
    conversation = a_conversation([*sizes, (last, 0)], system="sys")
    try:
        fitted = fit(conversation, Counter(), context, max_new)
    except RequestTooLargeError:
        assert 6 + 3 + last + min(32, max_new) > context
        return
    assert fitted.prompt_tokens + fitted.max_new_tokens <= context
    assert fitted.max_new_tokens >= min(32, max_new)
    assert fitted.messages[0].content == "sys"
    assert fitted.messages[-1].content == conversation.path[-1].text
    kept = [m.content for m in fitted.messages[1:]]
    assert [m.text for m in fitted.dropped] + kept == [m.text for m in conversation.path]


def test_compacting_asks_for_a_summary_and_leaves_the_conversation_as_it_is():
    conversation = a_conversation([(10, 10)], system="sys")
    before = conversation.prompt()
    asked = compaction_draft(conversation).prompt()
    assert asked[:-1] == before
    assert asked[-1].role == "user"
    assert "Summarise" in asked[-1].content
    assert conversation.prompt() == before
    assert fit(compaction_draft(conversation), Counter(), 1000, 100).messages == asked


def test_a_compacted_conversation_goes_on_from_the_summary_and_keeps_the_old_messages():
    conversation = a_conversation([(10, 10), (20, 20)], system="sys")
    old = set(conversation.messages)
    answer = apply_compaction(conversation, " They spoke. ")
    assert conversation.path[-1] == answer
    assert answer.is_summary
    assert old < set(conversation.messages)
    conversation.add_user("go on")
    assert [m.content for m in conversation.prompt()][2:] == ["They spoke.", "go on"]
    assert [m.role for m in conversation.prompt()] == ["system", "user", "assistant", "user"]


def test_a_summary_leaves_last():
    conversation = a_conversation([(10, 10)])
    apply_compaction(conversation, "S" * 100)
    for _ in range(3):
        question = conversation.add_user("q" * 150)
        conversation.add_assistant("a" * 150, question.id)
    conversation.add_user("last")
    fitted = fit(conversation, Counter(), 1000, 50)
    assert fitted.dropped
    assert not any(m.is_summary for m in fitted.dropped)
    assert fitted.messages[1].content == "S" * 100


def test_an_empty_summary_changes_nothing():
    conversation = a_conversation([(10, 10)])
    before = conversation.leaf_id
    with pytest.raises(ValueError, match="empty"):
        apply_compaction(conversation, " \n")
    assert conversation.leaf_id == before
