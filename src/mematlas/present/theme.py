"""Colours of the terminal interface, light and dark; the same as in HTML pages."""

from __future__ import annotations

from textual.theme import Theme

DARK = Theme(
    name="mematlas-dark",
    primary="#4fb8ae",
    secondary="#8fa3a0",
    accent="#4fb8ae",
    foreground="#dfe8e6",
    background="#0f1615",
    surface="#151e1d",
    panel="#1d2827",
    success="#7cc4bc",
    warning="#e0a458",
    error="#e5706b",
    dark=True,
    variables={"footer-key-foreground": "#4fb8ae", "border": "#2b3a38"},
)
LIGHT = Theme(
    name="mematlas-light",
    primary="#0b7a75",
    secondary="#5b6a68",
    accent="#0b7a75",
    foreground="#13201f",
    background="#fbfcfc",
    surface="#f4f7f6",
    panel="#e6edeb",
    success="#0b7a75",
    warning="#9a4a00",
    error="#b3261e",
    dark=False,
    variables={"footer-key-foreground": "#0b7a75", "border": "#cfd9d7"},
)

PARTS: dict[str, tuple[str, str, str]] = {
    # part of memory: glyph (distinguishable without colour), dark colour, light colour
    "programs": ("█", "#4fb8ae", "#0b7a75"),
    "shared": ("▞", "#8fa8d8", "#3d5a9a"),
    "kernel": ("▓", "#c795c9", "#7d3f80"),
    "hugetlb": ("▚", "#e0a458", "#9a4a00"),
    "other": ("▒", "#8b9a98", "#66757a"),
    "files": ("░", "#8b9a98", "#8b9a98"),
    "free": ("·", "#4a5a58", "#b4c0be"),
}


def ink(name: str, *, dark: bool) -> str:
    """Return the colour of a part of memory, or of soft, accent, warn, bad."""
    if name in PARTS:
        return PARTS[name][1 if dark else 2]
    theme = DARK if dark else LIGHT
    found = {
        "soft": theme.secondary,
        "accent": theme.accent,
        "warn": theme.warning,
        "bad": theme.error,
    }
    return str(found[name])
