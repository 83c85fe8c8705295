"""The table of the heaviest tests, at the end of a pytest run."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mematlas.pytest.limits import unseen_bytes
from mematlas.units import format_bytes, format_estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.pytest.session import TestFigures

_HEADS = ("peak", "allocated", "kept")


@dataclass(slots=True)
class Results:
    """The tests that were measured, by node ID; `lines` are those that held most at the peak of a test."""

    figures: dict[str, TestFigures] = field(default_factory=dict)
    lines: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)  # of recordings that are kept
    unmeasured: dict[str, str] = field(default_factory=dict)  # why

    def heaviest(self, most: int) -> list[str]:
        """Return the tests with the highest peaks, highest first; `most` 0: all."""
        ranked = sorted(self.figures, key=lambda test: -self.figures[test].peak_bytes)
        return ranked[:most] if most else ranked


def title(results: Results) -> str:
    """Return the headline: how many tests, and all that they allocated."""
    figures = results.figures.values()
    total = sum(each.allocated_bytes for each in figures)
    error = round(math.sqrt(sum(each.allocated_error_bytes**2 for each in figures)))
    unit = "test" if len(figures) == 1 else "tests"
    return f"mematlas: {len(figures)} {unit}, {format_estimate(total, error)} allocated"


def table(results: Results, most: int) -> Iterator[str]:
    """Yield the lines of the table, and what is to be known about its figures."""
    shown = results.heaviest(most)
    rows = [_cells(results.figures[test]) for test in shown]
    widths = [max(len(row[at]) for row in [_HEADS, *rows]) for at in range(len(_HEADS))]
    if shown:
        yield "  ".join([*(head.rjust(w) for head, w in zip(_HEADS, widths, strict=True)), "test"])
    for test, row in zip(shown, rows, strict=True):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join([*cells, test])
        for size, where in results.lines.get(test, []):
            yield " " * (sum(widths) + 2 * len(widths)) + f"  {format_bytes(size)} in {where}"
    if len(results.figures) > len(shown):
        yield f"{len(results.figures) - len(shown)} tests with lower peaks not shown (--mematlas-top)"
    yield from _notes(results)


def _cells(figures: TestFigures) -> tuple[str, ...]:
    pairs = (
        (figures.peak_bytes, figures.peak_error_bytes),
        (figures.allocated_bytes, figures.allocated_error_bytes),
        (figures.live_bytes, figures.live_error_bytes),
    )
    unseen = unseen_bytes(figures.sample_bytes)
    return tuple(
        f"< {format_bytes(unseen)}" if not size and unseen else format_estimate(size, error)
        for size, error in pairs
    )


def _notes(results: Results) -> Iterator[str]:
    sampled = {each.sample_bytes for each in results.figures.values()} - {0}
    if sampled:
        yield (
            f"sampled, one in {format_bytes(min(sampled))}; ± one standard error; --mematlas-exact records "
            "every allocation"
        )
    for why, count in Counter(results.unmeasured.values()).items():
        yield f"{count} {'test' if count == 1 else 'tests'} not measured: {why}"
