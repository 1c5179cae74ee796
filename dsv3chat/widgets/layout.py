"""Blocks of Markdown laid out as rows of a given width, also while the text still grows. Knows no message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from textual.content import Content

from dsv3chat.widgets.highlight import highlight
from dsv3chat.widgets.markdown import Block, parse
from dsv3chat.widgets.rows import MIN_WIDTH, MUTED, Row, text_rows, wrap

_MIN_COLUMN = 5


class Document:
    """A Markdown text and its rows. Appending parses and lays out only from the last top-level block on."""

    def __init__(self, text: str = "", margin: int = 0) -> None:
        self.text = text
        self._margin = margin
        self._settled: list[Block] = []  # blocks before `_tail_at`: they do not change any more
        self._tail: list[Block] = []
        self._tail_at = self._tail_line = 0
        self._dirty = bool(text)
        self._width = 0
        self._settled_rows: list[Row] = []
        self._num_laid = 0  # settled blocks that stand in _settled_rows

    def append(self, text: str) -> None:
        """Add text at the end."""
        self.text += text
        self._dirty = True

    @property
    def code_blocks(self) -> list[str]:
        """The source of every code block, in order."""
        self._parse()
        return [b.code for b in (*self._settled, *self._tail) if b.kind == "code"]

    def rows(self, width: int) -> list[Row]:
        """The rows at `width` cells, the margin among them; those of settled blocks are the same objects each time. Code panels carry the action `code:N`, N counting from 0."""
        self._parse()
        width = max(width, MIN_WIDTH * 2)
        if width != self._width:
            self._width, self._settled_rows, self._num_laid = width, [], 0
        fresh = self._settled[self._num_laid :]
        if fresh:
            start = sum(b.kind == "code" for b in self._settled[: self._num_laid])
            self._settled_rows += self._lay_out(fresh, start)
            self._num_laid = len(self._settled)
        start = sum(b.kind == "code" for b in self._settled)
        return self._settled_rows + self._lay_out(self._tail, start)

    def _lay_out(self, blocks: Sequence[Block], first_code: int) -> list[Row]:
        inner = self._width - self._margin
        rows = lay_out(blocks, inner, first_code, at_top=not self._settled_rows)
        return [indented(row, self._margin) for row in rows] if self._margin else rows

    def _parse(self) -> None:
        if not self._dirty:
            return
        self._dirty = False
        tail = self.text[self._tail_at :]
        blocks = parse(tail)
        last = blocks[-1].line if blocks else 0
        if last:
            self._settled += [replace(b, line=b.line + self._tail_line) for b in blocks if b.line < last]
            self._tail_at += _offset_of_line(tail, last)
            self._tail_line += last
        self._tail = [b for b in blocks if b.line == last]


def indented(row: Row, margin: int) -> Row:
    """The row `margin` cells further right."""
    end = None if row.end is None else row.end + margin
    return Row(Content(" " * margin) + row.content, row.start + margin, end, row.glue, row.action)


def _offset_of_line(text: str, line: int) -> int:
    offset = 0
    for _ in range(line):
        offset = text.index("\n", offset) + 1
    return offset


def lay_out(blocks: Sequence[Block], width: int, first_code: int = 0, at_top: bool = True) -> list[Row]:
    """Rows of blocks, blank rows between them; `first_code` numbers the first code panel."""
    rows: list[Row] = []
    num_code = first_code
    line = -1
    for block in blocks:
        if block.gap and (rows or not at_top):
            rows.append(Row(block.rest.rstrip() if block.line == line else Content("")))
        line = block.line
        match block.kind:
            case "code":
                rows += _panel(block, width, num_code)
                num_code += 1
            case "table":
                rows += _table(block, width)
            case "rule":
                rows.append(Row(block.first + Content.styled("─" * (width - block.first.cell_length), MUTED)))
            case "text":
                rows += text_rows(block.content, width, block.first, block.rest)
    return rows


def _panel(block: Block, width: int, number: int) -> list[Row]:
    inner = max(width - block.rest.cell_length - 4, MIN_WIDTH)
    name, hint = block.language or "text", "c copy"
    fill = inner - Content(name).cell_length - len(hint) - 2
    if fill < 1:
        name, hint, fill = "", "", inner
        title = "╭" + "─" * (inner + 2) + "╮"
    else:
        title = f"╭ {name} {'─' * fill} {hint} ╮"
    rows = [Row(block.first + Content.styled(title, MUTED), len(title) + 99, 0, "", f"code:{number}")]
    left, bar = Content.styled("│ ", MUTED), Content.styled(" │", MUTED)
    start = len(block.rest.plain) + 2
    for line, glue in wrap(highlight(block.code, block.language), inner):
        pad = " " * (inner - line.cell_length)
        rows.append(Row(block.rest + left + line + pad + bar, start, start + len(line.plain), glue))
    bottom = Content.styled("╰" + "─" * (inner + 2) + "╯", MUTED)
    rows.append(Row(block.rest + bottom, len(bottom.plain) + 99, 0, ""))
    return rows


def _table(block: Block, width: int) -> list[Row]:
    num = len(block.head)
    room = width - block.rest.cell_length - 3 * (num - 1)
    lines = [block.head, *block.body]
    natural = [max(_widest(row[i]) if i < len(row) else 0 for row in lines) for i in range(num)]
    widths = _shrink(natural, room)
    rows: list[Row] = []
    for index, line in enumerate(lines):
        cells = [wrap(line[i] if i < len(line) else Content(""), widths[i]) for i in range(num)]
        for y in range(max(len(c) for c in cells)):
            parts = []
            for i in range(num):
                text = cells[i][y][0] if y < len(cells[i]) else Content("")
                parts.append(_align(text.stylize("bold") if index == 0 else text, widths[i], block.aligns[i]))
            prefix = block.rest if rows else block.first
            rows.append(Row(prefix + Content.styled(" │ ", MUTED).join(parts), len(prefix.plain)))
        if index == 0:
            rows.append(Row(block.rest + Content.styled("─┼─".join("─" * w for w in widths), MUTED)))
    return rows


def _widest(content: Content) -> int:
    return max((line.cell_length for line in content.split("\n", allow_blank=True)), default=0)


def _shrink(widths: list[int], room: int) -> list[int]:
    """The widest columns give way, none below five cells."""
    widths = [max(1, w) for w in widths]
    while sum(widths) > room and max(widths) > _MIN_COLUMN:
        widest = widths.index(max(widths))
        runner_up = sorted(widths)[-2] if len(widths) > 1 else 0
        excess = sum(widths) - room
        step = max(1, min(excess, widths[widest] - max(runner_up, _MIN_COLUMN)))
        widths[widest] -= step
    return widths


def _align(content: Content, width: int, align: str) -> Content:
    space = max(0, width - content.cell_length)
    left = {"left": 0, "right": space, "center": space // 2}[align]
    return Content(" " * left) + content + " " * (space - left)
