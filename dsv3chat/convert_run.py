"""A conversion from flags to its report: progress on standard error, the report on standard output. Knows no formats."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dsv3chat import exit_codes
from dsv3chat.interrupts import Interrupts
from dsv3chat.mode import can_redraw, is_terminal
from dsv3chat.models import resolve_model
from dsv3chat.plain_output import Narrator, write_json
from dsv3chat.sanitize import clean_line
from engine import (
    EVERYTHING,
    Conversion,
    FormatName,
    LoadCancelledError,
    LoadProgress,
    Profile,
    Verification,
    convert_checkpoint,
    find_profile,
    read_profile,
    verify_conversion,
)

_LINES = 10  # progress lines of a stage where nothing can be redrawn
_REDRAW_SECONDS = 0.2


def run_convert(flags: Mapping[str, Any]) -> int:
    """Returns the exit code. Raises what the command line reports: usage, the model, the profile, the conversion."""
    _check(flags)
    redraws = is_terminal(sys.stderr) and can_redraw()
    narrator = Narrator(redraws)
    with Interrupts() as interrupts:
        stopped = _Stopped(interrupts)
        try:
            source = resolve_model(flags["source"], narrator.progress, stopped)
            conversion = _convert(flags, source, Pace(narrator, redraws), stopped)
            verification = None
            if flags["verify"]:
                pace = Pace(narrator, redraws)
                verification = verify_conversion(
                    source,
                    Path(flags["out"]),
                    workers=flags["workers"],
                    on_progress=pace.show,
                    cancelled=stopped,
                )
        except LoadCancelledError as error:
            if interrupts.exit_code in (None, exit_codes.INTERRUPTED):
                raise
            narrator.say(str(error))
            return interrupts.exit_code
        finally:
            narrator.erase()
    for note in conversion.notes:
        narrator.say(note)
    if flags["as_json"]:
        checked = None if verification is None else asdict(verification)
        write_json(sys.stdout.buffer, {"conversion": asdict(conversion), "verification": checked})
    else:
        click.echo(to_text(conversion, verification))
    return exit_codes.OK


class _Stopped:
    """Whether a signal has come."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def __call__(self) -> bool:
        return self._interrupts.number is not None


def _check(flags: Mapping[str, Any]) -> None:
    if flags["profile"] is not None:
        for flag, value in (("--format", flags["precision"]), ("--group-size", flags["group_size"])):
            if value is not None:
                raise click.UsageError(f"{flag} and --profile exclude each other: the profile's rules decide")
    if flags["device"] != "cpu":
        raise click.UsageError(
            "--device cuda is not built in this version, which converts on the CPU; leave it out"
        )


def _convert(flags: Mapping[str, Any], source: Path, pace: Pace, stopped: _Stopped) -> Conversion:
    if flags["profile"] is None:
        formats: Profile | FormatName = flags["precision"] or "int4"
    else:
        formats = read_profile(find_profile(flags["profile"]), EVERYTHING)  # places play no part here
    return convert_checkpoint(
        source,
        Path(flags["out"]),
        formats,
        group_size=None if flags["group_size"] is None else int(flags["group_size"]),
        fit=flags["fit"],
        shard_bytes=flags["shard_size"],
        workers=flags["workers"],
        on_progress=pace.show,
        cancelled=stopped,
    )


class Pace:
    """Progress with its rate and the time left: one line redrawn, or a line for each tenth of a stage."""

    def __init__(self, narrator: Narrator, redraws: bool) -> None:
        self._narrator = narrator
        self._redraws = redraws
        self._stage = ""
        self._began = 0.0
        self._first_bytes = 0  # done before this run: they say nothing about its rate
        self._tenth = 0
        self._shown_at = 0.0

    def show(self, progress: LoadProgress) -> None:
        """One step of it."""
        now = time.monotonic()
        fresh = progress.stage != self._stage
        if fresh:
            self._stage, self._began, self._first_bytes = progress.stage, now, progress.done_bytes
        tenth = _LINES * progress.done_bytes // max(1, progress.total_bytes)
        due = now - self._shown_at >= _REDRAW_SECONDS if self._redraws else tenth > self._tenth
        if not fresh and not due:
            return
        self._tenth, self._shown_at = tenth, now
        text = self._text(progress, now - self._began)
        if self._redraws:
            self._narrator.draw(text)
        else:
            self._narrator.say(text)

    def _text(self, progress: LoadProgress, seconds: float) -> str:
        parts = [progress.stage]
        if progress.total_bytes:
            parts.append(f"{progress.done_bytes / 1e9:.2f} of {progress.total_bytes / 1e9:.2f} GB")
        done = progress.done_bytes - self._first_bytes
        if done > 0 and seconds > 0:
            left = (progress.total_bytes - progress.done_bytes) * seconds / done
            parts += [f"{done / seconds / 1e6:.0f} MB/s", f"{duration(left)} left"]
        parts.append(clean_line(progress.detail))
        return " · ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """42 s, 3 min, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def to_text(conversion: Conversion, verification: Verification | None) -> str:
    """The report for a person."""
    c = conversion
    lines = [clean_line(c.path)]
    lines.append(
        f"  {c.source_bytes / 1e9:.2f} GB became {c.nbytes / 1e9:.2f} GB in {_counted(c.num_shards, 'shard')}"
    )
    lines += [f"  {f.name}: {_counted(f.num_tensors, 'tensor')}, {f.nbytes / 1e6:,.1f} MB" for f in c.formats]
    if c.num_kept == c.num_shards:
        lines.append("  it was finished already; nothing was converted")
    else:
        kept = f", {_counted(c.num_kept, 'shard')} finished before" if c.num_kept else ""
        rate = c.converted_bytes / max(c.seconds, 1e-9) / 1e6
        lines.append(f"  {duration(c.seconds)}, {rate:.0f} MB/s of the source{kept}")
    if verification is not None:
        lines += _verified(verification)
    return "\n".join(lines)


def _verified(verification: Verification) -> list[str]:
    lines = [f"verified: {_counted(verification.num_shards, 'shard')} as written; relative RMS error:"]
    lines += [
        f"  {f.format}: {100 * f.relative_rms:.3f} % over {_counted(f.num_tensors, 'tensor')}, worst {100 * f.worst_rms:.3f} %"
        for f in verification.formats
    ]
    if verification.worst:
        lines.append("the tensors that are furthest off:")
    lines += [
        f"  {100 * w.relative_rms:7.3f} %  {clean_line(w.name)} ({w.format})" for w in verification.worst
    ]
    return lines


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
