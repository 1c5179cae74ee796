"""What a review says on standard error: the time left from the start, one line where lines cannot be redrawn."""

import pytest

from dsv3chat.plain_output import Narrator
from dsv3chat.review.values import ChunkDone, FileDone, FindingFound, ReviewStarted, Skipped
from dsv3chat.review_command.narrator import ReviewNarrator, clock, grouped, summary
from tests.dsv3chat.review.formats.reports import finding, report

STARTED = ReviewStarted("src", 14, 61, 25_000, ())


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def told(capfd):
    """A narrator of either kind, its clock, and what it has said since."""

    def make(redraws, left=lambda: 250.0):
        time = Clock()
        narrator = ReviewNarrator(Narrator(redraws), redraws, left, time)
        return narrator, time, lambda: capfd.readouterr().err

    return make


def test_size_and_time_left_are_told_from_the_start(told):
    narrator, _, said = told(False)
    narrator.event(STARTED)
    assert said() == "dsv3chat: src: 14 files, 61 chunks, 25,000 tokens; about 4:10 left\n"
    narrator, _, said = told(False, lambda: None)
    narrator.event(STARTED)
    assert "time left not known yet" in said()


def test_on_a_terminal_progress_is_drawn_over_a_few_times_a_second(told):
    narrator, time, said = told(True)
    narrator.event(STARTED)
    said()
    for number in range(1, 31):
        time.now += 0.1
        narrator.event(ChunkDone("a.py", number, 61, 100.0))
    drawn = said().split("\r\x1b[K")
    assert 10 <= len(drawn) - 1 <= 16
    assert drawn[-1].startswith("reviewing 0/14 files · ")
    assert all(len(line) < 80 for line in drawn)


def test_elsewhere_a_line_comes_every_half_minute(told):
    narrator, time, said = told(False)
    narrator.event(STARTED)
    for number in range(1, 61):
        time.now += 1.0
        narrator.event(FileDone("a.py", "clean", 0))
        narrator.event(ChunkDone("a.py", number, 61, 100.0))
    lines = said().splitlines()
    assert len(lines) == 3
    assert lines[1] == "dsv3chat: 30/14 files, 29/61 chunks, 0 findings, about 4:10 left"


def test_the_time_left_is_told_as_soon_as_it_is_known(told):
    known = [None]
    narrator, time, said = told(False, lambda: known[0])
    narrator.event(STARTED)
    narrator.tick()
    assert len(said().splitlines()) == 1
    known[0] = 90.0
    time.now += 0.2
    narrator.tick()
    narrator.tick()
    assert said() == "dsv3chat: 0/14 files, 0/61 chunks, 0 findings, about 1:30 left\n"


def test_findings_and_failures_are_told_as_they_come_and_cleaned(told):
    narrator, _, said = told(False)
    narrator.event(STARTED)
    said()
    narrator.event(FindingFound(finding("a\x1b[2J.py", title="T\x1b]52;c;A\x07\nx")))
    narrator.event(FindingFound(finding(state="baseline")))
    narrator.event(FileDone("b.py", "failed", 0, "the answer is no JSON"))
    lines = said().splitlines()
    assert lines == [
        "dsv3chat: a␛[2J.py:12: high mutable-default (0.93): T␛]52;c;A␇ x",
        "dsv3chat: b.py: not reviewed: the answer is no JSON",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (6.6, "0:07"), (760, "12:40"), (3723, "1:02:03"), (-3, "0:00")]
)
def test_a_time_reads_like_a_clock(seconds, text):
    assert clock(seconds) == text


def test_the_report_on_itself_has_cost_speed_and_reasons():
    lines = summary(
        report(
            finding(),
            cached_chunks=1,
            dropped={"outside the chunk": 1, "below confidence": 4},
            notes=("the engine stopped",),
        )
    )
    assert lines == [
        "1 file, 3 chunks; 1 from the review cache; 900 tokens in (300 from the prefix cache), 60 out; 0:12, 55.0 tok/s",
        "the engine stopped",
        "findings dropped: 4 below confidence, 1 outside the chunk",
        "skipped: 1 file: binary (1: data.bin)",
    ]


def test_a_speed_is_told_only_of_tokens_that_were_computed():
    (line, *_) = summary(report(prompt_tokens=0, reused_tokens=0, completion_tokens=0))
    assert "tok/s" not in line


def test_skipped_files_are_grouped_by_reason_the_commonest_first():
    places = [Skipped("x.bin", "binary"), *(Skipped(f"{n}.c", "nano reviews Python") for n in range(5))]
    assert grouped(places) == "6 files: nano reviews Python (5: 0.c, 1.c, 2.c, ...), binary (1: x.bin)"
