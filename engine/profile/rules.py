"""The rule grammar: which module paths a `match` covers. Knows no tensors and no profile files."""

from __future__ import annotations

import re

from engine.errors import ProfileError

_PART = re.compile(r"[A-Za-z0-9_]+")
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_BELOW = r"(?:\..*)?"  # a rule covers the module it names and everything below it
_MAX_MATCH_LENGTH = 300
_MAX_REPETITIONS = 5  # bounds the backtracking of a regular expression over a path of some 60 characters


class RuleMatcher:
    """`match`, compiled once. Raises ProfileError (without file and line) for what is not in the grammar.

    - `model.layers.0-15`: parts between dots; `A-B` is a range of numbers, both ends included
    - `model.layers.*.self_attn`: `*` stands for exactly one part
    - `re:model\\.layers\\.\\d+\\.mlp`: a regular expression that must match the whole path of a module

    Each form covers what is below the module it names: `model.layers.1` covers `model.layers.1.mlp.gate.weight`
    and not `model.layers.12`.
    """

    __slots__ = ("_ranges", "_regex", "match")

    def __init__(self, match: str) -> None:
        self.match = match
        self._ranges: list[tuple[int, int]] = []
        if not match or len(match) > _MAX_MATCH_LENGTH:
            raise ProfileError(
                f"found {len(match)} characters; expected a module path of 1 to {_MAX_MATCH_LENGTH} characters"
            )
        if match.startswith("re:"):
            self._regex = _compile_expression(match.removeprefix("re:"))
        else:
            self._regex = re.compile(r"\.".join(map(self._part, match.split("."))) + _BELOW)

    def covers(self, path: str) -> bool:
        """Whether the module or tensor `path` is the named module or lies below it."""
        found = self._regex.fullmatch(path)
        if found is None:
            return False
        return all(
            low <= int(number) <= high
            for number, (low, high) in zip(found.groups(), self._ranges, strict=False)
        )

    def _part(self, part: str) -> str:
        """One part of the path as a regular expression; a range becomes a group whose bounds `covers` compares."""
        if part == "*":
            return r"[^.]+"
        if _PART.fullmatch(part):
            return part
        bounds = _RANGE.fullmatch(part)
        if bounds is None:
            raise ProfileError(
                f"the part {part!r} of {self.match!r} is not in the grammar; expected a name, a number, "
                "a range like 0-15 or * (which stands for one whole part); anything else begins with re:"
            )
        low, high = int(bounds[1]), int(bounds[2])
        if low > high:
            raise ProfileError(f"the range {part!r} of {self.match!r} runs backwards; expected {high}-{low}")
        self._ranges.append((low, high))
        return r"([0-9]{1,9})"


def _compile_expression(expression: str) -> re.Pattern[str]:
    """`expression` with what is below it. Its own groups are harmless: without ranges nothing reads them."""
    problem = _backtracking_risk(expression)
    if problem:
        raise ProfileError(f"the regular expression {expression!r} {problem}")
    try:
        re.compile(expression)
        return re.compile(f"(?:{expression}){_BELOW}")
    except (re.error, RecursionError, OverflowError) as error:
        raise ProfileError(
            f"the regular expression {expression!r} is not valid: {error} "
            "(flags stand inside a group, as in (?i:...))"
        ) from None


def _backtracking_risk(expression: str) -> str:
    """Why `expression` could run for very long on a path, or "". A repeated group must not repeat or choose inside.

    Found by reading left to right with a stack of open groups: True where the group repeats or chooses (`|`).
    """
    if not expression:
        return "is empty; expected one that matches the path of a module"
    bare = re.sub(r"\\[^0-9]", "x", expression)  # \d, \. and the like are one character
    if re.search(r"\\[0-9]|\(\?P=|\(\?\(", bare):
        return "refers back to a group, which a rule cannot do; write the text again"
    bare = re.sub(r"\[\^?\]?[^\]]*\]", "x", bare)  # so is a class
    if re.search(r"(?:\.[*+]\??){2}", bare):
        return "repeats . twice in a row, which one .* says as well"
    bare = re.sub(r"\(\?(?:P<\w*>|<?[=!:]|[a-z-]*:)", "(", bare)
    repetitions, groups, closed = 0, [False], False
    for i, char in enumerate(bare):
        if char == "(":
            groups.append(False)
        elif char == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1] |= closed
        elif char == "|":
            groups[-1] = True
        elif char in "*+{" or (char == "?" and i and bare[i - 1] not in "*+?}("):
            repetitions += 1
            if char != "?" and bare[i - 1 : i] == ")" and closed:
                return (
                    "repeats a group that itself repeats or chooses; expected one repetition, such as [^.]+"
                )
            groups[-1] = True
    if repetitions > _MAX_REPETITIONS:
        return f"has {repetitions} repetitions; expected at most {_MAX_REPETITIONS}"
    return ""
