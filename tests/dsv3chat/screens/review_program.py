"""Runs the review screen over a scripted review in this process's terminal; a test's pseudo-terminal starts it.

python -m tests.dsv3chat.screens.review_program FOLDER MODE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dsv3chat.fake_backend import FakeBackend
from dsv3chat.review_command.program import run_review_screen
from dsv3chat.screens import review as review_screen
from dsv3chat.settings import Settings
from engine import SamplingParams
from tests.dsv3chat.screens.scripted_review import ScriptedReview, job_of, make_scope


def main() -> int:
    """Prints what the screen gave back; `hold` reviews until it is stopped, `crash` raises in the middle."""
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    review_screen.LEAVE_S = 60.0  # a slow machine presses esc twice, too
    os.environ["DSV3CHAT_STATE_DIR"] = str(folder / "state")
    review = ScriptedReview(make_scope(folder / "work"), hold=4 if mode != "end" else None)
    if mode == "crash":
        review.crash = ZeroDivisionError("a bug in the reviewer")
        review.go_on.set()
    backend = FakeBackend()
    try:
        outcome = run_review_screen(
            backend, lambda on_load: job_of(review), Settings(), SamplingParams(), folder
        )
    except ZeroDivisionError as error:
        print(f"raised: {error}")
        return 70
    assert outcome.report is not None
    print(f"findings: {len(outcome.report.findings)} complete: {outcome.report.complete}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
