"""What a review would do, for --dry-run: as lines or as JSON. Knows no stream and loads no model."""

from __future__ import annotations

import json
from typing import Any

from dsv3chat.review.formats.document import counted, one_line, shown_path
from dsv3chat.review.plan import Plan
from dsv3chat.review_command.narrator import clock
from dsv3chat.review_command.setup import Setup


def plan_text(setup: Setup, plan: Plan) -> str:
    """The files with their chunks and tokens, the sum, the time, and every file that is skipped, with the reason."""
    lines = []
    tokens: dict[str, list[int]] = {file.path: [] for file in plan.files}
    for task in plan.tasks:
        tokens[task.chunk.path].append(task.tokens)
    for path, of_file in tokens.items():
        lines.append(f"{shown_path(path)}: {counted(len(of_file), 'chunk')}, {sum(of_file):,} tokens")
    lines += [
        f"{shown_path(failed.path)}: not reviewed: {one_line(failed.reason)}" for failed in setup.scope.failed
    ]
    lines += [f"{shown_path(skipped.path)}: skipped: {one_line(skipped.reason)}" for skipped in plan.skipped]
    if plan.over_budget:
        tokens_over = sum(task.tokens for task in plan.over_budget)
        lines.append(f"beyond --budget: {counted(len(plan.over_budget), 'chunk')}, {tokens_over:,} tokens")
    about = "" if plan.exact_tokens else "about "
    size = f"{counted(len(plan.files), 'file')}, {counted(plan.num_chunks, 'chunk')}, {about}{plan.prompt_tokens:,} tokens"
    lines.append(f"{one_line(setup.scope.description)}: {size}; {counted(len(plan.skipped), 'file')} skipped")
    if plan.cached:
        lines.append(
            f"{counted(len(plan.cached), 'chunk')} in the review cache, {plan.pending_tokens:,} tokens for the model"
        )
    lines.append(
        f"{setup.model.name}, profile {setup.model.profile}, protocol {setup.protocol.name}: {_time(plan)}"
    )
    return "\n".join(lines) + "\n"


def plan_json(setup: Setup, plan: Plan) -> str:
    """The same as one document, in ASCII."""
    files: dict[str, dict[str, Any]] = {
        file.path: {"path": file.path, "language": file.language, "chunks": 0, "tokens": 0}
        for file in plan.files
    }
    for task in plan.tasks:
        files[task.chunk.path]["chunks"] += 1
        files[task.chunk.path]["tokens"] += task.tokens
    document = {
        "format": "dsv3chat-review-plan",
        "version": 1,
        "scope": setup.scope.description,
        "root": str(setup.scope.root),
        "model": setup.model.name,
        "profile": setup.model.profile,
        "protocol": setup.protocol.name,
        "files": list(files.values()),
        "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in plan.skipped],
        "failed": [{"path": failed.path, "reason": failed.reason} for failed in setup.scope.failed],
        "chunks": plan.num_chunks,
        "cached_chunks": len(plan.cached),
        "over_budget_chunks": len(plan.over_budget),
        "prompt_tokens": plan.prompt_tokens,
        "pending_tokens": plan.pending_tokens,
        "exact_tokens": plan.exact_tokens,
        "seconds": plan.seconds,
        "warnings": setup.warnings,
    }
    return json.dumps(document, indent=2) + "\n"


def _time(plan: Plan) -> str:
    if not plan.pending:
        return "nothing to ask the model"
    if plan.seconds is None:
        return "the time is not known before a first review with this model and profile"
    return f"about {clock(plan.seconds)} at the speed of the last review"
