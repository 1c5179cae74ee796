"""The command line: flags, commands, and every error as a message with an exit code. Imports no torch and no textual
before a command needs them, so that --help and paths answer at once."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

import click
from click.core import ParameterSource

from dsv3chat import exit_codes
from dsv3chat.cli_bench import bench
from dsv3chat.cli_convert import convert
from dsv3chat.cli_errors import asked_for, report
from dsv3chat.cli_eval import evaluation
from dsv3chat.cli_review import review

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        """A reader that left ends it quietly; click itself would exit with 1 here. OutputError where nothing can be written."""
        from dsv3chat.plain_output import OutputError

        if sys.stdout is None:
            raise OutputError("standard output is closed; for no output take >/dev/null")
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _forget_stdout()
            return exit_codes.BROKEN_PIPE
        except OutputError:
            _forget_stdout()
            raise
        except OSError as error:
            if error.errno not in _NO_ROOM or error.filename is not None:
                raise
            _forget_stdout()
            raise OutputError(f"standard output cannot be written: {error.strerror}") from error
        return result

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes, line by line."""
        formatter.write("\n" + exit_codes.HELP.removeprefix("\b\n") + "\n")


@click.group(cls=_Group, context_settings=_CONTEXT, invoke_without_command=True)
@click.option(
    "-p", "--prompt", help='One question; standard input is joined to it. "" takes standard input alone.'
)
@click.option(
    "-m", "--model", help="A folder, a built model's name, or a hub id. Default: the profile's, nano."
)
@click.option(
    "--profile", help="A profile's name or file. Default: nano-cpu; as-stored for a model of yours."
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the profile. Repeatable."
)
@click.option("--max-tokens", type=int, help="The longest answer, in tokens.")
@click.option("--temperature", type=float, help="0 takes the likeliest token each time.")
@click.option("--top-p", type=float, help="Sample from the likeliest tokens that make up this share.")
@click.option("--seed", type=int, help="Same seed, same text.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text. Repeatable.")
@click.option(
    "--schema",
    metavar="FILE",
    help="With one question: the answer is JSON that meets the JSON Schema in FILE. One that is cut exits with 1.",
)
@click.option("--system", help="The system message.")
@click.option(
    "-c", "--continue", "go_on", is_flag=True, help="Go on with the last conversation (with -p too, saved)."
)
@click.option(
    "--resume", is_flag=False, flag_value="", metavar="[ID]", help="Go on with a conversation, or pick one."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output, for errors too.")
@click.option("--jsonl", "as_jsonl", is_flag=True, help="A JSON line for each event.")
@click.option("--no-stdin", is_flag=True, help="Leave standard input alone.")
@click.version_option(package_name="dsv3chat", message="%(prog)s %(version)s")
@click.pass_context
def dsv3chat(ctx: click.Context, /, **flags: Any) -> int:
    """Chat with a DeepSeek-V3-class model on your own machine.

    Alone it opens the chat. With -p, with text on standard input, or without a terminal it answers one question on
    standard output; everything else goes to standard error. Where TERM=dumb or ACCESSIBLE=1 it chats line by line.

    @path in a question attaches a file, @path:10-40 lines of it, @folder/ its listing; what comes through a pipe is
    data, an @ in it is text. A question asked with -p is saved only with -c or --resume; what is said in the chat
    always is.
    """
    if ctx.invoked_subcommand is not None:
        _refuse_flags(ctx)
        return exit_codes.OK
    from dsv3chat.cli_chat import run_chat

    return run_chat(flags)


def _refuse_flags(ctx: click.Context) -> None:
    """Flags of the chat before another command would be ignored without a word."""
    for parameter in ctx.command.params:
        source = None if parameter.name is None else ctx.get_parameter_source(parameter.name)
        if source not in (None, ParameterSource.DEFAULT):
            message = f"{parameter.opts[-1]} belongs to the chat, not to `dsv3chat {ctx.invoked_subcommand}`"
            raise click.UsageError(message, ctx)


@dsv3chat.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def paths(as_json: bool) -> int:
    """Where configuration, conversations, models and logs lie."""
    from dsv3chat.places import places
    from dsv3chat.plain_output import write_json

    found = {name: str(path) for name, path in places().items()}
    if as_json:
        write_json(sys.stdout.buffer, found)
    else:
        width = max(map(len, found))
        for name, path in found.items():
            click.echo(f"{name:{width}}  {path}")
    return exit_codes.OK


@dsv3chat.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("-m", "--model", help="Ask about this model.")
@click.option("--profile", help="Ask about this profile.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the profile.")
def doctor(as_json: bool, model: str | None, profile: str | None, overrides: tuple[str, ...]) -> int:
    """Versions, hardware, terminal, and what would run where and whether it fits. Exit code 2 when it would not run."""
    from dsv3chat.doctor import run_doctor

    return run_doctor(model, profile, overrides, as_json)


@dsv3chat.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def models(as_json: bool) -> int:
    """The models that --model knows by name."""
    from dsv3chat.cli_models import run_models

    return run_models(as_json)


@dsv3chat.command(epilog=exit_codes.PLAN_HELP)
@click.option("-m", "--model", help="A config.json, a folder, a built model's name, or a hub id.")
@click.option("--profile", help="A profile's name or file.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key of the profile.")
@click.option(
    "--vram", multiple=True, metavar="SIZE", help="A GPU of 24GiB, 8x141GB, 0 for none. Repeatable."
)
@click.option("--ram", metavar="SIZE", help="RAM of the machine: 128GiB.")
@click.option("--ram-bandwidth", metavar="GB/s", help="What RAM reads in a second: 80.")
@click.option("--disk-bandwidth", metavar="GB/s", help="What the disk reads in a second: 7.")
@click.option("--gpu-bandwidth", metavar="GB/s", help="What a GPU reads of its memory in a second: 1000.")
@click.option("--measure", is_flag=True, help="Measure this machine's rates again.")
@click.option(
    "--rules", is_flag=True, help="What each rule decides: modules, tensors, bytes, device, precision."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def plan(**flags: Any) -> int:
    """What a model needs under a profile, whether it fits, and how fast it can be, before anything is loaded.

    Works from a config.json alone. What no flag gives is this machine's: free memory with its limits, and its read rates,
    measured once.
    """
    from dsv3chat.cli_plan import run_plan

    return run_plan(flags)


@dsv3chat.group()
def profiles() -> None:
    """The profiles: which there are, what is in them, how they differ."""


@profiles.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def profiles_list(as_json: bool) -> int:
    """Every profile that --profile knows by name, also those that this version cannot run yet."""
    from dsv3chat.cli_profiles import run_list

    return run_list(as_json)


@profiles.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Its values as JSON, defaults among them.")
def profiles_show(name: str, as_json: bool) -> int:
    """The file of a profile."""
    from dsv3chat.cli_profiles import run_show

    return run_show(name, as_json)


@profiles.command("validate")
@click.argument("files", nargs=-1, required=True)
@click.option(
    "-m", "--model", help="Also whether each rule has its way in this model; a config.json is enough."
)
def profiles_validate(files: tuple[str, ...], model: str | None) -> int:
    """Whether profiles are right; if not, exit code 2 and the line."""
    from dsv3chat.cli_profiles import run_validate

    return run_validate(files, model)


@profiles.command("diff")
@click.argument("first")
@click.argument("second")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def profiles_diff(first: str, second: str, as_json: bool) -> int:
    """The keys and rules in which two profiles differ."""
    from dsv3chat.cli_profiles import run_diff

    return run_diff(first, second, as_json)


@dsv3chat.group()
def config() -> None:
    """What is set, and by whom."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Beside each value, who set it.")
@click.option("-m", "--model", help="As if this model were asked for.")
@click.option("--profile", help="As if this profile were asked for.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="As if this key were set.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with origins.")
def config_show(
    origin: bool, model: str | None, profile: str | None, overrides: tuple[str, ...], as_json: bool
) -> int:
    """Every effective value. Highest first: flags, DSV3CHAT_ variables, the project's .dsv3chat/settings.yaml, your
    settings.yaml, the profile's file."""
    from dsv3chat.cli_config import run_config_show

    return run_config_show(model, profile, overrides, origin, as_json)


dsv3chat.add_command(review)
dsv3chat.add_command(evaluation)
dsv3chat.add_command(convert)
dsv3chat.add_command(bench)


def run(arguments: Sequence[str]) -> int:
    """The program without its exit: returns the exit code, never raises but for a SystemExit of click's own."""
    try:
        code = dsv3chat.main(args=list(arguments), prog_name="dsv3chat", standalone_mode=False)
        return code if isinstance(code, int) else exit_codes.OK
    except Exception as error:
        return report(error, asked_for(arguments))
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED


def _forget_stdout() -> None:
    """Nobody reads any more: what Python still flushes at exit goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def main() -> None:
    """The entry point."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
