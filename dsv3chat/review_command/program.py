"""The review screen as a program of its own: what `dsv3chat review` opens in a terminal. Knows no flag."""

from __future__ import annotations

from pathlib import Path

from dsv3chat.app import ChatApp
from dsv3chat.backend import ChatBackend
from dsv3chat.conversation import Conversation
from dsv3chat.places import open_store
from dsv3chat.screens.review_job import Prepare, ReviewOutcome
from dsv3chat.settings import Settings
from engine import SamplingParams


def run_review_screen(
    backend: ChatBackend,
    prepare: Prepare,
    settings: Settings,
    params: SamplingParams,
    root: Path,
) -> ReviewOutcome:
    """Review, and stay until the person leaves; `d` opens a chat with the same backend, which `prepare` gives the review too.

    `params` and `root` (the working folder) are for the chat. Returns when the terminal is as it was: the caller writes
    its files, decides the exit code from the outcome and closes the backend. Raises what `prepare` or the first review raised:
    EngineError when the model does not load, LoadCancelledError when the loading was stopped.
    """
    store = open_store()
    try:
        app = ChatApp(backend, store, settings, Conversation(), params, root, review=prepare)
        code = app.run_guarded()
        report = app.reviews.finish()
    finally:
        store.close()
    if report is None and app.reviews.error is not None and not code:
        raise app.reviews.error
    return ReviewOutcome(report, code)
