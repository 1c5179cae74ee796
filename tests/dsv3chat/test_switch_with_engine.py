"""A conversation that goes on under another profile, with the real engine on a small random checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsv3chat.conversation import Conversation
from dsv3chat.engine_backend import EngineBackend
from engine import Finished, LoadCancelledError, PlacementError, Profile, Rule, SamplingParams, TextDelta
from tests.engine.checkpoints import random_config, write_checkpoint
from tests.engine.text.tokenizers import trained

WIDE = Profile(name="wide", precision="fp32", cache_lens=2048, max_batch_size=2, max_new_tokens=256)
MIXED = replace(
    WIDE,
    name="mixed",
    precision="int8",
    group_size=32,
    rules=(Rule("model.layers.*.mlp.experts", precision="int4", group_size=32),),
)
PARAMS = SamplingParams(max_new_tokens=8, temperature=0.0, ignore_eos=True)


@pytest.fixture
def backend(tmp_path):
    write_checkpoint(tmp_path, random_config(vocab_size=448, eos_token_id=1, bos_token_id=0), seed=2)
    trained(tmp_path, "byte-level")
    opened = EngineBackend(str(tmp_path), WIDE)
    opened.load(lambda progress: None)
    yield opened
    opened.close()


def ask(backend, conversation: Conversation, text: str) -> str:
    question = conversation.add_user(text)
    events, stream = [], backend.start(conversation.prompt(), PARAMS)
    while not events or not isinstance(events[-1], Finished):
        events += stream.wait(10)
    answer = "".join(event.text for event in events if isinstance(event, TextDelta))
    conversation.add_assistant(answer, question.id)
    return answer


def test_the_next_question_is_answered_by_the_new_profile_with_all_that_came_before(backend):
    conversation = Conversation()
    first = ask(backend, conversation, "name one")
    assert backend.info.attention_bits == 32
    backend.switch(MIXED, lambda progress: None, lambda: False)
    assert (backend.info.profile_name, backend.info.attention_bits) == ("mixed", 8)
    ask(backend, conversation, "and another")
    alone = EngineBackend(backend.model, MIXED)
    alone.load(lambda progress: None)
    again = Conversation()
    again.add_assistant(first, again.add_user("name one").id)
    try:
        assert ask(alone, again, "and another") == conversation.path[-1].text
    finally:
        alone.close()


@pytest.mark.parametrize(
    ("wanted", "cancelled", "error"),
    [(MIXED, True, LoadCancelledError), (replace(MIXED, device="cuda:7"), False, PlacementError)],
    ids=["cancelled", "refused"],
)
def test_after_a_switch_that_was_not_made_the_former_profile_goes_on(backend, wanted, cancelled, error):
    conversation = Conversation()
    ask(backend, conversation, "name one")
    with pytest.raises(error):
        backend.switch(wanted, lambda progress: None, lambda: cancelled)
    assert (backend.info.profile_name, backend.profile) == ("wide", WIDE)
    ask(backend, conversation, "and another")
    assert len(conversation.path) == 4
