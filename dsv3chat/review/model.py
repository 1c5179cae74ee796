"""What a review has to know of a model before it is loaded: who it is, what it may take, how to count its tokens.

Knows no tensors: of the weights it looks at names, sizes, times and shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import engine
from dsv3chat.nano import DATA_DIR, NAME, VERSION
from dsv3chat.nano.build import FINGERPRINT, is_finished
from dsv3chat.review.general_protocol import GENERAL
from dsv3chat.review.nano_protocol import NANO
from dsv3chat.review.protocol import ReviewProtocol
from engine import EngineError, Message, Profile, Tokenizer
from engine.paths import models_dir

PROTOCOLS: Mapping[str, ReviewProtocol] = {protocol.name: protocol for protocol in (NANO, GENERAL)}
_CHARACTERS_PER_TOKEN = (
    3.0  # of code with line numbers; nano's tokenizer has 2.9 on this program's own sources
)
_TEMPLATE_TOKENS = 5
_REMEMBERED = 64  # texts of some kB
_MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


@dataclass(frozen=True, slots=True)
class ReviewedModel:
    """A model and the profile it runs with. `digest` is equal where answers may be taken from the cache."""

    name: str
    profile: str
    digest: str  # hex: config, tokenizer and weights of the model, precision and arithmetic of the profile
    concurrency: int  # requests at a time: the profile's max_batch_size
    num_parameters: int | None  # None: not known before it is loaded
    metadata: Mapping[str, object]  # config.json's "dsv3chat" object
    count_tokens: Callable[[str], int]  # of bare text
    count_prompt: Callable[[Sequence[Message]], int]  # of what the model's template makes of messages
    exact_tokens: bool = True  # False: both estimate from characters
    context_tokens: int | None = (
        None  # of one request, answer included: the model's or the pool's; None: not known
    )


def choose_protocol(name: str | None, model: ReviewedModel) -> ReviewProtocol:
    """`name` where it is given, else what the model's metadata says, else general. ValueError with the known names."""
    asked = name if name is not None else model.metadata.get("review_protocol", GENERAL.name)
    protocol = PROTOCOLS.get(str(asked))
    if protocol is None:
        origin = "--protocol" if name is not None else f"the metadata of {model.name}"
        raise ValueError(f"{origin} asks for the review protocol {asked!r}; known are {', '.join(PROTOCOLS)}")
    return protocol


def describe_model(model: str, profile: Profile) -> ReviewedModel:
    """Look at the model that `model` names without loading it; nano need not be built. ModelNotFoundError, as loading."""
    unbuilt = model == NAME and not is_finished(models_dir() / NAME)
    folder = DATA_DIR if unbuilt else models_dir() / NAME if model == NAME else engine.find_model(model)
    config = _json(folder / "config.json")
    about = config.get("dsv3chat")
    metadata = about if isinstance(about, dict) else {}
    built_here = f"{NAME} {VERSION} {FINGERPRINT}"  # every build is the same, whatever its times are
    identity = built_here if model == NAME else _folder_identity(folder)
    tokenizer = _tokenizer(folder)
    positions = config.get("max_position_embeddings")
    arithmetic = [profile.precision, profile.compute, profile.kv_precision, profile.group_size, profile.fit]
    placed = [(rule.match, rule.precision, rule.group_size) for rule in profile.rules]
    digest = hashlib.sha256(json.dumps([identity, arithmetic, placed]).encode()).hexdigest()
    return ReviewedModel(
        name=str(metadata.get("name") or Path(folder).name),
        profile=profile.name,
        digest=digest,
        concurrency=profile.max_batch_size,
        num_parameters=None if unbuilt else _num_parameters(folder),
        metadata=metadata,
        count_tokens=estimate_tokens if tokenizer is None else _text_counter(tokenizer),
        count_prompt=estimate_prompt if tokenizer is None else _prompt_counter(tokenizer),
        exact_tokens=tokenizer is not None,
        context_tokens=min(positions, profile.cache_lens) if isinstance(positions, int) else None,
    )


def estimate_tokens(text: str) -> int:
    """From characters, for a model whose tokenizer is not there."""
    return round(len(text) / _CHARACTERS_PER_TOKEN)


def estimate_prompt(messages: Sequence[Message]) -> int:
    """As estimate_tokens, with some tokens of template for each message."""
    return sum(estimate_tokens(message.content) + _TEMPLATE_TOKENS for message in messages)


def _tokenizer(folder: Path) -> Tokenizer | None:
    try:
        return Tokenizer.open(folder)
    except EngineError:
        return None  # loading the model says what is wrong with it


def _text_counter(tokenizer: Tokenizer) -> Callable[[str], int]:
    """What was counted last is remembered: a chunk's text is counted when it is cut and again in its prompt."""
    return lru_cache(maxsize=_REMEMBERED)(lambda text: len(tokenizer.encode_text(text)))


def _prompt_counter(tokenizer: Tokenizer) -> Callable[[Sequence[Message]], int]:
    def count(messages: Sequence[Message]) -> int:
        try:
            return len(tokenizer.encode_chat(messages))
        except EngineError:  # a template that refuses: the request will say so
            return estimate_prompt(messages)

    return count


def _json(file: Path) -> dict[str, object]:
    """The object in `file`, {} without one: loading the model says what is wrong with it."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _folder_identity(folder: Path) -> str:
    """Changes with every file that decides an answer: the small ones by content, the weights by name, size and time."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if not file.is_file():
            continue
        stat = file.stat()
        digest.update(f"{file.name} {stat.st_size} ".encode("utf-8", "surrogateescape"))
        if file.suffix in (".json", ".jinja", ".model"):
            digest.update(file.read_bytes())
        else:
            digest.update(str(stat.st_mtime_ns).encode())
    return digest.hexdigest()


def _num_parameters(folder: Path) -> int | None:
    """Values in the weight files, scales of blocks left out, from the files' headers alone; None where one is damaged."""
    total = 0
    try:
        for file in folder.glob("*.safetensors"):
            with file.open("rb") as stream:
                size = int.from_bytes(stream.read(8), "little")
                if size > _MAX_HEADER_BYTES:
                    return None
                header = json.loads(stream.read(size))
            for name, entry in header.items():
                if name != "__metadata__" and not name.endswith("_scale_inv"):
                    count = 1
                    for width in entry["shape"]:
                        count *= int(width)
                    total += count
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return total or None
