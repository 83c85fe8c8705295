"""A topic: the model of `mematlas system`."""

from __future__ import annotations

from dataclasses import dataclass

Cell = float | str | None


@dataclass(frozen=True, slots=True)
class TopicFigure:
    """One counter or size with its unit and meaning. None: the kernel does not report it."""

    name: str
    value: float | str | None
    unit: str  # "bytes", "pages", "events", "percent", "/s", "" for text
    meaning: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. `units` has one unit per column; "" is text."""

    columns: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class TopicSection:
    """A title with figures or a table below it.

    `bar`: the rows of the table are parts of a whole; kind (of present.drawing) and size of each.
    """

    title: str
    figures: tuple[TopicFigure, ...] = ()
    grid: Grid | None = None
    bar: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Topic:
    """The answer in sentences, the sections with figures, and notes on what could not be read."""

    name: str
    answer: tuple[str, ...]
    sections: tuple[TopicSection, ...]
    notes: tuple[str, ...]
