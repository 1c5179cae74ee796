"""What of a conversation goes to the model: fits it into the context, and compacts it. Knows no screen."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dsv3chat.backend import ChatBackend
from dsv3chat.conversation import ChatMessage, Conversation
from engine import Message, RequestTooLargeError

WARN_SHARE = 0.9  # of the context
MIN_ANSWER_TOKENS = 32  # less room than this for an answer is refused
COMPACT_REQUEST = (
    "Summarise our conversation so far, so that it can go on from your summary alone: the goal, the facts and "
    "decisions, the names of files and functions, and what is still open. Write only the summary."
)


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt that fits: prompt_tokens + max_new_tokens <= context_tokens.

    `dropped` are the messages that left, oldest first; empty when everything fits. `warn` is True from 90 % of the
    context on, and always when something left.
    """

    messages: list[Message]
    dropped: tuple[ChatMessage, ...]
    prompt_tokens: int
    context_tokens: int
    max_new_tokens: int
    warn: bool


def fit(
    conversation: Conversation, backend: ChatBackend, context_tokens: int, max_new_tokens: int
) -> FittedPrompt:
    """The prompt of the active path, with the oldest turns left out where the context is too small for all.

    A turn is a user message with its answer. The system message and the last turn never leave; a summary written by
    /compact leaves last. Turns leave in steps of an eighth of the context, so that the next questions find the
    same beginning of the prompt in the cache. RequestTooLargeError, with the numbers, when not even the last turn fits.
    """
    turns = _turns(conversation.path)
    last = turns[-1:]
    order = sorted(range(len(turns) - 1), key=lambda i: (turns[i][0].is_summary, i))
    room = min(max_new_tokens, max(MIN_ANSWER_TOKENS, context_tokens // 16))
    minimum = min(max_new_tokens, MIN_ANSWER_TOKENS)

    def prompt(num_dropped: int) -> tuple[list[Message], int]:
        gone = set(order[:num_dropped])
        kept = [m for i, turn in enumerate(turns) if i not in gone for m in turn]
        messages = conversation.prompt(kept)
        return messages, backend.count_tokens(messages)

    messages, total = prompt(0)
    num_tokens, num_dropped = total, 0
    excess = total - (context_tokens - room)
    if excess > 0 and order:
        step = max(1, context_tokens // 8)
        target = total - -(-excess // step) * step
        low, high = 1, len(order)  # the fewest turns whose leaving reaches the target, or all of them
        while low < high:
            middle = (low + high) // 2
            if prompt(middle)[1] <= target:
                high = middle
            else:
                low = middle + 1
        num_dropped = low
        messages, num_tokens = prompt(low)
    if num_tokens + minimum > context_tokens:
        attached = sum(a.num_tokens for m in last for x in m for a in x.attachments)
        raise RequestTooLargeError(
            f"this message needs {num_tokens} tokens of prompt"
            + (f" ({attached} of them attached files)" if attached else "")
            + f" and at least {minimum} for the answer; the context holds {context_tokens}. "
            "Shorten it, attach fewer lines (@file:10-40), or take a profile with a larger cache_lens"
        )
    dropped = tuple(m for i in sorted(order[:num_dropped]) for m in turns[i])
    return FittedPrompt(
        messages=messages,
        dropped=dropped,
        prompt_tokens=num_tokens,
        context_tokens=context_tokens,
        max_new_tokens=min(max_new_tokens, context_tokens - num_tokens),
        warn=bool(dropped) or num_tokens >= WARN_SHARE * context_tokens,
    )


def _turns(path: list[ChatMessage]) -> list[list[ChatMessage]]:
    turns: list[list[ChatMessage]] = []
    for message in path:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def compaction_draft(conversation: Conversation) -> Conversation:
    """A copy of the conversation that ends with the request for a summary; give it to `fit` where it may be too long."""
    draft = replace(conversation, messages=dict(conversation.messages))
    draft.add_user(COMPACT_REQUEST)
    return draft


def apply_compaction(conversation: Conversation, summary: str) -> ChatMessage:
    """Begin a new path with the summary, as a question and its answer, and return the answer (the new leaf).

    The old messages stay in the tree. ValueError for an empty summary: nothing is changed then.
    """
    if not summary.strip():
        raise ValueError("the summary is empty; the conversation stays as it is")
    conversation.truncate_to(None)
    question = conversation.add_user(COMPACT_REQUEST)
    conversation.messages[question.id] = replace(question, is_summary=True)
    return conversation.add_assistant(summary.strip(), question.id, is_summary=True)
