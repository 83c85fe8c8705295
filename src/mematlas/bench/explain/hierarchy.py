"""Explanations of bandwidth, latency and tlb: what the levels of the memory hierarchy cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.bench.difference import Outcome, best_of, gain
from mematlas.bench.explain.cache_levels import Level, find_levels
from mematlas.bench.explain.terms import (
    EQUALLY,
    Explanation,
    cannot_tell,
    find,
    nanoseconds,
    page_title,
    sure,
    times,
    values,
)
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.bench.model import Figure, Section

_ABOUT = 1.5  # caches hold other data too, and their sets fill unevenly
_PAGE = 4096  # bytes from one place of the tlb benchmark to the next


# ---- bandwidth


def _explain_bandwidth(section: Section) -> list[Explanation | None]:
    return [_stores(section), _threads(section)]


def _stores(section: Section) -> Explanation | None:
    """Compare ordinary with non-temporal stores."""
    usual = find(section.figures, what="copy", stores="ordinary", bytes="useful")
    bypass = find(section.figures, what="copy", stores="non-temporal")
    if usual is None or bypass is None:
        return None
    threads = usual.labels["threads"]
    costs = (
        f"{usual.median:.3g} GB/s with ordinary stores and {bypass.median:.3g} GB/s with "
        f"non-temporal stores ({threads} thread)"
    )
    found = gain(usual, bypass)
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"Copying large arrays moves {costs}: {times(found)}. Ordinary stores first fetch every "
            "line that they overwrite",
            "use non-temporal stores for results that exceed the last-level cache and are not read soon "
            "(mematlas.bench.stream_copy; memcpy of large blocks uses them)",
            sure(usual, bypass),
        )
    if found.outcome is Outcome.EQUAL:
        return Explanation(f"Copying large arrays moves {costs}: equal, {EQUALLY}")
    if found.outcome is Outcome.WORSE:
        return Explanation(
            f"Copying large arrays moves {costs}: ordinary stores are {times(found.reversed())} as fast",
            "leave the choice of stores to the compiler",
            sure(usual, bypass),
        )
    return cannot_tell("whether non-temporal stores are faster", f"a copy moves {costs}", found)


def _threads(section: Section) -> Explanation | None:
    """Compare one thread with the best number of threads."""
    reads = [each for each in section.figures if each.labels["what"] == "read"]
    one = find(reads, threads=1)
    others = [each for each in reads if each is not one]
    if one is None or not others:
        return None
    best, found = best_of(one, others)
    costs = f"One thread reads {one.median:.3g} GB/s, {best.labels['threads']} threads {best.median:.3g}"
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"{costs}: {times(found)}",
            f"use up to {best.labels['threads']} threads where memory is streamed",
            sure(one, best),
        )
    if found.is_no_better:
        return Explanation(
            f"{costs}: no number of threads measured reads more than one thread, {EQUALLY}",
            "do not add threads to work that only streams memory",
            sure(one, *others),
        )
    return cannot_tell("whether more threads read faster", f"{costs[0].lower()}{costs[1:]}", found)


# ---- latency


def levels(section: Section) -> list[Level]:
    """Find the caches in the latency curve of the largest pages; the last level is main memory.

    The best passes are used: disturbances only add to a latency, and would look like steps.
    """
    kinds = values(section, "pages")
    kind = next((each for each in ("1G", "2M", "thp") if each in kinds), kinds[0] if kinds else "")
    return find_levels(
        [
            (int(each.labels["working set"]), each.best)
            for each in section.figures
            if each.labels["pages"] == kind
        ]
    )


def _explain_latency(section: Section) -> list[Explanation | None]:
    loads = [each for each in section.figures if each.labels["what"] == "latency"]
    if not loads:
        return []
    near = min(loads, key=lambda each: int(each.labels["working set"]))
    far = max(loads, key=lambda each: (int(each.labels["working set"]), -each.median))
    caches = [each for each in levels(section) if each.least < int(far.labels["working set"])]
    steps = "; ".join(f"up to {format_bytes(each.least)} {nanoseconds(each.ns)}" for each in caches)
    costs = (
        f"{nanoseconds(near.median)} from the first cache and {nanoseconds(far.median)} from "
        f"{format_bytes(int(far.labels['working set']))} of memory"
    )
    if near is far:
        return []
    found = gain(far, near)
    if found.outcome is not Outcome.BETTER:
        return [cannot_tell("what memory costs beside the caches", costs, found)]
    return [
        Explanation(
            f"A dependent load costs {costs}, {times(found)}"
            + (f". Steps of the best passes: {steps}" if steps else "")
            + _compare_with_kernel(section, caches),
            "keep data that is used together in few cache lines, and working sets below a step",
            sure(near, far),
        )
    ]


def _compare_with_kernel(section: Section, found: list[Level]) -> str:
    """Compare the caches that were found with those that the kernel lists."""
    listed = {
        name.removesuffix(" cache"): int(size)
        for name, size in section.facts.items()
        if name.endswith(" cache")
    }
    if not listed:
        return ""
    sizes = ", ".join(f"{name} {format_bytes(size)}" for name, size in listed.items())
    missing = [
        name for name, size in listed.items() if not any(_ends_at(each, size) for each in found)
    ]
    verdict = f"; no step shows at {', '.join(missing)}" if missing else ", which agrees"
    return f". The kernel lists {sizes}{verdict}"


def _ends_at(level: Level, size: int) -> bool:
    """Return whether a plateau ends near the size of a cache."""
    return level.most is not None and level.least <= _ABOUT * size and size <= _ABOUT * level.most


# ---- tlb


def _explain_tlb(section: Section) -> list[Explanation | None]:
    return [_huge_walk(section), _reach(section), _huge_gather(section), _mappings(section)]


def _largest(section: Section) -> int:
    walked = [
        int(each.labels["places"]) for each in section.figures if each.labels["what"] == "random"
    ]
    return max(walked, default=0)


def _in_pages(section: Section, what: str, places: int) -> tuple[Figure | None, list[Figure]]:
    """Return the figure with 4 KiB pages, and those with larger ones."""
    figures = [
        each
        for each in section.figures
        if each.labels["what"] == what and each.labels["places"] == places
    ]
    return find(figures, pages="4K"), [each for each in figures if each.labels["pages"] != "4K"]


def _huge_walk(section: Section) -> Explanation | None:
    return _compare_pages(section, "random", _largest(section), "Following pointers at random")


def _huge_gather(section: Section) -> Explanation | None:
    first = next((each for each in section.figures if each.labels["what"] == "gather"), None)
    if first is None:
        return None
    return _compare_pages(
        section, "gather", int(first.labels["places"]), "An independent random read"
    )


def _compare_pages(section: Section, what: str, places: int, title: str) -> Explanation | None:
    small, others = _in_pages(section, what, places)
    if small is None or not others:
        return None
    best, found = best_of(small, others)
    kind = str(best.labels["pages"])
    work = f"{title} in {format_bytes(places * _PAGE)}"
    costs = (
        f"{nanoseconds(small.median)} with 4 KiB pages and {nanoseconds(best.median)} with "
        f"{page_title(kind)}"
    )
    if found.outcome is Outcome.BETTER:
        advice = (
            '`mematlas exec --huge thp -- PROGRAM`, or mematlas.memory.Region(size, huge="thp")'
        )
        if kind in ("2M", "1G"):
            advice = (
                f'mematlas.memory.Region(size, huge="{kind}"); `mematlas tune` reserves such pages'
            )
        elif kind != "thp":
            advice = f'mematlas.memory.Region(size, huge="{kind}")'
        return Explanation(
            f"{work} costs {costs}: {times(found)} as much, due to page walks",
            f"use huge pages: {advice}",
            sure(small, best),
        )
    if found.is_no_better:
        return Explanation(
            f"{work} costs {costs}: no page size measured is faster than 4 KiB, {EQUALLY}",
            "leave page sizes alone for this",
            sure(small, *others),
        )
    return cannot_tell(
        f"whether larger pages help {title[0].lower()}{title[1:]} in {format_bytes(places * _PAGE)}",
        costs,
        found,
    )


def _reach(section: Section) -> Explanation | None:
    """Find the working set from which 4 KiB pages cost clearly more than the largest pages."""
    fits, may_extend = None, True
    for places in sorted(
        {int(each.labels["places"]) for each in section.figures if each.labels["what"] == "random"}
    ):
        small, others = _in_pages(section, "random", places)
        if small is None or not others:
            continue
        best, found = best_of(small, others)
        if found.outcome is Outcome.BETTER and found.factor > _ABOUT:
            before = (
                f"4 KiB pages cost at most {_ABOUT:.1f}x of larger ones for up to "
                f"{format_bytes(fits * _PAGE)} of memory; from"
                if fits
                else "From"
            )
            return Explanation(
                f"{before} {format_bytes(places * _PAGE)}, a load from another 4 KiB page costs "
                f"{nanoseconds(small.median - best.median)} more than with larger pages",
                "use huge pages for larger data with random access",
                sure(small, best),
            )
        if not all(gain(small, each).high <= _ABOUT for each in others):
            may_extend = False
        elif may_extend:
            fits = places
    return None


def _mappings(section: Section) -> Explanation | None:
    laid_out = [each for each in section.figures if each.labels["what"] == "mappings"]
    near = find(laid_out, layout="one mapping")
    others = [each for each in laid_out if each is not near]
    if near is None or not others:
        return None
    far = others[-1]  # the most page tables
    layout = str(far.labels["layout"])
    tables = section.facts.get(f"{layout}: page tables")
    found = gain(far, near)
    pages = f"{int(far.labels['places']):,} pages, {layout},"
    if found.outcome is Outcome.BETTER:
        cost = "" if tables is None else f", and {format_bytes(tables)} of page tables"
        return Explanation(
            f"{pages} cost {times(found)} per access of the same pages in one mapping{cost}",
            "keep small buffers together in one region or a pool, instead of a mapping each",
            sure(near, far),
        )
    if found.outcome is Outcome.EQUAL:
        return Explanation(f"{pages} cost the same per access as in one mapping, {EQUALLY}")
    costs = f"{nanoseconds(near.median)} in one mapping, {nanoseconds(far.median)} in many"
    return cannot_tell("whether an access costs more in many small mappings", costs, found)


EXPLAIN: dict[str, Callable[[Section], list[Explanation | None]]] = {
    "bandwidth": _explain_bandwidth,
    "latency": _explain_latency,
    "tlb": _explain_tlb,
}
