"""Look-up, comparison and formatting of figures for explanations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.bench.model import Figure, Label, Section

CLEAR = 1.1
"""Ratios below this one are called no clear difference."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was found and what to do, as sentences without a full stop. `sure` is False for noisy figures."""

    text: str
    advice: str
    sure: bool = True


def find(figures: Iterable[Figure], **labels: Label) -> Figure | None:
    """Return the first figure with these labels; None if there is none."""
    wanted = labels.items()
    return next((each for each in figures if wanted <= each.labels.items()), None)


def values(section: Section, label: str) -> list[Label]:
    """Return the distinct values of a label, in order of appearance."""
    return list(
        dict.fromkeys(each.labels[label] for each in section.figures if label in each.labels)
    )


def differ(one: Figure, other: Figure) -> bool:
    """Return whether the confidence intervals of two medians are disjoint."""
    (low, high), (other_low, other_high) = one.interval, other.interval
    return high < other_low or other_high < low


def page_title(kind: str) -> str:
    """Return the title of a kind of pages: "4 KiB pages"."""
    titles = {
        "4K": "4 KiB pages",
        "4K shared": "shared 4 KiB pages",
        "thp": "transparent huge pages",
        "2M": "2 MiB hugetlb pages",
        "1G": "1 GiB hugetlb pages",
    }
    return titles.get(kind, f"{kind.removesuffix('K')} KiB folios" if kind.endswith("K") else kind)


def nanoseconds(value: float) -> str:
    """Format nanoseconds with three digits: "1.25 us"."""
    if value < 999.5:
        return f"{value:.3g} ns"
    return f"{value / 1e3:.3g} us" if value < 999.5e3 else f"{value / 1e6:.3g} ms"


def sure(*figures: Figure) -> bool:
    """Return whether no figure is noisy."""
    return not any(each.noisy for each in figures)
