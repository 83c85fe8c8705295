"""Bars, sparklines and hanging paragraphs, in Unicode or ASCII."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present.printable import LONGEST, shorten

if TYPE_CHECKING:
    from rich.console import Console

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SPARKS = "▁▂▃▄▅▆▇█"
_NARROWEST = 16  # columns; narrower text is unreadable
_ASCII_SPARKS = "_.:-=+*#"
_AFTER_NUMBER = re.compile(r"(?<=\d) (?=[^\W\d])")
_GLUE = "\ue000"  # of private use: wrap() would break lines at a no-break space

PART_INK: dict[str, tuple[str, str, str]] = {
    # glyph, ASCII glyph, style: distinguishable without colour
    "live": ("█", "#", "cyan"),
    "cow": ("▓", "w", "green"),
    "slack": ("▒", "%", "magenta"),
    "before": ("▧", "b", "magenta"),
    "stack": ("▚", "s", "blue"),
    "file": ("░", ".", "bright_black"),
    "copy": ("▤", "c", "bright_black"),
    "shared": ("▞", "+", "green"),
    "anon": ("▄", "a", "yellow"),
    "tracer": ("▪", "t", "bright_black"),
    "unexplained": ("?", "?", "red"),
}


def plain(console: Console) -> bool:
    """Return whether the console is limited to ASCII."""
    return console.options.ascii_only


def wraps(console: Console) -> bool:
    """Return whether text is fitted to the console: never in a file or pipe, which is searched and cut by others."""
    return console.is_terminal


def is_wide(console: Console, columns: int) -> bool:
    """Return whether the console has room for so many columns; files and pipes always have."""
    return not wraps(console) or console.width >= columns


def limited(text: str, width: int, console: Console) -> str:
    """Cut the middle out of a long name; in a file or pipe only out of an absurd one."""
    return shorten(text, name_width(width, console))


def name_width(width: int, console: Console) -> int:
    """Return how long a name may be that has `width` columns on a screen."""
    return width if wraps(console) else LONGEST


def in_ascii(text: Text) -> Text:
    """Replace non-ASCII characters. Styles are dropped: ASCII consoles have no colours."""
    replaced = text.plain.translate({0xA0: " ", 0xB7: "-", 0xB1: "+-", 0x2190: "<-", 0x2026: "..."})
    return Text(replaced.encode("ascii", "backslashreplace").decode())


def bar(share: float, width: int, console: Console) -> str:
    """Draw a bar of `width` columns, filled to `share` (0 to 1)."""
    if plain(console):
        return ("#" * round(min(1.0, max(0.0, share)) * width)).ljust(width)
    return blocks(share, width)


def blocks(share: float, width: int) -> str:
    """Draw a bar in eighths of a column; a share above 0 has one at least."""
    share = min(1.0, max(0.0, share))
    full, rest = divmod(max(round(share * width * 8), share > 0), 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def columns_of(sizes: list[int], width: int) -> list[int]:
    """Divide `width` columns in proportion to sizes; each nonzero size gets at least one."""
    total = sum(sizes)
    if total <= 0:
        return [0] * len(sizes)
    exact = [size * width / total for size in sizes]
    columns = [max(1, int(value)) if size else 0 for value, size in zip(exact, sizes, strict=True)]
    while sum(columns) > width:
        wide = [index for index, column in enumerate(columns) if column > 1]
        columns[max(wide, key=lambda index: columns[index] - exact[index])] -= 1
    while sum(columns) < width:
        columns[max(range(len(columns)), key=lambda i: exact[i] - columns[i])] += 1
    return columns


def stacked_bar(parts: list[tuple[str, int]], width: int, console: Console) -> Text:
    """Draw one bar divided into all parts."""
    text = Text()
    sizes = columns_of([max(0, size) for _, size in parts], width)
    for (kind, _), columns in zip(parts, sizes, strict=True):
        text.append(part_glyph(kind, console) * columns, PART_INK[kind][2])
    return text


def part_glyph(kind: str, console: Console) -> str:
    """Return the character of a kind of part."""
    return PART_INK[kind][1 if plain(console) else 0]


def part_line(kind: str, name: str, size: str, share: str, console: Console) -> Text:
    """Draw what stands before the words about a part: its character in the bar, name, size and share."""
    line = Text().append(part_glyph(kind, console), PART_INK[kind][2])
    return line.append(f" {name}").append(size, "bold").append(share)


def spark(values: list[float | None], highest: float, console: Console) -> str:
    """Draw values as a sparkline; unknown values are gaps."""
    glyphs = _ASCII_SPARKS if plain(console) else _SPARKS
    return "".join(
        " "
        if value is None or highest <= 0
        else glyphs[min(len(glyphs) - 1, int(max(0.0, value) / highest * len(glyphs)))]
        for value in values
    )


def hanging(first: Text, body: Text, indent: int, console: Console) -> Text:
    """Append `body` to `first`, which is `indent` wide; further lines are indented.

    On narrow consoles `body` starts on a line of its own.
    """
    inline = not wraps(console) or console.width - indent >= _NARROWEST
    indent = indent if inline else min(4, indent)
    result = Text() if inline else first.copy()
    for number, line in enumerate(wrapped(body, max(8, console.width - indent), console)):
        begins = number == 0 and inline
        result.append_text(first if begins else Text("\n" + " " * indent))
        result.append_text(line)
    return result


def wrapped(text: Text, width: int, console: Console) -> list[Text]:
    """Divide text into lines, at its own line ends alone if the console does not wrap.

    A number stays with the unit or noun after it.
    """
    if not wraps(console):
        lines = list(text.split("\n", allow_blank=True))
        for line in lines:
            line.rstrip()
        return lines
    glued = text.copy()
    glued.plain = _AFTER_NUMBER.sub(_GLUE, text.plain)
    lines = list(glued.wrap(console, width, overflow="fold"))
    for line in lines:
        line.plain = line.plain.replace(_GLUE, " ")
        line.rstrip()
    return lines
