"""Safe text: one line, no control characters, limited length."""

from __future__ import annotations

import unicodedata

LONGEST = 8000
"""Letters of a name in a file or pipe, where nothing else is cut."""
NAME = 80
"""Letters of a name within a sentence on a screen."""
_BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def clean(text: str) -> str:
    """Escape control, direction and lone surrogate characters."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in _BIDI:
        return f"\\u{ord(character):04x}"
    category = unicodedata.category(character)
    if category == "Cs":
        return f"\\x{ord(character) & 0xFF:02x}"
    if category in {"Cc", "Zl", "Zp"}:
        return character.encode("unicode_escape").decode()
    return character


def shorten(text: str, width: int) -> str:
    """Cut the middle out of text longer than `width`: both ends tell names apart."""
    if len(text) <= width:
        return text
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"
