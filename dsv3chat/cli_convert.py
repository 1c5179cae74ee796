"""`dsv3chat convert`: its flags and their help. Imports what converts only when something is converted."""

from __future__ import annotations

from typing import Any

import click

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def _size(context: click.Context, parameter: click.Parameter, text: str) -> int:
    number = text.rstrip("BKMGbkmgi ")
    unit = text[len(number) :].strip().lower()
    try:
        size = int(float(number) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no size; write bytes, or a number with MB, GB or GiB"
        ) from None
    if size < 1:
        raise click.BadParameter(f"{text!r} is less than one byte")
    return size


@click.command("convert")
@click.argument("source")
@click.argument("out")
@click.option(
    "--format",
    "precision",
    type=click.Choice(("int4", "int8", "fp8", "bf16")),
    help="Of every matrix that is multiplied; the embedding, whose rows are looked up, is bf16. Default: int4.",
)
@click.option("--profile", help="Formats by the rules of a profile, a name or a file, in place of --format.")
@click.option(
    "--group-size",
    type=click.Choice(("32", "64", "128")),
    help="Values that share a scale, with --format int4 (default 64) or int8 (128).",
)
@click.option(
    "--fit",
    type=click.Choice(("rtn", "hqq")),
    help="How int4 scales are found: round to nearest, or half-quadratic. Default: the profile's, hqq.",
)
@click.option(
    "--shard-size",
    default="5GB",
    show_default=True,
    metavar="SIZE",
    callback=_size,
    help="Of a file, at most.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Threads. Default: the cores.")
@click.option(
    "--device",
    type=click.Choice(("cpu", "cuda")),
    default="cpu",
    show_default=True,
    help="Where it computes.",
)
@click.option(
    "--verify", is_flag=True, help="Read the result again: checksums, and the error of each format."
)
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def convert(**flags: Any) -> int:
    """Write the model SOURCE (a name, a folder or a hub id) as the folder OUT, in smaller formats.

    OUT is a Hugging Face checkpoint: safetensors in shards, the formats in config.json, tokenizer and templates copied.
    `--model OUT` opens it; a profile with `precision: native` takes its formats as they are. --format fp8 writes
    DeepSeek's own layout, which other programs read too; int8 and int4 are this program's.

    It appears when it is whole: until then the work lies in OUT.partial, and after a stop, a kill or a full disk the
    same command goes on there. The result is the same, byte for byte. A finished OUT is left as it is.

    MTP layers, which the engine does not run, are left out, and the report says so. A width that the group does not
    divide gets one shorter group at its end. A conversion is not converted again: its errors would add up.
    """
    from dsv3chat.convert_run import run_convert

    return run_convert(flags)
