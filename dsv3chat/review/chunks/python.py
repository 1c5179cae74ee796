"""The statements of a Python file and the functions around its lines, by tree-sitter. Knows no budget.

The grammar reads broken code too: what it cannot place is a statement like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import tree_sitter_python
from tree_sitter import Language, Node, Parser

from dsv3chat.review.chunks.outline import IndentationOutline, Unit

_PYTHON = Language(tree_sitter_python.language())
_DEFINITIONS = ("function_definition", "class_definition")
_DECORATED = "decorated_definition"
_CLAUSES = frozenset(
    {
        "elif_clause",
        "else_clause",
        "except_clause",
        "except_group_clause",
        "finally_clause",
        "case_clause",
        *_DEFINITIONS,
    }
)


class PythonOutline:
    """Statements inside statements. A header (`def f():`, `else:`) goes with the first statement of its block."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._by_indentation = IndentationOutline(lines)
        source = "\n".join(lines).encode("utf-8", "replace")
        self._tree = Parser(_PYTHON).parse(source)

    def units(self) -> list[Unit]:
        return self._partition(self._tree.root_node.named_children, 1, len(self._lines))

    def head(self, line: int) -> int | None:
        text = self._lines[line - 1]
        column = len(text[: len(text) - len(text.lstrip())].encode("utf-8", "replace"))
        place = (
            line - 1,
            column,
        )  # where the line's statement begins: its indentation belongs to what is around
        node: Node | None = self._tree.root_node.descendant_for_point_range(place, place)
        while node is not None and node.type not in _DEFINITIONS and node.type != _DECORATED:
            node = node.parent
        if node is None:
            return None
        if node.parent is not None and node.parent.type == _DECORATED:
            node = node.parent
        return node.start_point.row + 1

    def _partition(self, nodes: Sequence[Node], start: int, end: int) -> list[Unit]:
        """The statements as units that cover lines [start, end]; what shares a line is one unit."""
        runs: list[tuple[int, Node | None]] = []  # (last line, the statement if it is only one)
        for node in nodes:
            first, last = node.start_point.row + 1, _last_line(node)
            if node.type == "comment" or last < start or first > end:
                continue
            if runs and first <= runs[-1][0]:
                runs[-1] = (max(last, runs[-1][0]), None)
            else:
                runs.append((last, node))
        if not runs:
            return self._by_indentation.within(start, end)
        units, first = [], start
        for last, statement in runs:
            units.append(self._unit(first, min(last, end), statement))
            first = last + 1
        if first <= end:  # comments and blank lines after the last statement
            units.append(self._unit(first, end, None))
        return units

    def _unit(self, start: int, end: int, node: Node | None) -> Unit:
        def expand() -> list[Unit]:
            statement = node
            while statement is not None:
                inside = _statements(statement)
                if len(units := self._partition(inside, start, end)) > 1:
                    return units
                statement = inside[0] if len(inside) == 1 else None
            return []

        return Unit(start, end, expand)


def _statements(node: Node) -> list[Node]:
    """The statements of the node's blocks, those of its clauses included."""
    found: list[Node] = []
    for child in node.named_children:
        if child.type == "block":
            found.extend(node for node in child.named_children if node.type != "comment")
        elif child.type in _CLAUSES:
            found.extend(_statements(child))
    return found


def _last_line(node: Node) -> int:
    """A node that ends at the beginning of a line does not reach into it."""
    row, column = node.end_point
    return row if column == 0 and row > node.start_point.row else row + 1
