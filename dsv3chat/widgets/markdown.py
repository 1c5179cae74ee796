"""Markdown into blocks: paragraphs, lists, quotes, tables, code. Knows no width and no screen.

Soft line breaks are kept, raw HTML is text, links show their address and open nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from markdown_it import MarkdownIt
from markdown_it.token import Token
from textual.content import Content

from dsv3chat.sanitize import clean
from dsv3chat.widgets.rows import MUTED

Align: TypeAlias = Literal["left", "right", "center"]
BULLETS = ("•", "◦", "▪")
_EMPTY = Content("")
_INLINE = {"strong": "bold", "em": "italic", "s": "strike"}
_CODE = "$text-accent on $boost"
_HEADINGS = ("bold underline $text-primary", "bold $text-primary", "bold")


@dataclass(frozen=True, slots=True)
class Block:
    """A leaf of the document. `first` and `rest` stand before its first and its other lines (bullets, bars, indents).

    `gap`: a blank line stands before it. `line` is the first source line of the top-level block it belongs to.
    """

    kind: Literal["text", "code", "rule", "table"]
    first: Content
    rest: Content
    gap: bool
    line: int
    content: Content = _EMPTY
    code: str = ""
    language: str = ""
    head: tuple[Content, ...] = ()
    body: tuple[tuple[Content, ...], ...] = ()
    aligns: tuple[Align, ...] = ()


_parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def parse(text: str) -> list[Block]:
    """The blocks of a whole or still growing document; a fence that is not closed reaches to the end."""
    return _Walk(_parser.parse(clean(text))).blocks


@dataclass(slots=True)
class _Level:
    rest: Content
    first: Content | None  # until the level's first leaf took it
    tight: bool = True
    number: int = 0
    is_list: bool = False


class _Walk:
    def __init__(self, tokens: Sequence[Token]) -> None:
        self.blocks: list[Block] = []
        self._levels: list[_Level] = []
        self._line = 0
        self._fresh = True  # no leaf of the current top-level block yet
        self._heading = ""
        self._align: list[Align] = []
        self._table: list[list[Content]] = []
        self._in_table = False
        for token in tokens:
            self._visit(token)

    def _visit(self, token: Token) -> None:
        if token.level == 0 and token.nesting >= 0 and token.map:
            self._line, self._fresh = token.map[0], True
        match token.type:
            case "heading_open":
                self._heading = _HEADINGS[min(int(token.tag[1]), len(_HEADINGS)) - 1]
            case "heading_close":
                self._heading = ""
            case "blockquote_open":
                bar = Content.styled("▎ ", MUTED)
                self._levels.append(_Level(bar, None))
            case "bullet_list_open" | "ordered_list_open":
                start = int(token.attrs.get("start", 1)) if token.type[0] == "o" else -1
                self._levels.append(_Level(Content(""), None, number=start, is_list=True))
            case "list_item_open":
                self._open_item()
            case "list_item_close" | "bullet_list_close" | "ordered_list_close" | "blockquote_close":
                self._levels.pop()
            case "paragraph_open":
                items = [level for level in self._levels if level.is_list]
                if items:
                    items[-1].tight = token.hidden
            case "table_open":
                self._in_table, self._table, self._align = True, [], []
            case "tr_open":
                self._table.append([])
            case "th_open":
                style = str(token.attrs.get("style", ""))
                aligns: tuple[Align, ...] = ("right", "center", "left")
                self._align.append(next((a for a in aligns if a in style), "left"))
            case "table_close":
                self._in_table = False
                head, *body = (tuple(row) for row in self._table)
                self._leaf(
                    Block("table", *self._place(), head=head, body=tuple(body), aligns=tuple(self._align))
                )
            case "inline":
                content = inline(token.children or [])
                if self._in_table:
                    self._table[-1].append(content)
                else:
                    if self._heading:
                        content = content.stylize(self._heading)
                    self._leaf(Block("text", *self._place(), content=content))
            case "fence" | "code_block":
                words = token.info.split()
                language = clean(words[0])[:24] if words else ""
                code = clean(token.content).removesuffix("\n")
                self._leaf(Block("code", *self._place(), code=code, language=language))
            case "hr":
                self._leaf(Block("rule", *self._place()))

    def _open_item(self) -> None:
        parent = next(level for level in reversed(self._levels) if level.is_list)
        if parent.number >= 0:
            mark = f"{parent.number}. "
            parent.number += 1
        else:
            depth = sum(level.is_list for level in self._levels) - 1
            mark = f"{BULLETS[depth % len(BULLETS)]} "
        self._levels.append(
            _Level(Content(" " * len(mark)), Content.styled(mark, "bold"), tight=parent.tight)
        )

    def _place(self) -> tuple[Content, Content, bool, int]:
        first = Content("").join(
            [level.rest if level.first is None else level.first for level in self._levels]
        )
        rest = Content("").join([level.rest for level in self._levels])
        lists = [level for level in self._levels if level.is_list]
        gap = self._fresh or not lists or not lists[-1].tight
        return first, rest, gap, self._line

    def _leaf(self, block: Block) -> None:
        self.blocks.append(block)
        self._fresh = False
        for level in self._levels:
            level.first = None


def inline(tokens: Sequence[Token]) -> Content:
    """The content of a paragraph, a heading or a cell."""
    parts: list[tuple[str, str]] = []
    styles: list[str] = []
    links: list[tuple[str, int]] = []
    for token in tokens:
        text = clean(token.content)
        if token.type == "link_open":
            links.append((clean(str(token.attrs.get("href", ""))), len(parts)))
            styles.append("underline")
        elif token.type == "link_close":
            styles.pop()
            href, start = links.pop()
            label = "".join(part for part, _ in parts[start:])
            if href not in (label, f"mailto:{label}"):
                parts.append((f" ({href})", MUTED))
        elif token.type == "image":
            parts.append((f"[image: {text}] ({clean(str(token.attrs.get('src', '')))})", MUTED))
        elif token.type in ("softbreak", "hardbreak"):
            parts.append(("\n", ""))
        elif token.type == "code_inline":
            parts.append((text, _CODE))
        elif token.nesting == 1:
            styles.append(_INLINE.get(token.tag, ""))
        elif token.nesting == -1:
            styles.pop()
        elif text:
            parts.append((text, " ".join(dict.fromkeys(s for s in styles if s))))
    return Content.assemble(*(part if part[1] else part[0] for part in parts))
