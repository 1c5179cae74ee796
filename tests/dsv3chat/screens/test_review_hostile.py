"""What files and models say is shown as it is, and never acts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsv3chat.review.values import Skipped
from dsv3chat.sanitize import clean
from tests.dsv3chat.screens.scripted_review import ScriptedReview, finding, make_scope, source

HOSTILE = [
    'z [b + reply [1, "3"]',
    "[/",
    "src/[id]/page.tsx",
    "[red]x[/red] [@click=app.quit]y[/]",
    "\x1b]52;c;cm0gLXJm\x07 clip",
    "\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\ text",
    "\x1b[2J\x1b[H gone",
    "\x9b2J c1",
    "abc\u202etxt.exe",
    "tab\there \u2028 and \x0c feed \r back",
    "nul\x00 bell\x07 back\x08 del\x7f",
]


@pytest.mark.parametrize("size", [(120, 36), (80, 24)])
@pytest.mark.parametrize("text", HOSTILE)
async def test_everywhere(opened, tmp_path, text, size):
    code = (text.replace("\n", " "), "x = 1")
    file = replace(source(f"{text}.py", "x"), lines=code)
    evil = replace(
        finding(
            f"{text}.py", 1, title=text, rule=text, message=f"{text}\n{text}", suggestion=f"{text}\nx = 2"
        ),
        line_text=code[0],
    )
    scope = make_scope(tmp_path / "gone", [file], [Skipped(f"a{text}", text)])
    review = ScriptedReview(replace(scope, description=text), [evil], failed=[Skipped(f"{text}.py", text)])
    async with opened(review, size, outputs=(text,), toasts=True) as s:
        for keys in (
            ("d",),
            ("f3",),
            ("a",),
            ("o",),
            ("e",),
            ("escape",),
            ("tab", "tab", "tab"),
            ("end",),
            ("c",),
        ):
            await s.press(*keys)
            assert clean(s.text) == s.text
        s.screen.say(text, "error")
        await s.until(lambda: len(s.app.screen.query("Toast")) > 0)
        assert clean(s.text) == s.text


async def test_brackets_stand_as_they_were_written(opened, tmp_path):
    file = source("a[red].py", "x = [1, [/red]")
    evil = finding("a[red].py", 1, title="use [/] and [b", suggestion="y = [/b]", text="x = [1, [/red]")
    async with opened(ScriptedReview(make_scope(tmp_path / "work", [file]), [evil])) as s:
        await s.shows("a[red].py", "x = [1, [/red]", "use [/] and [b", "+ y = [/b]")


async def test_a_megabyte_in_one_line_is_cut_and_the_screen_stays_quick(opened, tmp_path):
    file = source("big.js", "x" * 1_000_000 + "\nfine")
    big = finding("big.js", 1, text="x", suggestion="")
    async with opened(ScriptedReview(make_scope(tmp_path / "work", [file]), [big])) as s:
        await s.shows("xxxxxxxx", "2     fine")
        await s.press("tab", "right")
        await s.shows("xxxxxxxx")
        await s.until(lambda: "fine" not in s.text)


async def test_a_diff_whose_file_is_not_at_hand_shows_its_hunks_and_gaps(opened, tmp_path):
    from dsv3chat.review.values import Hunk

    lines = ["" for _ in range(40)]
    lines[9:12] = ["a = 1", "b = 2", "c = 3"]
    lines[29:31] = ["d = 4", "e = 5"]
    hunks = [Hunk(10, 12, frozenset({11})), Hunk(30, 31, frozenset({30}))]
    file = replace(source("x.py", "\n".join(lines), hunks), partial=True)
    scope = make_scope(tmp_path / "gone", [file])
    here = finding("x.py", 30, text="\n".join(lines), suggestion="d = 5")
    async with opened(ScriptedReview(scope, [here])) as s:
        await s.shows("⋮", "30 + ┃ d = 4", "hunk 2/2")
        assert "   20 " not in s.text
        await s.press("a")
        await s.tells("there is no such file")
