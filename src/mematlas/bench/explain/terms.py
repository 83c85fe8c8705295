"""Look-up, comparison and formatting of figures for explanations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.bench.difference import MARGIN, Difference, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.bench.model import Figure, Label, Section

EQUALLY = f"within {100 * (MARGIN - 1):.0f} %"
"""The margin of a proven equality, for a sentence."""
LINE = 64  # bytes of a cache line, where a result does not have it as a fact


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was found and what to do, as sentences without a full stop.

    `advice` is empty where nothing follows. `sure` is False for noisy figures: the direction is proven,
    and the number may differ in another run. `decided` is False where the samples prove nothing; such an
    explanation has no advice.
    """

    text: str
    advice: str = ""
    sure: bool = True
    decided: bool = True


def cannot_tell(question: str, measured: str, found: Difference) -> Explanation:
    """Return the explanation of figures that are too noisy to answer a question ("whether ...").

    measured: the figures in words; "" where there are too many.
    """
    if not found.is_known:
        why = "but too few undisturbed passes were made"
    elif found.drift:
        begin, end = map(_bound, found.drift)
        why = f"but the machine drifted: the factor went from {begin} to {end} meanwhile"
    elif found.outcome is Outcome.WORSE:  # a direction that the work cannot have
        why = "which the work does not explain, so that one of the figures was disturbed"
    else:
        why = f"but the samples allow any factor from {_bound(found.low)} to {_bound(found.high)}"
    said = f"{measured}, {why}" if measured else why.removeprefix("but ")
    text = f"Cannot tell on this noisy machine {question}: {said}"
    return Explanation(text, sure=False, decided=False)


def _bound(value: float) -> str:
    return f"{value:.3g}" if value < 99.5 else f"{value:.0f}"


def times(found: Difference) -> str:
    """Format a factor that is proven to exceed 1: "2.7x", with its lower bound if that is less.

    Of a factor that may be less than half as large, the bound alone.
    """
    factor = _factor(found.factor, round)
    if found.low >= 0.95 * found.factor:
        return factor
    least = _factor(found.low, math.floor)  # a bound that is rounded up is not proven
    proven = f"at least {least}" if least != "1.00x" else "more than 1x"
    return f"{factor} ({proven})" if found.low >= found.factor / 2 else proven


def _factor(value: float, whole: Callable[[float], int]) -> str:
    if value >= 10:
        return f"{whole(value):,}x"
    digits = 1 if value >= MARGIN else 2
    return f"{whole(value * 10**digits) / 10**digits:.{digits}f}x"


def find(figures: Iterable[Figure], **labels: Label) -> Figure | None:
    """Return the first figure with these labels; None if there is none."""
    wanted = labels.items()
    return next((each for each in figures if wanted <= each.labels.items()), None)


def values(section: Section, label: str) -> list[Label]:
    """Return the distinct values of a label, in order of appearance."""
    return list(
        dict.fromkeys(each.labels[label] for each in section.figures if label in each.labels)
    )


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
