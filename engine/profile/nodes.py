"""YAML text to a tree of nodes with line numbers. Knows no keys of a profile and builds no objects.

Composing stops at anchors, aliases, tags, more than one document and deep nesting: a profile needs none of them, and
each is a way to say something other than what the eye reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from engine.errors import ProfileError
from engine.profile.scalars import Scalar, shown

_MAX_DEPTH = 20
_MAX_CHARACTERS = 1_000_000
_STANDARD_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a profile comes from, for the beginning of messages."""

    name: str

    def error(self, line: int, key: str, message: str) -> ProfileError:
        """`FILE:LINE: KEY: message`."""
        return ProfileError(f"{self.name}:{line}: {key}: {message}")


class _Loader(yaml.SafeLoader):
    """SafeLoader for composing only, without the parts of YAML that a profile does not have."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = None
        if getattr(event, "anchor", None) is not None:
            problem = "anchors (&) and aliases (*) are not part of a profile; a text that begins so stands in quotes"
        elif getattr(event, "tag", None) is not None:
            problem = "tags (!) are not part of a profile; a text that begins with ! stands in quotes"
        elif self.depth >= _MAX_DEPTH:
            problem = f"nested more than {_MAX_DEPTH} deep"
        if problem:
            raise yaml.composer.ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def compose(text: str, source: Source) -> yaml.MappingNode:
    """The top-level mapping of `text`. ProfileError with the line for everything else."""
    if len(text) > _MAX_CHARACTERS:
        raise source.error(
            1, "file", f"found {len(text)} characters; a profile has at most {_MAX_CHARACTERS}"
        )
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise source.error(line, "not YAML", f"{error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise source.error(
            line, "not YAML", f"found the character U+{int(error.character):04X}, which no YAML file may hold"
        ) from None
    except (
        ValueError,
        OverflowError,
    ) as error:  # PyYAML on an escape above U+10FFFF, or a huge %YAML version
        raise source.error(1, "not YAML", str(error)) from None
    if node is None:
        raise source.error(1, "file", "found an empty file; expected keys such as `model: nano`")
    if not isinstance(node, yaml.MappingNode):
        raise source.error(line_of(node), "file", f"{what(node)}; expected keys such as `model: nano`")
    return node


def line_of(node: yaml.Node) -> int:
    """The 1-based line on which `node` begins."""
    return int(node.start_mark.line) + 1


def what(node: yaml.Node) -> str:
    """What stands there, for a message."""
    if isinstance(node, yaml.MappingNode):
        return "found a mapping (key: value)"
    if isinstance(node, yaml.SequenceNode):
        return "found a list"
    scalar = scalar_of(node)
    return "found nothing" if scalar.is_null else f"found {shown(scalar.text)}"


def scalar_of(node: yaml.Node) -> Scalar:
    """A scalar node as a Scalar; ValueError for a list or a mapping."""
    if not isinstance(node, yaml.ScalarNode):
        raise ValueError(f"{what(node)}; expected one value")
    return Scalar(
        text=node.value,
        tag=str(node.tag).removeprefix(_STANDARD_TAG),
        quoted=node.style is not None,
    )


def entries(node: yaml.MappingNode, prefix: str, source: Source) -> Iterator[tuple[str, int, yaml.Node]]:
    """(key, line, value) of a mapping. ProfileError for a key that is no scalar or stands twice."""
    lines: dict[str, int] = {}
    for key_node, value in node.value:
        line = line_of(key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            raise source.error(line, prefix or "key", f"{what(key_node)} as a key; expected a name")
        key = key_node.value
        if key in lines:
            raise source.error(
                line, dotted(prefix, key), f"found twice, first on line {lines[key]}; expected once"
            )
        lines[key] = line
        yield key, line, value


def dotted(prefix: str, key: str) -> str:
    """`prefix.key`, fit for a message whatever the key holds."""
    clean = key if key.isprintable() and key and len(key) <= 60 else shown(key)
    return f"{prefix}.{clean}" if prefix else clean
