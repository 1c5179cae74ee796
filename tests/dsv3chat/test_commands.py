"""Slash commands: what is one, what is text, what is a slip."""

import pytest

from dsv3chat.commands import COMMANDS, UnknownCommandError, complete_command, parse_command


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("/help", ("help", "")),
        ("  /HELP  ", ("help", "")),
        ("/system Be [red]\nand brief. ", ("system", "Be [red]\nand brief.")),
        ("/export md my file.md", ("export", "md my file.md")),
        ("hello", None),
        ("", None),
        ("/", None),
        ("// comment", None),
        ("/etc/hosts is empty", None),
        ("/tmp is full, why?", None),
        ("/2 of it", None),
        ("what is /help", None),
    ],
)
def test_a_line_is_a_command_or_text(line, parsed):
    assert parse_command(line) == parsed


@pytest.mark.parametrize(
    ("line", "near"), [("/hlep", "/help"), ("/sesions x", "/sessions"), ("/xyzzy", "/help lists")]
)
def test_a_slip_names_the_nearest_command(line, near):
    with pytest.raises(UnknownCommandError, match=near):
        parse_command(line)


def test_every_command_parses_and_completes():
    for command in COMMANDS:
        assert parse_command(f"/{command.name} x") == (command.name, "x")
        assert command in complete_command(command.name[:3])
    assert [c.name for c in complete_command("ex")] == ["export"]
    assert [c.name for c in complete_command("art")] == []
