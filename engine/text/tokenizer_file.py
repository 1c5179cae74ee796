"""A checkpoint's tokenizer files, made into a BPE that text cannot talk into control tokens. Knows no messages.

In the tokenizer that is built, every control token carries a name of its own for this process (`Control.mark`) instead of
`<|im_end|>`. Text therefore never matches one, neither as an added token nor by a merge; whoever may make
control tokens (the chat template) writes the marks, and one encoding of the whole prompt gives all ids.
"""

from __future__ import annotations

import json
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from engine.errors import CheckpointError, UnsupportedModelError
from engine.text.json_file import read_json
from engine.text.tiktoken import tiktoken_json

_NAMED = ("bos_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True, slots=True)
class Control:
    """A token that only the template may make: its id, its name in the files, and its name in the built tokenizer."""

    id: int
    content: str
    mark: str


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """What the files say. `config` is tokenizer_config.json, empty when there is none."""

    folder: Path
    backend: tokenizers.Tokenizer
    controls: tuple[Control, ...]
    decoder: Mapping[str, Any] | None
    config: Mapping[str, Any]
    named: Mapping[str, str]  # "bos_token" -> its text, for those that are given
    num_ids: int  # one past the largest id


def read_tokenizer(folder: Path) -> TokenizerFile:
    """tokenizer.json, else tiktoken.model; never the class that tokenizer_config.json names, never remote code.

    Raises CheckpointError for absent, unreadable or contradictory files, UnsupportedModelError for other kinds than BPE.
    """
    config = (
        read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    )
    if (folder / "tokenizer.json").exists():
        source, data = "tokenizer.json", read_json(folder / "tokenizer.json")
    elif (folder / "tiktoken.model").exists():
        source, data = "tiktoken.model", tiktoken_json(folder / "tiktoken.model", config, _vocab_size(folder))
    else:
        raise CheckpointError(
            f"{folder} has neither tokenizer.json nor tiktoken.model; one of them is needed to turn text into tokens: "
            "download it from where the weights came from"
        )
    try:
        return _build(folder, source, data, config)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / source} is no valid tokenizer: {error!r}; download it again"
        ) from error


def without_prefix_space(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer for text in the middle of a text: it puts no space (▁) before it. The same object where none is put."""
    steps = [json.loads(part.__getstate__()) for part in (backend.pre_tokenizer, backend.normalizer) if part]
    if not any(map(_puts_space, steps)):
        return backend
    data = json.loads(backend.to_str())
    for part in ("pre_tokenizer", "normalizer"):
        data[part] = _without_space(data[part])
    return tokenizers.Tokenizer.from_str(json.dumps(data))


def _puts_space(step: Any) -> bool:
    return bool(_without_space(step) != step)


def _without_space(step: Any) -> Any:
    match step:
        case {"type": "Sequence", "pretokenizers": list(parts)}:
            return step | {"pretokenizers": [_without_space(part) for part in parts]}
        case {"type": "Sequence", "normalizers": list(parts)}:
            return step | {"normalizers": [_without_space(part) for part in parts]}
        case {"type": "Prepend"}:
            return {"type": "Sequence", "normalizers": []}
        case {"type": "Metaspace"}:
            return step | {"prepend_scheme": "never"}
        case {"type": "ByteLevel", "add_prefix_space": True}:
            return step | {"add_prefix_space": False}
    return step


def _vocab_size(folder: Path) -> int | None:
    path = folder / "config.json"
    size = read_json(path).get("vocab_size") if path.exists() else None
    return size if isinstance(size, int) else None


def _build(folder: Path, source: str, data: dict[str, Any], config: Mapping[str, Any]) -> TokenizerFile:
    model = data["model"]
    if model.get("type", "BPE") != "BPE":
        raise UnsupportedModelError(
            f"{folder / source} is a {model['type']} tokenizer; built is BPE, which every model of this family uses"
        )
    vocab: dict[str, int] = model["vocab"]
    added = _added_tokens(data, config, vocab)
    named = _named_tokens(config)
    for role in ("bos_token", "eos_token"):
        text = named.get(role)
        if text is None or any(token["content"] == text for token in added):
            continue
        if text not in vocab:
            raise CheckpointError(
                f"tokenizer_config.json names {text!r} as {role}, and {folder / source} has no such token; "
                "the two files come from different models: download both again"
            )
        added.append({"id": vocab[text], "content": text, "special": True})
    controls = _rename_controls(model, added)
    data |= {"added_tokens": added, "truncation": None, "padding": None, "post_processor": None}
    try:
        backend = tokenizers.Tokenizer.from_str(json.dumps(data))
    except Exception as error:  # the library raises bare Exception
        raise CheckpointError(f"{folder / source} is refused by the tokenizers library: {error}") from error
    for token in added:
        if backend.token_to_id(token["content"]) != token["id"]:
            raise CheckpointError(
                f"{folder / source}: the added token with id {token['id']} has another id in the vocabulary"
            )
    num_ids = 1 + max(*vocab.values(), *(token["id"] for token in added), 0)
    return TokenizerFile(folder, backend, controls, data.get("decoder"), config, named, num_ids)


def _added_tokens(
    data: Mapping[str, Any], config: Mapping[str, Any], vocab: Mapping[str, int]
) -> list[dict[str, Any]]:
    """tokenizer.json's added tokens, then those that only tokenizer_config.json's added_tokens_decoder has."""
    added = [dict(token) for token in data.get("added_tokens") or []]
    ids = {token["id"] for token in added} | set(vocab.values())
    texts = {token["content"] for token in added} | set(vocab)
    for key, token in (config.get("added_tokens_decoder") or {}).items():
        if int(key) not in ids and token["content"] not in texts:
            added.append({**token, "id": int(key)})
    return added


def _named_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    named = {}
    for role in _NAMED:
        value = config.get(role)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            named[role] = text
    return named


def _is_control(token: Mapping[str, Any]) -> bool:
    """Special, or bracketed: `<think>`, `<｜User｜>`, `[EOT]` are often not marked special, and are no text either.

    Added tokens that are words or runs of spaces remain text.
    """
    content = token["content"]
    ends = unicodedata.category(content[0])[0] + unicodedata.category(content[-1])[0]
    return bool(token.get("special")) or (len(content) > 1 and all(kind in "PS" for kind in ends))


def _rename_controls(model: dict[str, Any], added: list[dict[str, Any]]) -> tuple[Control, ...]:
    """Give every control token its mark, in `added` and in the vocabulary, and drop the merges that lead to one."""
    vocab: dict[str, int] = model["vocab"]
    nonce = secrets.token_hex(8)  # no text can hold a mark that is drawn when the process starts
    controls = []
    owner = {number: text for text, number in vocab.items()}
    for token in added:
        if not _is_control(token):
            continue
        number, content = token["id"], token["content"]
        if owner.get(number, content) != content:
            raise CheckpointError(
                f"token id {number} is both {owner[number]!r} and {content!r}; download the tokenizer again"
            )
        mark = f"\U0010fffe{nonce}:{number}\U0010ffff"
        controls.append(Control(number, content, mark))
        vocab.pop(content, None)
        vocab[mark] = number
        token |= {"content": mark, "special": True, "normalized": False}
        for flag in ("single_word", "lstrip", "rstrip"):
            token.setdefault(flag, False)
    gone = {control.content for control in controls}
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    model["merges"] = [[a, b] for a, b in merges if a + b not in gone and a not in gone and b not in gone]
    if model.get("unk_token") in gone:
        model["unk_token"] = next(
            control.mark for control in controls if control.content == model["unk_token"]
        )
    return tuple(controls)
