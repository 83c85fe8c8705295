"""Topics of `mematlas system`: sentences, figures and tables."""

from __future__ import annotations

from dataclasses import dataclass

Cell = float | str | None


@dataclass(frozen=True, slots=True)
class TopicFigure:
    """One counter or size, with its unit and what it means. None: the kernel does not tell."""

    name: str
    value: float | str | None
    unit: str  # "bytes", "pages", "events", "percent", "/s", "" for text
    meaning: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A small table. Units by column; "" is text."""

    columns: tuple[str, ...]
    units: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class TopicSection:
    """Figures or a grid below a title."""

    title: str
    figures: tuple[TopicFigure, ...] = ()
    grid: Grid | None = None


@dataclass(frozen=True, slots=True)
class Topic:
    """One subcommand's answer: sentences first, figures below."""

    name: str
    answer: tuple[str, ...]
    sections: tuple[TopicSection, ...]
    notes: tuple[str, ...]
