"""`dsv3chat review`: its flags and their help. Imports what runs a review only when one is asked for."""

from __future__ import annotations

from typing import Any

import click

from dsv3chat import exit_codes

_FORMATS = ("text", "json", "jsonl", "markdown", "sarif", "gitlab", "github", "rdjson")


def _size(text: str) -> int:
    from dsv3chat.review_command.request import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


class _Command(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes, line by line."""
        formatter.write("\n" + exit_codes.REVIEW_HELP.removeprefix("\b\n") + "\n")


@click.command("review", cls=_Command)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--diff",
    is_flag=False,
    flag_value="",
    metavar="[REV[...REV]]",
    help="The changes in the working tree, or since REV.",
)
@click.option("--staged", is_flag=True, help="The changes in the index.")
@click.option("--uncommitted", is_flag=True, help="The changes since the last commit, staged or not.")
@click.option("--commit", metavar="SHA", help="The changes that a commit made.")
@click.option("--stdin-diff", is_flag=True, help="A diff from standard input.")
@click.option(
    "--strategy",
    type=click.Choice(("auto", "hunk", "file")),
    default="auto",
    show_default=True,
    help="Of a diff: its hunks with what is around them, or whole files.",
)
@click.option(
    "--context-tokens",
    type=click.IntRange(min=64),
    help="Tokens of code in one prompt. Default: the protocol's.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="GLOB",
    help="Leave these files out, as .gitignore writes them. Repeatable.",
)
@click.option("--no-gitignore", is_flag=True, help="Ignored files too.")
@click.option(
    "--max-file-bytes",
    type=_size,
    metavar="SIZE",
    default="1MB",
    show_default=True,
    help="Larger files are skipped and listed.",
)
@click.option(
    "--passes",
    type=click.IntRange(1, 3),
    default=1,
    show_default=True,
    help="Ask this often; findings are joined.",
)
@click.option(
    "--verify/--no-verify",
    default=None,
    help="Ask about each finding once more. Default: by the model's size.",
)
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    help="Drop findings that the model is less sure of. Default: the protocol's.",
)
@click.option("--max-findings", type=click.IntRange(min=1), help="At most this many, the worst first.")
@click.option("--context-findings", is_flag=True, help="Of a diff: findings on unchanged lines too.")
@click.option(
    "--fail-on",
    type=click.Choice(("none", "low", "medium", "high", "critical")),
    default="high",
    show_default=True,
    help="Exit with 1 for a finding of this severity or worse.",
)
@click.option(
    "-f",
    "--format",
    "output_format",
    type=click.Choice(_FORMATS),
    help="Of standard output. Default: text, or the screen in a terminal.",
)
@click.option(
    "-o",
    "--output",
    multiple=True,
    metavar="[FORMAT=]FILE",
    help="Write a report to a file, whole or not at all. Repeatable.",
)
@click.option(
    "--baseline", metavar="FILE", help="Known findings. Default: .dsv3-baseline.json where there is one."
)
@click.option("--update-baseline", is_flag=True, help="Make today's findings the known ones.")
@click.option(
    "--budget",
    type=click.IntRange(min=1),
    metavar="TOKENS",
    help="Tokens of prompts at most; what is beyond is listed.",
)
@click.option("--resume", is_flag=True, help="Go on with a review that was stopped.")
@click.option("--dry-run", is_flag=True, help="Files, tokens and expected time; loads no model.")
@click.option(
    "--protocol", help="How the model is asked: nano or general. Default: what the model was trained on."
)
@click.option("-m", "--model", help="As for the chat.")
@click.option("--profile", help="As for the chat.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the profile. Repeatable."
)
@click.option("--seed", type=int, help="Same seed, same findings.")
@click.option(
    "--evaluate",
    metavar="FILE",
    help="Measure on labelled chunks (JSON lines) instead: precision, recall, F1.",
)
def review(**flags: Any) -> int:
    """Review files, folders or changes with the model on this machine.

    PATHs default to this folder; with a diff they narrow it. In a terminal it opens the review screen, unless -f,
    --dry-run or --update-baseline asks for lines. Reports go to standard output and to the files of -o, everything else
    to standard error.

    `# dsv3: ignore[rule]` in a line lets it be. --diff alone before a PATH is written --diff= or followed by --.
    """
    from dsv3chat.review_command.run import run_review

    return run_review(flags)
