"""A headless front end over the engine: generate, score, doctor. Knows no terminal interface.

Exit codes: 0 done, 1 the generation failed, 2 usage, profile or model, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from engine import (
    Engine,
    EngineError,
    Failed,
    Finished,
    JsonSchema,
    LoadProgress,
    Message,
    Profile,
    RequestError,
    SamplingParams,
    TextDelta,
)
from engine.hardware import probe
from engine.profile import find_profile, read_profile, with_overrides

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


def _profile(name: str | None, overrides: tuple[str, ...]) -> Profile:
    profile = read_profile(find_profile(name)) if name is not None else Profile()
    return with_overrides(profile, list(overrides))


def _narrate(progress: LoadProgress) -> None:
    if sys.stderr.isatty():
        share = f" {100 * progress.done_bytes // progress.total_bytes} %" if progress.total_bytes else ""
        print(f"\r\x1b[K{progress.stage}{share}", end="", file=sys.stderr, flush=True)


def _open(model: str, profile: Profile, needs_text: bool) -> Engine:
    engine = Engine.open(model, profile, on_progress=_narrate, needs_text=needs_text)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    for note in engine.info.notes:
        print(f"note: {note}", file=sys.stderr)
    return engine


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The dsv3chat engine without its interface."""


@main.command()
@click.argument("model")
@click.option("-p", "--prompt", required=True, help="the user's message")
@click.option("--system", help="a system message before it")
@click.option("--profile", "profile_name", help="a profile's name or file; default: native weights, float32")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="override a key of the profile")
@click.option("--max-tokens", type=int)
@click.option("--temperature", type=float)
@click.option("--seed", type=int)
@click.option("--logprobs", type=int, help="log-probabilities of the chosen and the N likeliest tokens")
@click.option(
    "--schema",
    type=click.Path(path_type=Path),
    help="the answer is JSON that meets the JSON Schema in this file; one that is cut exits with 1",
)
@click.option("--json", "as_json", is_flag=True, help="one JSON object with text, token ids, usage")
def generate(
    model: str,
    prompt: str,
    system: str | None,
    profile_name: str | None,
    overrides: tuple[str, ...],
    max_tokens: int | None,
    temperature: float | None,
    seed: int | None,
    logprobs: int | None,
    schema: Path | None,
    as_json: bool,
) -> None:
    """Answer one message on standard output."""
    params = SamplingParams(
        max_new_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        logprobs=logprobs,
        grammar=_grammar(schema),
    )
    messages = ([Message("system", system)] if system else []) + [Message("user", prompt)]
    with _open(model, _profile(profile_name, overrides), needs_text=True) as engine:
        generation = engine.submit(messages, params)
        deltas: list[TextDelta] = []
        end: Finished | Failed | None = None
        for event in generation:
            if isinstance(event, TextDelta):
                deltas.append(event)
                if not as_json and event.kind == "answer":
                    click.echo(_shown(event.text), nl=False)
            elif isinstance(event, Finished | Failed):
                end = event
    if as_json:
        click.echo(json.dumps(_answer(deltas, end, generation.prompt_ids)))
    else:
        click.echo()
    if isinstance(end, Failed):
        print(f"error: {end.message}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    if schema is not None and isinstance(end, Finished) and end.reason != "stop":
        print(f"error: the answer was cut ({end.reason}) and does not meet the schema", file=sys.stderr)
        sys.exit(EXIT_FAILED)


def _grammar(path: Path | None) -> JsonSchema | None:
    if path is None:
        return None
    from engine import read_schema  # llguidance: other commands do not need it

    return read_schema(path)


def _shown(text: str) -> str:
    """A model's text is data: on a terminal it shows no control character but newline and tab."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _answer(
    deltas: list[TextDelta], end: Finished | Failed | None, prompt_ids: tuple[int, ...]
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "text": "".join(d.text for d in deltas if d.kind == "answer"),
        "thinking": "".join(d.text for d in deltas if d.kind == "thinking"),
        "prompt_ids": list(prompt_ids),
        "token_ids": [i for d in deltas for i in d.token_ids],
        "finish_reason": end.reason if isinstance(end, Finished) else "failed",
        "usage": asdict(end.usage) if end is not None and end.usage is not None else None,
    }
    if any(d.logprobs for d in deltas):
        answer["logprobs"] = [asdict(one) for d in deltas for one in d.logprobs]
    if isinstance(end, Failed):
        answer["error"] = end.message
    return answer


@main.command()
@click.argument("model")
@click.option(
    "--ids", "ids_file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True
)
@click.option("--profile", "profile_name", help="a profile's name or file; default: native weights, float32")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="override a key of the profile")
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def score(
    model: str, ids_file: Path, profile_name: str | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Log-probabilities of the token ids in a JSON file (a list of numbers)."""
    ids = _read_ids(ids_file)
    with _open(model, _profile(profile_name, overrides), needs_text=False) as engine:
        result = engine.score(ids)
    if as_json:
        click.echo(json.dumps(asdict(result)))
    else:
        click.echo(f"{result.num_tokens} tokens, perplexity {result.perplexity:.4f}, {result.seconds:.2f} s")


def _read_ids(path: Path) -> list[int]:
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RequestError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise RequestError(f"{path}: expected a JSON list of whole numbers, such as [1, 9690, 198]")
    return ids


@main.command()
@click.option("--json", "as_json", is_flag=True, help="one JSON object")
def doctor(as_json: bool) -> None:
    """What this machine has: processor, memory, GPUs."""
    facts = asdict(probe())
    if as_json:
        click.echo(json.dumps(facts, default=str))
    else:
        for key, value in facts.items():
            click.echo(f"{key}: {value}")


def run() -> None:
    """`main` with the engine's errors as messages and exit codes."""
    try:
        main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except (EngineError, ValueError) as error:
        if "--json" in sys.argv:
            failure = {"kind": type(error).__name__, "message": str(error)}
            print(json.dumps({"error": failure, "exit_code": EXIT_USAGE}))
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE)


if __name__ == "__main__":
    run()
