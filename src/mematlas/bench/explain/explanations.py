"""What benchmark figures mean: one line a person understands, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.bench.explain import access
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

    from mematlas.bench.model import Figure, Label, Section

_ABOUT = 1.5  # caches hold other things too, and share their sets unevenly
_PAGE = 4096  # bytes from one place of the tlb benchmark to the next


def explain_section(section: Section) -> list[Explanation]:
    """Explain one benchmark's figures."""
    explain = _EXPLAIN.get(section.name)
    return [] if explain is None else [each for each in explain(section) if each is not None]


# ---- bandwidth


def _explain_bandwidth(section: Section) -> list[Explanation | None]:
    return [_stores(section), _threads(section)]


def _stores(section: Section) -> Explanation | None:
    """Say what stores that leave the caches alone gain."""
    usual = find(section.figures, what="copy", stores="ordinary", bytes="useful")
    bypass = find(section.figures, what="copy", stores="non-temporal")
    if usual is None or bypass is None:
        return None
    threads = usual.labels["threads"]
    text = (
        f"Copying large arrays moves {usual.median:.3g} GB/s with ordinary stores and "
        f"{bypass.median:.3g} GB/s with non-temporal ones ({threads} thread)"
    )
    if bypass.median < CLEAR * usual.median or not differ(usual, bypass):
        return Explanation(
            f"{text}: no clear difference", "leave stores to the compiler", sure(usual, bypass)
        )
    return Explanation(
        f"{text}: ordinary stores first fetch every line they overwrite",
        "for results larger than the last cache and not read again soon, use non-temporal stores "
        "(mematlas.bench.stream_copy; memcpy of large blocks does)",
        sure(usual, bypass),
    )


