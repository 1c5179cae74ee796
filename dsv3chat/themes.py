"""The program's own colours, dark and light. Knows no widget.

On a terminal of 16 colours Textual's ANSI themes take their place, which use the terminal's own palette.
"""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="dark",
    dark=True,
    primary="#7fb0d8",
    secondary="#8fa7bf",
    accent="#d8b27a",
    success="#93bf85",
    warning="#dcae6b",
    error="#e08585",
    foreground="#d8dbe0",
    background="#15171b",
    surface="#1c1f25",
    panel="#252a32",
    variables={"block-cursor-foreground": "#15171b", "input-selection-background": "#7fb0d8 35%"},
)
LIGHT = Theme(
    name="light",
    dark=False,
    primary="#2b6592",
    secondary="#4f6377",
    accent="#8a5a12",
    success="#3b6f2e",
    warning="#8a5a12",
    error="#a83232",
    foreground="#26292e",
    background="#fbfaf7",
    surface="#f1efe9",
    panel="#e6e3db",
    variables={"input-selection-background": "#2b6592 25%"},
)
THEMES = (DARK, LIGHT)
_SIXTEEN = {"dark": "ansi-dark", "light": "ansi-light"}


def theme_for(name: str, num_colours_is_small: bool) -> str:
    """The theme to use for a setting: `dark`, `light`, or a theme of Textual's by its name."""
    return _SIXTEEN.get(name, name) if num_colours_is_small else name
