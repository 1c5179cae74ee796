"""A Jinja environment for templates that come with a checkpoint: no files, no attributes that matter, bounded work.

Jinja's immutable sandbox keeps a template from Python's insides; there is no loader, so nothing can be included. Against
templates that never end or fill the memory, each loop turn, call, filter, operator and output is charged to a Budget.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_STEPS = 2_000_000
MAX_SECONDS = 10.0
MAX_ITEMS = 200_000  # in one value, nested ones counted as often as they are reached
MAX_NUMBER = 1_000_000  # as an argument (a width, a repetition) or an exponent
_MULTIPLYING = ("replace", "join", "indent", "ljust", "rjust", "center", "tojson")


class TemplateLimitError(jinja2.TemplateRuntimeError):
    """The template did more work, or made larger values, than a conversation needs."""


class Budget:
    """What one rendering may still use: `characters` made, a sixteenth of them in one value; steps; seconds."""

    def __init__(self, characters: int, literals: int) -> None:
        self._characters = characters
        self._literals = literals
        self._total = characters
        self.limit = characters // 16  # of one value
        self._steps = MAX_STEPS
        self._deadline = time.monotonic() + MAX_SECONDS

    def turn(self) -> None:
        """One loop turn or call, which may write out the template's own text once more."""
        self.step()
        self.made_characters(self._literals)

    def step(self) -> None:
        """One filter or operator."""
        self._steps -= 1
        if self._steps < 0:
            raise TemplateLimitError(f"it takes more than {MAX_STEPS} steps")
        if self._steps % 256 == 0 and time.monotonic() > self._deadline:
            raise TemplateLimitError(f"it runs longer than {MAX_SECONDS:g} seconds")

    def made(self, value: object) -> None:
        """A value was made: the sum over a rendering is bounded, which also stops doubling in a loop."""
        self.made_characters(self.measure(value))

    def made_characters(self, count: int) -> None:
        """As `made`, for text whose size is known."""
        self._characters -= count
        if self._characters < 0:
            raise TemplateLimitError(f"it makes more than {self._total} characters of text")

    def measure(self, value: object) -> int:
        """Characters and items in a value, nested ones included; the walk itself is bounded too."""
        size, walked, todo = 0, 0, [value]
        while todo and size <= self.limit:
            item = todo.pop()
            size += 1
            walked += 1
            if walked > MAX_ITEMS:
                raise TemplateLimitError(f"it makes a value with more than {MAX_ITEMS} items")
            match item:
                case str() | bytes():
                    size += len(item)
                case dict():
                    todo += [*item.keys(), *item.values()]
                case list() | tuple() | set():
                    todo += item
                case int():
                    size += item.bit_length() // 3
        if size > self.limit:
            raise TemplateLimitError(f"it makes a value larger than {self.limit} characters")
        return size

    def arguments(self, values: object) -> None:
        """A call's arguments: no huge number may become a width or a repetition."""
        for value in values if isinstance(values, tuple) else ():
            if isinstance(value, int) and abs(value) > MAX_NUMBER:
                raise TemplateLimitError(f"it calls with a number above {MAX_NUMBER}")
            self.measure(value)

    def product(self, value: object, factor: object) -> None:
        """Every part of `value` may be followed by `factor` (join, replace, repetition)."""
        count = abs(factor) if isinstance(factor, int) else self.measure(factor)
        if self.measure(value) * count > self.limit:
            raise TemplateLimitError(f"it makes a value larger than {self.limit} characters")


_budget: ContextVar[Budget] = ContextVar("template_budget")


@contextmanager
def budget(characters: int, literals: int) -> Iterator[None]:
    """Within the block, renderings of this thread are charged to one new budget.

    `literals`: the length of the template's own text, charged at each loop turn and call.
    """
    token = _budget.set(Budget(characters, literals))
    try:
        yield
    finally:
        _budget.reset(token)


class _Counted:
    """An iterable whose turns are charged; a length stays known for `loop.last` and `loop.length`."""

    def __init__(self, iterable: Any) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        for item in self._iterable:
            _budget.get().turn()
            yield item

    def __len__(self) -> int:
        return len(self._iterable)


class _Charging(NodeTransformer):
    """Rewrites a parsed template: loops count their turns, `a ~ b` becomes a filter, which is charged like all filters."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "counted", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "concatenated", [], [], None, None, lineno=node.lineno)


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}`, which marks the trained part of an answer, is its body here."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment in which chat templates of the field are written, with every operation charged."""

    intercepted_binops = frozenset({"+", "*", "**", "%", "//", "-"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", _Generation],
            finalize=_charged_output,
        )
        self.filters |= {"concatenated": lambda parts: "".join(map(str, parts)), "tojson": _to_json}
        self.filters = {name: _charged(name, function) for name, function in self.filters.items()}
        self.filters["counted"] = _Counted
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template: nodes.Template = _Charging().visit(super()._parse(source, name, filename))
        return template

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Jinja's safe call, charged."""
        charge = _budget.get()
        charge.turn()
        charge.arguments((*args, *kwargs.values()))
        if getattr(obj, "__name__", "") in _MULTIPLYING:
            for factor in (*args, *kwargs.values()):
                charge.product(getattr(obj, "__self__", ""), factor)
        result = super().call(context, obj, *args, **kwargs)
        charge.made(result)
        return result

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """An arithmetic operator, charged."""
        charge = _budget.get()
        charge.step()
        if operator in ("*", "**"):
            charge.arguments((left, right))
            factor, value = (left, right) if isinstance(left, int) and operator == "*" else (right, left)
            charge.product(value, factor)
        if operator == "%" and isinstance(left, str):
            _check_widths(left)
            charge.arguments(right if isinstance(right, tuple) else (right,))
        result = super().call_binop(context, operator, left, right)
        charge.made(result)
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Jinja's safe `str.format`, without huge widths."""
        text = getattr(value, "__self__", None)
        if isinstance(text, str) and getattr(value, "__name__", "") in ("format", "format_map"):
            _check_widths(text)
        return super().wrap_str_format(value)


def _check_widths(text: str) -> None:
    if re.search(r"\d{7}", text):
        raise TemplateLimitError(f"it formats to a width above {MAX_NUMBER}")


def _charged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def charged(*args: Any, **kwargs: Any) -> Any:
        charge = _budget.get()
        charge.step()
        values = (*args, *kwargs.values())
        charge.arguments(values)
        if name == "format":
            _check_widths(str(args[0]))
        if name in _MULTIPLYING:
            parts = [value for value in args if isinstance(value, (str, list, tuple, dict))]
            for factor in values[1:]:
                charge.product(parts, factor)
        result = function(*args, **kwargs)
        charge.made(result)
        return result

    return charged


def _charged_output(value: object) -> object:
    charge = _budget.get(None)
    if charge is not None:  # constants are also finished when the template is compiled
        charge.made(value)
    return value


def _to_json(value: object, indent: int | None = None, ensure_ascii: bool = False, **options: Any) -> str:
    """JSON as the field's templates expect it: not escaped for HTML, characters as they are."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateRuntimeError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
