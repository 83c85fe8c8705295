"""Explanations of bandwidth, latency and tlb: what the levels of the memory hierarchy cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.bench.explain.cache_levels import Level, find_levels
from mematlas.bench.explain.terms import (
    CLEAR,
    Explanation,
    differ,
    find,
    nanoseconds,
    page_title,
    sure,
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
    text = (
        f"Copying large arrays moves {usual.median:.3g} GB/s with ordinary stores and "
        f"{bypass.median:.3g} GB/s with non-temporal stores ({threads} thread)"
    )
    if bypass.median < CLEAR * usual.median or not differ(usual, bypass):
        return Explanation(
            f"{text}: no clear difference",
            "leave the choice of stores to the compiler",
            sure(usual, bypass),
        )
    return Explanation(
        f"{text}. Ordinary stores first fetch every line that they overwrite",
        "use non-temporal stores for results that exceed the last-level cache and are not read soon "
        "(mematlas.bench.stream_copy; memcpy of large blocks uses them)",
        sure(usual, bypass),
    )


def _threads(section: Section) -> Explanation | None:
    """Compare one thread with the best number of threads."""
    reads = [each for each in section.figures if each.labels["what"] == "read"]
    if len(reads) < 2:
        return None
    one, best = reads[0], max(reads, key=lambda each: each.median)
    ratio = best.median / one.median
    if ratio < CLEAR or not differ(one, best):
        return Explanation(
            f"One thread reads {one.median:.3g} GB/s, and more threads do not read faster",
            "do not add threads to work that only streams memory",
            sure(one, best),
        )
    return Explanation(
        f"One thread reads {one.median:.3g} GB/s, {best.labels['threads']} threads {best.median:.3g}: "
        f"{ratio:.1f}x",
        f"use up to {best.labels['threads']} threads where memory is streamed",
        sure(one, best),
    )


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
    costs = [each for each in section.figures if each.labels["what"] == "latency"]
    if not costs:
        return []
    near = min(costs, key=lambda each: int(each.labels["working set"]))
    far = max(costs, key=lambda each: (int(each.labels["working set"]), -each.median))
    found = levels(section)
    caches = [each for each in found if each.least < int(far.labels["working set"])]
    steps = "; ".join(f"up to {format_bytes(each.least)} {nanoseconds(each.ns)}" for each in caches)
    text = (
        f"A dependent load costs {nanoseconds(near.median)} from the first cache and "
        f"{nanoseconds(far.median)} from {format_bytes(int(far.labels['working set']))} of memory, "
        f"{far.median / near.median:.0f}x"
    )
    return [
        Explanation(
            text
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


def _best_pages(section: Section, what: str, places: int) -> Figure | None:
    others = [
        each
        for each in section.figures
        if each.labels["what"] == what
        and each.labels["places"] == places
        and each.labels["pages"] != "4K"
    ]
    return min(others, key=lambda each: each.median, default=None)


def _huge_walk(section: Section) -> Explanation | None:
    places = _largest(section)
    small = find(section.figures, what="random", pages="4K", places=places)
    best = _best_pages(section, "random", places)
    if small is None or best is None:
        return None
    return _compare_pages(small, best, "Following pointers at random", places * _PAGE)


def _huge_gather(section: Section) -> Explanation | None:
    small = next((each for each in section.figures if each.labels["what"] == "gather"), None)
    if small is None:
        return None
    places = int(small.labels["places"])
    small = find(section.figures, what="gather", pages="4K", places=places)
    best = _best_pages(section, "gather", places)
    if small is None or best is None:
        return None
    return _compare_pages(small, best, "An independent random read", places * _PAGE)


def _compare_pages(small: Figure, best: Figure, what: str, span: int) -> Explanation:
    ratio = small.median / best.median
    kind = str(best.labels["pages"])
    costs = (
        f"{what} in {format_bytes(span)} costs {nanoseconds(small.median)} with 4 KiB pages and "
        f"{nanoseconds(best.median)} with {page_title(kind)}"
    )
    if ratio < CLEAR or not differ(small, best):
        return Explanation(
            f"{costs}: no clear difference", "page size does not matter for this", sure(small, best)
        )
    advice = '`mematlas exec --huge thp -- PROGRAM`, or mematlas.memory.Region(size, huge="thp")'
    if kind in ("2M", "1G"):
        advice = f'mematlas.memory.Region(size, huge="{kind}"); `mematlas tune` reserves such pages'
    return Explanation(
        f"{costs}: {ratio:.1f}x as much, due to page walks", f"use huge pages: {advice}",
        sure(small, best),
    )  # fmt: skip


def _reach(section: Section) -> Explanation | None:
    """Find the working set from which 4 KiB pages cost clearly more than the largest pages."""
    last = None
    for places in sorted(
        {int(each.labels["places"]) for each in section.figures if each.labels["what"] == "random"}
    ):
        small = find(section.figures, what="random", pages="4K", places=places)
        best = _best_pages(section, "random", places)
        if small is None or best is None:
            continue
        if small.median > 1.5 * best.median and differ(small, best):
            if last is None:
                return None
            return Explanation(
                f"4 KiB pages cost little for up to {format_bytes(last * _PAGE)} of memory; from "
                f"{format_bytes(places * _PAGE)}, a load from another page costs "
                f"{nanoseconds(small.median - best.median)} more than with huge pages",
                "use huge pages for larger data with random access",
                sure(small, best),
            )
        last = places
    return None


def _mappings(section: Section) -> Explanation | None:
    laid_out = [each for each in section.figures if each.labels["what"] == "mappings"]
    if len(laid_out) < 2:
        return None
    near, far = laid_out[0], laid_out[-1]
    ratio = far.median / near.median
    layout = str(far.labels["layout"])
    tables = section.facts.get(f"{layout}: page tables")
    if tables is None or ratio < CLEAR or not differ(near, far):
        return None
    return Explanation(
        f"{int(far.labels['places']):,} pages, {layout}, cost {ratio:.1f}x per access of the same pages "
        f"in one mapping, and {format_bytes(tables)} of page tables",
        "keep small buffers together in one region or a pool, instead of a mapping each",
        sure(near, far),
    )


EXPLAIN: dict[str, Callable[[Section], list[Explanation | None]]] = {
    "bandwidth": _explain_bandwidth,
    "latency": _explain_latency,
    "tlb": _explain_tlb,
}
