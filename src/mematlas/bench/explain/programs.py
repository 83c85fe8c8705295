"""Explanations of sharing, faults, alloc and numa: what programs do to memory, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.bench.model import Figure, Label, Section

_PAGE = 4096  # bytes that a figure of the faults benchmark is for


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
            f"{threads} threads that add to adjacent {kind} counters do not slow each other measurably",
            "nothing to do",
            sure(near, far),
        )
    enough = next(each for each in counters if each.median <= 1.2 * far.median)
    distance = int(enough.labels["distance"])
    return Explanation(
        f"False sharing costs {ratio:.1f}x: an addition to an {kind} counter of its own takes each of "
        f"{threads} threads {nanoseconds(near.median)} when the counters are adjacent, "
        f"{nanoseconds(far.median)} when they are {distance} bytes apart",
        f"place data of different threads {distance} bytes apart (alignas({distance}); "
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
        f"An addition to one atomic counter by {threads} threads takes {nanoseconds(many.median)}{swapped}, "
        f"against {nanoseconds(one.median)} for one thread",
        "count per thread and sum on demand; prefer fetch-and-add to compare-and-swap loops",
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
    text = f"New memory costs {_per_gib(small)} of page faults with 4 KiB pages"
    if best is None:
        return Explanation(text, "reuse buffers instead of freeing them", sure(small))
    ratio = small.median / best.median
    kind = str(best.labels["pages"])
    return Explanation(
        f"{text}; {_per_gib(best)} with {page_title(kind)}, {ratio:.1f}x less",
        "reuse buffers instead of freeing them, and use huge pages for large ones",
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
        "use Region(size, populate=True) where all of it is used, or latency matters",
        sure(touch, ahead),
    )


def _after_fork(section: Section) -> Explanation | None:
    touch = find(section.figures, what="first touch", pages="4K")
    copy = find(section.figures, what="write after fork", pages="4K")
    fork = find(section.figures, what="fork", pages="4K")
    rest = find(section.figures, what="fork without it", pages="4K")
    if touch is None or copy is None or fork is None or rest is None:
        return None
    first = "The cost of a fork for each GiB of memory is too small to measure"
    if fork.median > rest.median and differ(fork, rest):
        more = (fork.median - rest.median) * (1 << 30) / _PAGE / 1e6
        first = f"A fork costs {more:.0f} ms for each GiB in 4 KiB pages"
    huge = find(section.figures, what="write after fork", pages="thp")
    split = ""
    if huge is not None and huge.median > 0.5 * copy.median:
        split = "; with transparent huge pages as well, because the kernel splits them to copy"
    return Explanation(
        f"{first}. Each first write to a page then costs {nanoseconds(copy.median)}, "
        f"{copy.median / touch.median:.1f}x a new page{split}",
        'exclude large buffers from children that do not need them by Region(fork="dont"), or start '
        "programs by posix_spawn or vfork",
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
    """Return the geometric mean of the speed-up of `some` over `base`, for the cases of both."""
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
        return Explanation(
            "No malloc of this machine is clearly faster than glibc's", "keep glibc's malloc"
        )
    library = section.proofs.get(name, name)
    return Explanation(
        f"{name} is the fastest malloc of this machine, {ratio:.1f}x glibc (geometric mean of all patterns)",
        f"try your program with LD_PRELOAD={library}",
        not any(each.noisy for each in base.values()),
    )


def _worst(section: Section) -> Explanation | None:
    """Return the pattern at which glibc is slowest relative to another malloc."""
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
        f"glibc is weakest at {slow.labels['what']} of {size} with {slow.labels['threads']} threads: "
        f"{nanoseconds(slow.median)}, against {nanoseconds(fast.median)} of {fast.labels['allocator']}",
        "if your program does that, use GLIBC_TUNABLES=glibc.malloc.trim_threshold=268435456, a pool, "
        "or another malloc",
        sure(slow, fast),
    )


_OURS = {
    "pool": ("pool", "use mematlas.memory.Pool for objects of one size"),
    "arena": ("arena", "use mematlas.memory.Arena for the allocations of one job, from Python"),
}


def _ours(section: Section, name: str) -> Explanation | None:
    mine, glibc = _timed(section, name), _timed(section, "glibc")
    ratio = _mean_ratio(mine, glibc)
    if not ratio:
        return None
    title, advice = _OURS[name]
    text = f"mematlas's {title} does the same work {ratio:.1f}x as fast as glibc's malloc"
    if ratio < CLEAR:
        text = f"mematlas's {title} is not faster than glibc's malloc at the same work"
    both = [each[key] for each in (mine, glibc) for key in mine.keys() & glibc.keys()]
    return Explanation(text, advice, sure(*both))


def _resident(section: Section) -> Explanation | None:
    occupancy = "one in ten in use"
    thin = {
        str(each.labels["allocator"]): each
        for each in section.figures
        if each.labels.get("occupancy") == occupancy and each.labels["allocator"] not in _OURS
    }
    if not thin:
        return None
    name, least = min(thin.items(), key=lambda each: each[1].median)
    return Explanation(
        "Resident memory hardly shrinks when objects are freed. With nine in ten freed at random, at least "
        f"{100 * least.median:.0f} % of the requested peak stays resident ({name})",
        "allocate long-lived objects apart from short-lived ones; reuse instead of freeing",
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
                f"One memory node: a load takes every CPU {nanoseconds(near.median)}"
                + (f", and all CPUs read {reads[0].median:.3g} GB/s" if reads else ""),
                "NUMA policies have no effect on this machine",
                sure(near),
            )
        ]
    far = max(remote, key=lambda each: each.median)
    return [
        Explanation(
            f"A load from {far.labels['memory']} takes CPUs of {far.labels['cpus']} "
            f"{nanoseconds(far.median)}, {far.median / near.median:.1f}x local memory",
            "run programs on the node of their memory: `mematlas exec --cpunodebind N --membind N`",
            sure(near, far),
        )
    ]


EXPLAIN: dict[str, Callable[[Section], list[Explanation | None]]] = {
    "sharing": _explain_sharing,
    "faults": _explain_faults,
    "alloc": _explain_alloc,
    "numa": _explain_numa,
}
