"""What a review has to know of a model before it is loaded: who it is, what it may take, how to count its tokens.

Knows no tensors: of the weights it looks at names, sizes, times and shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import engine
from dsv3chat.nano import DATA_DIR, NAME, VERSION
from dsv3chat.nano.build import FINGERPRINT, is_finished
from dsv3chat.review.general_protocol import GENERAL
from dsv3chat.review.nano_protocol import NANO
from dsv3chat.review.protocol import ReviewProtocol
from engine import EngineError, Profile, Tokenizer
from engine.paths import models_dir

PROTOCOLS: Mapping[str, ReviewProtocol] = {protocol.name: protocol for protocol in (NANO, GENERAL)}
_CHARACTERS_PER_TOKEN = 3.0  # of code with line numbers; nano's tokenizer has 2.9 on this program's own sources
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
    exact_tokens: bool  # False: `count_tokens` estimates from characters


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
    if model == NAME:
        identity = f"{NAME} {VERSION} {FINGERPRINT}"  # every build is the same, whatever its times are
    else:
        identity = _folder_identity(folder)
    count, exact = _counter(folder)
    arithmetic = [profile.precision, profile.compute, profile.kv_precision, profile.group_size]
    placed = [(rule.match, rule.precision, rule.group_size) for rule in profile.rules]
    digest = hashlib.sha256(json.dumps([identity, arithmetic, placed]).encode()).hexdigest()
    return ReviewedModel(
        name=str(metadata.get("name") or Path(folder).name),
        profile=profile.name,
        digest=digest,
        concurrency=profile.max_batch_size,
        num_parameters=None if unbuilt else _num_parameters(folder),
        metadata=metadata,
        count_tokens=count,
        exact_tokens=exact,
    )


def _counter(folder: Path) -> tuple[Callable[[str], int], bool]:
    """The checkpoint's tokenizer, and True; where it cannot be used, an estimate from characters, and False."""
    try:
        tokenizer = Tokenizer.open(folder)
    except EngineError:
        return lambda text: round(len(text) / _CHARACTERS_PER_TOKEN), False
    return lru_cache(maxsize=4096)(lambda text: len(tokenizer.encode_text(text))), True


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
