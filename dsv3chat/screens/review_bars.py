"""What the lines around the panes of the review say. Knows the review's state and no widget."""

from __future__ import annotations

from textual.content import Content

from dsv3chat.review.values import Severity
from dsv3chat.sanitize import clean_line
from dsv3chat.screens.review_session import ReviewSession
from dsv3chat.widgets.rows import MUTED
from dsv3chat.widgets.severity import STYLES
from engine import ModelInfo, StepStats

_EIGHTHS = " ▏▎▍▌▋▊▉"


def title_line(session: ReviewSession, wide: bool) -> Content:
    """What is reviewed."""
    state = session.state
    if state.scope is None:
        return Content.assemble(("dsv3chat review", "bold $text-primary"), "  looking at the files")
    num = state.num_files("queued", "running", "clean", "findings", "failed", "stopped")
    chunks = f", {state.num_chunks} chunk{_s(state.num_chunks)}" if state.num_chunks and wide else ""
    name = "dsv3chat review" if wide else "review"
    tail = f" · {num} file{_s(num)}{chunks}"
    return Content.assemble(
        (name, "bold $text-primary"), f"  {clean_line(state.scope.description)}", (tail, MUTED)
    )


def speed_line(info: ModelInfo | None, stats: StepStats | None, running: bool, wide: bool) -> Content:
    """Model, profile and tokens per second."""
    names = f"{clean_line(info.name)} · {clean_line(info.profile_name)}" if info is not None and wide else ""
    rate = ""
    if running and stats is not None:
        if stats.decode_tokens_per_s:
            rate = f"{stats.decode_tokens_per_s:.1f} tok/s"
        elif stats.prefill_tokens_per_s:
            rate = f"reading {stats.prefill_tokens_per_s:.0f} tok/s"
    return Content.styled(" · ".join(part for part in (names, rate) if part), MUTED)


def progress_line(session: ReviewSession, width: int) -> tuple[Content, Content]:
    """A bar, files, chunks and the time left; while the model loads, what the loading does."""
    state, loading = session.state, session.loading
    if loading is not None:
        share = loading.done_bytes / loading.total_bytes if loading.total_bytes else 0.0
        text = " · ".join(clean_line(t) for t in (loading.stage, loading.detail) if t)
        percent = f" {share:4.0%}  " if loading.total_bytes else "  "
        left = session.seconds_left()
        after = f"review ETA {clock(left)}" if left is not None else ""
        return Content.assemble(bar(share, width // 4), f"{percent}loading: {text}"), Content(after)
    share = state.done_chunks / state.num_chunks if state.num_chunks else float(state.report is not None)
    reviewed = state.num_files("clean", "findings", "failed")
    num = state.num_files("queued", "running", "stopped") + reviewed
    parts = [f"{reviewed}/{num} files", f"{state.done_chunks}/{state.num_chunks} chunks"]
    left = session.seconds_left()
    if session.running:
        parts.append(f"ETA {clock(left)}" if left is not None else f"{clock(session.seconds)} so far")
    elif state.report is not None:
        parts.append(f"took {clock(state.report.seconds)}")
    return Content.assemble(bar(share, width // 3), "  ", "  ".join(parts)), severity_counts(session)


def severity_counts(session: ReviewSession) -> Content:
    """`C1 H3 M2 L1`: the new findings."""
    counts = session.state.counts
    parts = [
        Content.styled(f"{severity.label[0].upper()}{counts[severity]}", STYLES[severity])
        for severity in sorted(Severity, reverse=True)
        if counts[severity]
    ]
    return Content(" ").join(parts) if parts else Content("")


def bar(share: float, cells: int) -> Content:
    """A bar of eighths of a cell."""
    eighths = round(max(0.0, min(share, 1.0)) * cells * 8)
    full, rest = divmod(eighths, 8)
    filled = "█" * full + (_EIGHTHS[rest] if rest else "")
    return Content.assemble((filled, "$text-primary"), ("░" * (cells - len(filled)), MUTED))


def clock(seconds: float) -> str:
    """`06:20`, with hours from one on."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes:02}:{whole % 60:02}"


def summary_lines(session: ReviewSession) -> Content:
    """Below the files: the counts in words, what is not shown, what was dropped."""
    state = session.state
    counts = state.counts
    words = [
        (f"{severity.label} {counts[severity]}", STYLES[severity])
        for severity in sorted(Severity, reverse=True)
    ]
    lines = [
        Content("  ").join(
            Content.styled(text, style if not text.endswith(" 0") else MUTED) for text, style in words[:2]
        ),
        Content("  ").join(
            Content.styled(text, style if not text.endswith(" 0") else MUTED) for text, style in words[2:]
        ),
    ]
    known, suppressed = state.known["baseline"], state.known["suppressed"]
    if known:
        lines.append(Content.styled(f"baseline {known} (b)", MUTED))
    if suppressed:
        lines.append(Content.styled(f"suppressed {suppressed} (b)", MUTED))
    if state.report is not None:
        for reason, number in state.report.dropped.items():
            lines.append(Content.styled(f"dropped {number}: {clean_line(reason)}", MUTED))
        if unused := len(state.report.unused_suppressions):
            lines.append(Content.styled(f"unused ignores {unused}", MUTED))
    return Content("\n").join(lines)


def status_text(session: ReviewSession, in_chat: bool) -> Content:
    """What the review does now, in words."""
    state = session.state
    leave = "esc: back to the chat" if in_chat else "esc: leave"
    if session.error is not None:
        return Content.styled(f"✗ {clean_line(str(session.error))} · {leave}", "bold $text-error")
    if session.running:
        if session.stopping:
            return Content.styled("■ stopping", "$text-warning")
        if session.loading is not None:
            return Content("◌ loading the model")
        if state.started is None:
            return Content(
                "◌ cutting the files into chunks" if state.scope is not None else "◌ looking at the files"
            )
        busy = [f.path.rpartition("/")[2] for f in state.files.values() if f.status == "running"]
        names = clean_line(", ".join(busy[:2])) + (f" and {len(busy) - 2} more" if len(busy) > 2 else "")
        return Content(f"● reviewing {names}" if names else "● beginning")
    report = state.report
    if report is None:
        return Content.styled(f"■ ended without a report · {leave}", "$text-warning")
    failed = state.num_files("failed")
    not_read = f"{failed} file{_s(failed)} failed" if failed else ""
    if report.interrupted:
        return Content.styled(f"■ stopped, what was found is kept · r goes on · {leave}", "$text-warning")
    if not report.complete:
        return Content.styled(
            f"✗ incomplete{': ' + not_read if not_read else ''} · {leave}", "bold $text-error"
        )
    if not report.reviewed:
        return Content.styled(f"nothing was reviewed · {leave}", "$text-warning")
    cached = (
        f" · {report.cached_chunks} of {report.num_chunks} from the cache" if report.cached_chunks else ""
    )
    return Content(f"✓ {len(report.reviewed)} file{_s(len(report.reviewed))} reviewed{cached} · {leave}")


def empty_text(session: ReviewSession, filtered: bool) -> str:
    """Why no finding is listed."""
    state, report = session.state, session.state.report
    if filtered:
        return "no finding has what is filtered for; esc shows all"
    if report is None:
        return "no finding yet" if session.error is None else str(session.error)
    if not report.reviewed:
        return "nothing was reviewed"
    num = len(report.reviewed)
    hidden = f"; {state.num_hidden} in the baseline or suppressed (b shows them)" if state.num_hidden else ""
    return f"no findings in {num} reviewed file{_s(num)}{hidden}"


def _s(number: int) -> str:
    return "" if number == 1 else "s"