def _threads(section: Section) -> Explanation | None:
    """Say what more threads gain."""
    reads = [each for each in section.figures if each.labels["what"] == "read"]
    if len(reads) < 2:
        return None
    one, best = reads[0], max(reads, key=lambda each: each.median)
    ratio = best.median / one.median
    if ratio < CLEAR or not differ(one, best):
        return Explanation(
            f"One thread reads {one.median:.3g} GB/s, all that memory gives: more threads add nothing",
            "do not add threads to work that only streams through memory",
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
    """Find the caches in the curve of the largest pages; the last level is memory itself.

    From the best passes: disturbances only ever add to a latency, and would make steps of their own.
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
        f"A load that must wait costs {nanoseconds(near.median)} from the first cache and "
        f"{nanoseconds(far.median)} from {format_bytes(int(far.labels['working set']))} of memory, "
        f"{far.median / near.median:.0f}x"
    )
    return [
        Explanation(
            text
            + (f". Steps found, by the best passes: {steps}" if steps else "")
            + _beside_listed(section, caches),
            "keep what is used together in few cache lines, and working sets below a step",
            sure(near, far),
        )
    ]


def _beside_listed(section: Section, found: list[Level]) -> str:
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
    verdict = f"; no step shows at {', '.join(missing)}" if missing else ", which fits"
    return f". The kernel lists {sizes}{verdict}"


def _ends_at(level: Level, size: int) -> bool:
    """Tell whether a plateau ends about where a cache of this size would be full."""
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
            f"{costs}: no clear difference", "leave page sizes alone for this", sure(small, best)
        )
    advice = '`mematlas exec --huge thp -- PROGRAM`, or mematlas.memory.Region(size, huge="thp")'
    if kind in ("2M", "1G"):
        advice = f'mematlas.memory.Region(size, huge="{kind}"); `mematlas tune` reserves such pages'
    return Explanation(
        f"{costs}: {ratio:.1f}x as much, spent on page walks", f"ask for huge pages: {advice}",
        sure(small, best),
    )  # fmt: skip


def _reach(section: Section) -> Explanation | None:
    """Find where 4 KiB pages begin to cost clearly more than the same places in the largest pages."""
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
                f"Up to {format_bytes(last * _PAGE)} of memory in use 4 KiB pages cost little; from "
                f"{format_bytes(places * _PAGE)} on a visit to another page costs "
                f"{nanoseconds(small.median - best.median)} more than in huge pages",
                "huge pages pay for data larger than that, visited at random",
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
        "keep small buffers together: one large region or a pool, not a mapping each",
        sure(near, far),
    )


# ---- sharing


def _explain_sharing(section: Section) -> list[Explanation | None]:
    threads = [value for value in values(section, "threads") if int(value) > 1]
    found: list[Explanation | None] = []
    if threads:
        count = threads[0]
        found += [_false_sharing(section, mode, int(count)) for mode in ("add", "store")]
        found.append(_contention(section, int(threads[-1])))
    return found


def _false_sharing(section: Section, mode: str, threads: int) -> Explanation | None:
    kind = "atomic" if mode == "add" else "ordinary"
    counters = [
        each
        for each in section.figures
        if each.labels["what"] == f"own counters, {mode}" and each.labels["threads"] == threads
    ]
    counters.sort(key=lambda each: int(each.labels["distance"]))
    if len(counters) < 2:
        return None
    near, far = counters[0], counters[-1]
    ratio = near.median / far.median
    if ratio < CLEAR or not differ(near, far):
        return Explanation(
            f"{threads} threads adding to neighbouring {kind} counters cost each other nothing that "
            "can be told",
            "nothing to do",
            sure(near, far),
        )
    enough = next(each for each in counters if each.median <= 1.2 * far.median)
    distance = int(enough.labels["distance"])
    return Explanation(
        f"False sharing costs {ratio:.1f}x: {threads} threads adding to {kind} counters of their own take "
        f"{nanoseconds(near.median)} each when these lie side by side, {nanoseconds(far.median)} "
        f"when {distance} bytes apart",
        f"put what each thread writes {distance} bytes apart (alignas({distance}); "
        "mematlas.memory.PaddedCounters)",
        sure(near, far),
    )


def _contention(section: Section, threads: int) -> Explanation | None:
    one = find(section.figures, what="one counter, add", threads=1)
    many = find(section.figures, what="one counter, add", threads=threads)
    swap = find(section.figures, what="one counter, swap", threads=threads)
    if one is None or many is None:
        return None
    swapped = f", {nanoseconds(swap.median)} by compare-and-swap" if swap else ""
    return Explanation(
        f"One atomic counter for {threads} threads costs each {nanoseconds(many.median)} an "
        f"addition{swapped}, against {nanoseconds(one.median)} alone",
        "count per thread and add up when asked; prefer fetch-and-add to compare-and-swap loops",
        sure(one, many),
    )


# ---- faults


def _explain_faults(section: Section) -> list[Explanation | None]:
    return [
        _first_touch(section),
        _ahead(section),
        _after_fork(section),
    ]


def _per_gib(figure: Figure) -> str:
    return f"{figure.median * (1 << 30) / _PAGE / 1e6:.0f} ms per GiB"


def _first_touch(section: Section) -> Explanation | None:
    small = find(section.figures, what="first touch", pages="4K")
    if small is None:
        return None
    others = [
        each
        for each in section.figures
        if each.labels["what"] == "first touch" and each.labels["pages"] in ("thp", "2M", "1G")
    ]
    best = min(others, key=lambda each: each.median, default=None)
    text = f"New memory costs {_per_gib(small)} in 4 KiB pages, before it is used for anything"
    if best is None:
        return Explanation(text, "reuse buffers instead of giving them back", sure(small))
    ratio = small.median / best.median
    kind = str(best.labels["pages"])
    return Explanation(
        f"{text}; {_per_gib(best)} in {page_title(kind)}, {ratio:.1f}x less",
        "reuse buffers instead of giving them back, and ask for huge pages for large ones",
        sure(small, best),
    )


def _ahead(section: Section) -> Explanation | None:
    touch = find(section.figures, what="first touch", pages="4K")
    ahead = find(section.figures, what="MADV_POPULATE_WRITE", pages="4K")
    if touch is None or ahead is None:
        return None
    saved = 1 - ahead.median / touch.median
    if saved <= 0 or not differ(touch, ahead):
        return Explanation(
            "Populating 4 KiB pages in one call costs as much as touching them",
            "populate for predictable latency, not for speed",
            sure(touch, ahead),
        )
    return Explanation(
        f"Populating 4 KiB pages in one call (MADV_POPULATE_WRITE) saves {100 * saved:.0f} % of the "
        "cost of touching them one by one",
        "Region(size, populate=True) where memory is used in full, or latency matters",
        sure(touch, ahead),
    )


def _after_fork(section: Section) -> Explanation | None:
    touch = find(section.figures, what="first touch", pages="4K")
    copy = find(section.figures, what="write after fork", pages="4K")
    fork = find(section.figures, what="fork", pages="4K")
    rest = find(section.figures, what="fork without it", pages="4K")
    if touch is None or copy is None or fork is None or rest is None:
        return None
    first = "What a fork costs for each GiB held cannot be told from the rest of it"
    if fork.median > rest.median and differ(fork, rest):
        more = (fork.median - rest.median) * (1 << 30) / _PAGE / 1e6
        first = f"A fork costs {more:.0f} ms for each GiB held in 4 KiB pages"
    huge = find(section.figures, what="write after fork", pages="thp")
    split = ""
    if huge is not None and huge.median > 0.5 * copy.median:
        split = "; in transparent huge pages as well, since the kernel splits them to copy"
    return Explanation(
        f"{first}, and then each first write to a page {nanoseconds(copy.median)}, "
        f"{copy.median / touch.median:.1f}x of a new page{split}",
        'keep large buffers from children that do not need them: Region(fork="dont"), or start '
        "programs with posix_spawn or vfork",
        sure(copy, fork, rest),
    )


# ---- alloc


def _explain_alloc(section: Section) -> list[Explanation | None]:
    ours = [_ours(section, name) for name in _OURS]
    return [_fastest(section), _worst(section), *ours, _resident(section)]


def _timed(section: Section, allocator: str) -> dict[tuple[Label, ...], Figure]:
    return {
        tuple(each.labels[key] for key in ("what", "size", "threads")): each
        for each in section.figures
        if each.labels["allocator"] == allocator and "threads" in each.labels
    }


def _mean_ratio(
    some: dict[tuple[Label, ...], Figure], base: dict[tuple[Label, ...], Figure]
) -> float:
    """Geometric mean of how many times faster `some` is than `base`, over what both did."""
    import math

    both = some.keys() & base.keys()
    if not both:
        return 0.0
    logs = (math.log(base[key].median / some[key].median) for key in both)
    return math.exp(sum(logs) / len(both))


def _fastest(section: Section) -> Explanation | None:
    base = _timed(section, "glibc")
    ratios = {
        str(name): _mean_ratio(_timed(section, str(name)), base)
        for name in values(section, "allocator")
        if name not in ("glibc", *_OURS)
    }
    if not base or not ratios:
        return None
    name, ratio = max(ratios.items(), key=lambda each: each[1])
    if ratio < CLEAR:
        return Explanation("No malloc here is clearly faster than glibc's", "keep glibc's")
    library = section.proofs.get(name, name)
    return Explanation(
        f"{name} is the fastest malloc here, {ratio:.1f}x glibc (geometric mean of all patterns)",
        f"try it on your program: LD_PRELOAD={library} PROGRAM",
        not any(each.noisy for each in base.values()),
    )


def _worst(section: Section) -> Explanation | None:
    """Name the pattern at which glibc loses most."""
    base = _timed(section, "glibc")
    worst: tuple[float, Figure, Figure] | None = None
    for name in values(section, "allocator"):
        for key, figure in _timed(section, str(name)).items():
            other = base.get(key)
            if name in _OURS or other is None or not differ(figure, other):
                continue
            ratio = other.median / figure.median
            if worst is None or ratio > worst[0]:
                worst = (ratio, other, figure)
    if worst is None or worst[0] < 2:
        return None
    ratio, slow, fast = worst
    size = "mixed sizes" if slow.labels["size"] == 0 else f"{slow.labels['size']} bytes"
    return Explanation(
        f"glibc is weakest at {slow.labels['what']} of {size}, threads: {slow.labels['threads']}: "
        f"{nanoseconds(slow.median)} against {nanoseconds(fast.median)} of {fast.labels['allocator']}",
        "if your program does that, keep memory from going back and forth: "
        "GLIBC_TUNABLES=glibc.malloc.trim_threshold=268435456, a pool, or another malloc",
        sure(slow, fast),
    )


_OURS = {
    "pool": ("pool of equal objects", "where objects are equal: mematlas.memory.Pool"),
    "arena": ("arena", "for the blocks of one job, from Python: mematlas.memory.Arena"),
}


def _ours(section: Section, name: str) -> Explanation | None:
    mine, glibc = _timed(section, name), _timed(section, "glibc")
    ratio = _mean_ratio(mine, glibc)
    if not ratio:
        return None
    title, advice = _OURS[name]
    text = f"mematlas's {title} does the same work {ratio:.1f}x as fast as glibc's malloc"
    if ratio < CLEAR:
        text = f"mematlas's {title} is no faster than glibc's malloc at this work"
    both = [each[key] for each in (mine, glibc) for key in mine.keys() & glibc.keys()]
    return Explanation(text, advice, sure(*both))


def _resident(section: Section) -> Explanation | None:
    moment = "one in ten in use"
    thin = {
        str(each.labels["allocator"]): each
        for each in section.figures
        if each.labels.get("moment") == moment and each.labels["allocator"] not in _OURS
    }
    if not thin:
        return None
    name, least = min(thin.items(), key=lambda each: each[1].median)
    return Explanation(
        "Resident memory hardly falls when objects are freed: with nine in ten given back at random, "
        f"the least that stays is {100 * least.median:.0f} % of what was asked for at the peak ({name})",
        "allocate what lives long apart from what lives shortly; reuse instead of freeing",
    )


# ---- numa


def _explain_numa(section: Section) -> list[Explanation | None]:
    local = [each for each in section.figures if each.labels["cpus"] == each.labels["memory"]]
    remote = [each for each in section.figures if each.labels["cpus"] != each.labels["memory"]]
    reads = [each for each in section.figures if each.labels["what"] == "read"]
    local = [each for each in local if each.labels["what"] == "latency"]
    remote = [each for each in remote if each.labels["what"] == "latency"]
    if not local:
        return []
    near = min(local, key=lambda each: each.median)
    if not remote:
        return [
            Explanation(
                f"One memory node: every CPU reaches all memory in {nanoseconds(near.median)}"
                + (f", and all together read {reads[0].median:.3g} GB/s" if reads else ""),
                "nothing to place; NUMA policies have no effect here",
                sure(near),
            )
        ]
    far = max(remote, key=lambda each: each.median)
    return [
        Explanation(
            f"Memory of {far.labels['memory']} costs CPUs of {far.labels['cpus']} "
            f"{nanoseconds(far.median)} a load, {far.median / near.median:.1f}x of near memory",
            "keep programs and their memory on one node: `mematlas exec --cpunodebind N --membind N`",
            sure(near, far),
        )
    ]


_EXPLAIN: dict[str, Callable[[Section], list[Explanation | None]]] = {
    **access.EXPLAIN,
    "bandwidth": _explain_bandwidth,
    "latency": _explain_latency,
    "tlb": _explain_tlb,
    "sharing": _explain_sharing,
    "faults": _explain_faults,
    "alloc": _explain_alloc,
    "numa": _explain_numa,
}
