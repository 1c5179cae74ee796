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
    variables={
        "text-muted": "#8b919b",
        "input-selection-background": "#7fb0d8 35%",
        "scrollbar": "#333943",
        "scrollbar-hover": "#454d59",
        "scrollbar-active": "#7fb0d8",
        "scrollbar-background": "#15171b",
        "scrollbar-background-hover": "#15171b",
        "scrollbar-background-active": "#15171b",
        "scrollbar-corner-color": "#15171b",
    },
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
    variables={
        "text-muted": "#6b6f76",
        "input-selection-background": "#2b6592 25%",
        "scrollbar": "#d3cfc5",
        "scrollbar-hover": "#b9b4a8",
        "scrollbar-active": "#2b6592",
        "scrollbar-background": "#fbfaf7",
        "scrollbar-background-hover": "#fbfaf7",
        "scrollbar-background-active": "#fbfaf7",
        "scrollbar-corner-color": "#fbfaf7",
    },
)
THEMES = (DARK, LIGHT)
_SIXTEEN = {"dark": "ansi-dark", "light": "ansi-light"}


def theme_for(name: str, num_colours_is_small: bool) -> str:
    """The theme to use for a setting: `dark`, `light`, or a theme of Textual's by its name."""
    return _SIXTEEN.get(name, name) if num_colours_is_small else name
