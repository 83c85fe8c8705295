"""How benchmark figures are looked up, compared and put in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.bench.model import Figure, Label, Section

CLEAR = 1.1
"""Below this ratio nothing is said to differ."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`text` says what was found, `advice` what to do. Not sure: the figures behind it are noisy."""

    text: str
    advice: str
    sure: bool = True


def find(figures: Iterable[Figure], **labels: Label) -> Figure | None:
    """Find the figure with these labels."""
    wanted = labels.items()
    return next((each for each in figures if wanted <= each.labels.items()), None)


def values(section: Section, label: str) -> list[Label]:
    """List what a label takes, in order of appearance."""
    return list(
        dict.fromkeys(each.labels[label] for each in section.figures if label in each.labels)
    )


def differ(one: Figure, other: Figure) -> bool:
    """Tell whether the medians' confidence intervals are apart."""
    (low, high), (other_low, other_high) = one.interval, other.interval
    return high < other_low or other_high < low


def page_title(kind: str) -> str:
    """Name pages as people do."""
    titles = {
        "4K": "4 KiB pages",
        "4K shared": "shared 4 KiB pages",
        "thp": "transparent huge pages",
        "2M": "2 MiB hugetlb pages",
        "1G": "1 GiB hugetlb pages",
    }
    return titles.get(kind, f"{kind.removesuffix('K')} KiB folios" if kind.endswith("K") else kind)


def nanoseconds(value: float) -> str:
    """Write a time that is given in ns, to three digits."""
    if value < 999.5:
        return f"{value:.3g} ns"
    return f"{value / 1e3:.3g} us" if value < 999.5e3 else f"{value / 1e6:.3g} ms"


def sure(*figures: Figure) -> bool:
    """Tell whether no figure is noisy."""
    return not any(each.noisy for each in figures)
