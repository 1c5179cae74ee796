"""A checkpoint's chat template: found, and rendered in a sandbox. Knows no tokens.

Looked for, in this order: chat_template.jinja, `chat_template` of tokenizer_config.json, chat_template.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2

from engine.errors import CheckpointError, PromptError
from engine.text.json_file import read_json
from engine.text.sandbox import Sandbox, TemplateLimitError, budget

ROLES = ("system", "user", "assistant")
MAX_TEMPLATE_CHARACTERS = 1 << 20
# What one rendering may make, in characters: conversations of a million tokens stay far below, memory stays bounded.
BUDGET_CHARACTERS = 256 << 20
BUDGET_PER_CHARACTER = 64


class ChatTemplate:
    """The template's source and where it came from; compiled at its first use."""

    def __init__(self, source: str, origin: str, named: Mapping[str, str], absent: str = "") -> None:
        self.source = source
        self.origin = origin
        self._named = dict(named)
        self._absent = absent

    @classmethod
    def find(cls, folder: Path, config: Mapping[str, Any], named: Mapping[str, str]) -> ChatTemplate:
        """The checkpoint's template; without one, rendering says so. CheckpointError for a file that cannot be read.

        `named` are the tokens a template may write by name: bos_token, eos_token, pad_token, unk_token.
        """
        path = folder / "chat_template.jinja"
        if path.exists():
            try:
                return cls(path.read_text(encoding="utf-8"), path.name, named)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{path} cannot be read: {error}; download it again") from error
        beside = folder / "chat_template.json"
        for origin, value in (
            ("tokenizer_config.json", config.get("chat_template")),
            ("chat_template.json", _json_template(beside)),
        ):
            if isinstance(value, str):
                return cls(value, origin, named)
            if isinstance(value, list):
                templates = {str(entry["name"]): str(entry["template"]) for entry in value}
                if "default" in templates or len(templates) == 1:
                    return cls(templates.get("default") or next(iter(templates.values())), origin, named)
                return cls(
                    "",
                    origin,
                    named,
                    f"{folder / origin} names the templates {sorted(templates)}, none of them 'default'",
                )
        return cls("", "", named, f"{folder} has no chat template")

    def render(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> str:
        """The prompt as text. PromptError: no template, a role it refuses, a fault in it, too much work."""
        if self._absent:
            raise PromptError(
                f"{self._absent}: it is probably a base model, which completes text and does not chat. Take its instruct "
                "or chat version, or put the template of one into the folder as chat_template.jinja"
            )
        for number, message in enumerate(messages, start=1):
            if message["role"] not in ROLES:
                raise PromptError(
                    f"message {number} has the role {message['role']!r}; known are {', '.join(ROLES)}"
                )
        size = sum(len(message["content"]) for message in messages)
        try:
            with budget(BUDGET_CHARACTERS + BUDGET_PER_CHARACTER * size, len(self.source)):
                return self._template.render(
                    messages=list(messages),
                    add_generation_prompt=add_generation_prompt,
                    tools=None,
                    documents=None,
                    **self._named,
                )
        except PromptError:
            raise
        except TemplateLimitError as error:
            raise PromptError(
                f"the chat template ({self.origin}) was stopped: {error}; take another template"
            ) from error
        except jinja2.TemplateRuntimeError as error:
            roles = ", ".join(message["role"] for message in messages) or "none"
            raise PromptError(
                f"the chat template ({self.origin}) refuses these messages: {error}; their roles are: {roles}"
            ) from error
        except (
            Exception
        ) as error:  # the template is a program of the checkpoint: whatever it raises is its fault
            raise PromptError(
                f"the chat template ({self.origin}) fails: {type(error).__name__}: {error}; put a working one into the "
                "model's folder as chat_template.jinja"
            ) from error

    @cached_property
    def _template(self) -> jinja2.Template:
        if len(self.source) > MAX_TEMPLATE_CHARACTERS:
            raise PromptError(
                f"the chat template ({self.origin}) has {len(self.source)} characters; at most {MAX_TEMPLATE_CHARACTERS} are read"
            )
        try:
            return Sandbox().from_string(self.source)
        except jinja2.TemplateSyntaxError as error:
            raise PromptError(
                f"the chat template ({self.origin}) is no valid Jinja, line {error.lineno}: {error.message}"
            ) from error


def _json_template(path: Path) -> object:
    return read_json(path).get("chat_template") if path.exists() else None
