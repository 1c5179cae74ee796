"""`dsv3chat bench`: its flags and their help. Imports what measures only when something is measured."""

from __future__ import annotations

from typing import Any

import click

from dsv3chat import exit_codes

_FORMATS = ("bf16", "fp8", "int8", "int4")
_SHAPES = ("nano", "moonlight", "deepseek")


@click.group()
def bench() -> None:
    """Measure how fast this machine runs a model, beside what its memory could give."""


def _numbers(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    numbers = []
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) < 1:
            raise click.BadParameter(f"{part!r} is no number of tokens; write numbers such as 128,256,512")
        numbers.append(int(part))
    return tuple(numbers)


def _layers(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int | None, int] | None:
    if text is None:
        return None
    dense, separator, experts = text.rpartition("+")
    if not experts.isdecimal() or (separator and not dense.isdecimal()):
        raise click.BadParameter(
            f"{text!r} is no number of layers; write 3, or 1+2 for one dense and two of experts"
        )
    count = int(experts) + int(dense or 0)
    if count < 1:
        raise click.BadParameter("a model has at least one layer")
    return (int(dense) if separator else None), count


def _names(known: tuple[str, ...]) -> Any:
    def check(context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        for name in names:
            if name not in known:
                raise click.BadParameter(f"{name!r} is none of {', '.join(known)}")
        return names

    return check


@bench.command("model", epilog=exit_codes.BENCH_HELP)
@click.argument("model", required=False)
@click.option(
    "--profile", "profiles", metavar="A[,B]...", help="Names or files. Default: the chat's profile."
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of every profile. Repeatable.",
)
@click.option(
    "--prompt",
    "prompt",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="Tokens of the prompt.",
)
@click.option("--new", type=click.IntRange(2), default=128, show_default=True, help="Tokens of the answer.")
@click.option(
    "--depth",
    type=click.IntRange(0),
    help="Tokens that stand in the cache before the answer. Default: the prompt's, whose answer it then is.",
)
@click.option(
    "--runs", type=click.IntRange(1), default=3, show_default=True, help="Of which the medians are shown."
)
@click.option(
    "--chunk-size",
    "chunk_sizes",
    metavar="N[,N]...",
    callback=_numbers,
    help="Also the longest step against the time of the whole prompt, for each of these chunk sizes.",
)
@click.option(
    "--random",
    "random_weights",
    is_flag=True,
    help="Random weights in the profile's formats, filled in memory. MODEL may then be a config.json, or whatever "
    "`dsv3chat plan` knows the shape of.",
)
@click.option(
    "--layers",
    metavar="N|D+E",
    callback=_layers,
    help="With --random: so many layers, or so many dense ones and so many of experts.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with every sample.")
def bench_model(**flags: Any) -> int:
    """Load MODEL under each profile and measure load, prefill, decode and the most memory held.

    The prompt is a code review of this program's own code (random tokens with --random), decoded greedily, one request
    at a time. A token's bytes are the weights that a step must read, k of E experts among them, and the latents of the
    tokens before it; GB/s is that times tok/s, and the share is of the rate at which as many threads read this machine's
    memory, measured between the runs. Ctrl+C ends it with the table of what was measured.
    """
    from dsv3chat.bench_run import run_model

    if flags["layers"] is not None and not flags["random_weights"]:
        raise click.UsageError("--layers cuts a shape; a checkpoint has its layers: add --random")
    return run_model(flags)


@bench.command("kernels", epilog=exit_codes.BENCH_HELP)
@click.option(
    "--shapes", default=",".join(_SHAPES), show_default=True, callback=_names(_SHAPES), metavar="A[,B]...",
    help="Of which models.",
)  # fmt: skip
@click.option(
    "--formats", default=",".join(_FORMATS), show_default=True, callback=_names(_FORMATS), metavar="A[,B]...",
    help="Of the weights.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1, 256), help="Default: as a profile without `threads` has them."
)
@click.option(
    "--runs", type=click.IntRange(3), default=9, show_default=True, help="Calls measured, at least."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def bench_kernels(**flags: Any) -> int:
    """Measure the kernels that serve on this machine, one by one, on random weights of models' shapes.

    For products of one row and attention of one row: bytes that must be read, GB/s, and the share of the rate at which
    as many threads read memory. For many rows: GFLOP/s.
    """
    from dsv3chat.bench_run import run_kernels

    return run_kernels(flags)
