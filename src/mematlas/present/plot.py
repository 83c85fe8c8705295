"""Line charts for the terminal, in braille dots or ASCII letters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.present import drawing

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

_STYLES = ("cyan", "yellow", "magenta", "green", "red", "blue", "white")
_MARKS = "o+x*#%@"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart; `text` formats values, `marks` are labelled values."""

    text: Callable[[float], str]
    log: bool
    marks: tuple[tuple[float, str], ...] = ()

    def position(self, value: float) -> float:
        """Return the position of a value on the axis."""
        return math.log(max(value, 1e-12)) if self.log else value


def draw(
    lines: dict[str, list[Point]], x: Axis, y: Axis, console: Console, height: int = 11
) -> Text:
    """Draw lines through points, with axes and legend."""
    points = [point for line in lines.values() for point in line]
    labels = [y.text(value) for value in (min(p[1] for p in points), max(p[1] for p in points))]
    gutter = max(map(len, labels)) + 1
    width = max(20, min(console.width, 100) - gutter - 2)
    canvas = _Canvas(width, height, points, x, y, ascii_only=drawing.plain(console))
    for number, line in enumerate(lines.values()):
        canvas.line(sorted(line), number)
    text = Text()
    for row, cells in enumerate(canvas.rows()):
        label = labels[1] if row == 0 else labels[0] if row == height - 1 else ""
        text.append(f"{label:>{gutter - 1}} ", "dim").append(
            "|" if drawing.plain(console) else "│", "dim"
        )
        text.append_text(cells).append("\n")
    text.append(" " * gutter + ("+" if drawing.plain(console) else "└"), "dim")
    text.append(_ruler(canvas, x, width, drawing.plain(console)), "dim").append("\n")
    text.append(" " * (gutter + 1) + _scale(points, x, width), "dim").append("\n")
    return text.append_text(_legend(lines, gutter + 1, ascii_only=drawing.plain(console)))


class _Canvas:
    def __init__(
        self, width: int, height: int, points: list[Point], x: Axis, y: Axis, *, ascii_only: bool
    ) -> None:
        self.width, self.height, self._ascii = width, height, ascii_only
        self._x, self._y = x, y
        self._across = 1 if ascii_only else 2
        self._down = 1 if ascii_only else 4
        self._xs = [x.position(px) for px, _ in points]
        self._ys = [y.position(py) for _, py in points]
        self._cells: dict[tuple[int, int], tuple[int, int]] = {}  # dots, line

    def column(self, value: float) -> int:
        """Return the dot column of a value."""
        low, high = min(self._xs), max(self._xs)
        share = (self._x.position(value) - low) / (high - low) if high > low else 0.5
        return round(share * (self.width * self._across - 1))

    def _row(self, value: float) -> int:
        low, high = min(self._ys), max(self._ys)
        share = (self._y.position(value) - low) / (high - low) if high > low else 0.5
        return round((1 - share) * (self.height * self._down - 1))

    def line(self, points: list[Point], number: int) -> None:
        """Draw one line; a single point is a dot."""
        dots = [(self.column(x), self._row(y)) for x, y in points]
        for (x0, y0), (x1, y1) in zip(dots, dots[1:] or dots, strict=False):
            steps = max(abs(x1 - x0), abs(y1 - y0), 1)
            for step in range(steps + 1):
                self._dot(x0 + (x1 - x0) * step / steps, y0 + (y1 - y0) * step / steps, number)

    def _dot(self, x: float, y: float, number: int) -> None:
        column, row = round(x), round(y)
        cell = (row // self._down, column // self._across)
        before = self._cells.get(cell, (0, number))[0]
        bit = 0 if self._ascii else _DOTS[row % 4][column % 2]
        self._cells[cell] = (before | bit, number)

    def rows(self) -> list[Text]:
        """Return the canvas, top row first."""
        found = []
        for row in range(self.height):
            text = Text()
            for column in range(self.width):
                dots, number = self._cells.get((row, column), (0, -1))
                if number < 0:
                    text.append(" ")
                elif self._ascii:
                    text.append(_MARKS[number % len(_MARKS)])
                else:
                    text.append(chr(0x2800 + dots), _STYLES[number % len(_STYLES)])
            found.append(text)
        return found

    def cell(self, value: float) -> int:
        """Return the character column of a value."""
        return self.column(value) // self._across


def _ruler(canvas: _Canvas, x: Axis, width: int, ascii_only: bool) -> str:
    """Draw the x axis with its marks."""
    line = list(("-" if ascii_only else "─") * width)
    for value, name in x.marks:
        at = canvas.cell(value)
        label = ("^" if ascii_only else "▲") + name
        if 0 <= at < width - len(label):
            line[at : at + len(label)] = label
    return "".join(line)


def _scale(points: list[Point], x: Axis, width: int) -> str:
    """Label the x axis at its minimum, maximum and values between."""
    known = sorted({px for px, _ in points})
    low, high = x.position(known[0]), x.position(known[-1])
    line = [" "] * width
    for value in (known[0], known[-1], *known[1:-1]):
        text = x.text(value)
        at = round((x.position(value) - low) / (high - low or 1) * (width - 1)) - len(text) // 2
        at = min(max(0, at), width - len(text))
        around = line[max(0, at - 2) : at + len(text) + 2]
        if all(cell == " " for cell in around):
            line[at : at + len(text)] = text
    return "".join(line).rstrip()


def _legend(lines: dict[str, list[Point]], indent: int, *, ascii_only: bool) -> Text:
    text = Text(" " * indent)
    for number, name in enumerate(lines):
        mark = _MARKS[number % len(_MARKS)] if ascii_only else "━━"
        text.append(mark, "" if ascii_only else _STYLES[number % len(_STYLES)])
        text.append(f" {name}   ")
    return text
