"""Source code as coloured Content. Knows no panel."""

from __future__ import annotations

from functools import lru_cache

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Token, _TokenType
from pygments.util import ClassNotFound
from textual.content import Content, Span

# Weight or slant marks the important kinds too, so that nothing is told by colour alone.
STYLES: dict[_TokenType, str] = {
    Token.Comment: "italic $text-muted",
    Token.Keyword: "bold $text-primary",
    Token.Keyword.Constant: "$text-primary",
    Token.Literal.Number: "$text-warning",
    Token.Literal.String: "$text-success",
    Token.Name.Builtin: "$text-accent",
    Token.Name.Class: "bold",
    Token.Name.Decorator: "$text-accent",
    Token.Name.Function: "bold",
    Token.Name.Tag: "$text-primary",
    Token.Name.Attribute: "$text-warning",
    Token.Generic.Deleted: "$text-error",
    Token.Generic.Inserted: "$text-success",
    Token.Generic.Heading: "bold",
    Token.Generic.Subheading: "bold",
    Token.Operator.Word: "bold $text-primary",
}
_LONGEST = 100_000  # characters; a longer block is shown plain


@lru_cache(maxsize=64)
def _lexer(language: str) -> Lexer | None:
    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


@lru_cache(maxsize=256)
def _style(token: _TokenType | None) -> str:
    while token is not None:
        if token in STYLES:
            return STYLES[token]
        token = token.parent
    return ""


@lru_cache(maxsize=256)
def highlight(code: str, language: str) -> Content:
    """`code` with a style a token; plain when the language is unknown."""
    lexer = _lexer(language.lower()) if language and len(code) <= _LONGEST else None
    if lexer is None:
        return Content(code)
    spans: list[Span] = []
    parts: list[str] = []
    position = 0
    for token, text in lexer.get_tokens(code):
        style = _style(token)
        if style and not text.isspace():
            spans.append(Span(position, position + len(text), style))
        parts.append(text)
        position += len(text)
    return Content("".join(parts), spans)
