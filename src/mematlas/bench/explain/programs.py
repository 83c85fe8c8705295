"""Explanations of sharing, faults, alloc and numa: what programs do to memory, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.bench.difference import Difference, Outcome, best_of, gain, least_of, mean_gain
from mematlas.bench.explain.terms import (
    EQUALLY,
    LINE,
    Explanation,
    cannot_tell,
    find,
    nanoseconds,
    page_title,
    sure,
    times,
    values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mematlas.bench.model import Figure, Label, Section

_PAGE = 4096  # bytes that a figure of the faults benchmark is for
MIN_KNOWN = 6
"""Samples that a cost needs to be stated: fewer have no confidence interval."""
_HELD = 0.5  # of the peak, when a tenth is in use
_SPLIT = 0.5  # of the cost of small pages: a huge page copied whole costs a tenth


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
    line = int(section.facts.get("cache line", LINE))
    near, apart = counters[0], [each for each in counters if int(each.labels["distance"]) >= line]
    if int(near.labels["distance"]) >= line or not apart:
        return None
    far, found = least_of(near, apart)
    distance = far.labels["distance"]
    costs = (
        f"{nanoseconds(near.median)} when the counters are {near.labels['distance']} bytes apart, "
        f"{nanoseconds(far.median)} when they are {distance} bytes apart"
    )
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"False sharing costs {times(found)}: an addition to an {kind} counter of its own takes "
            f"each of {threads} threads {costs}",
            f"place data of different threads {distance} bytes apart (alignas({distance}); "
            "mematlas.memory.PaddedCounters)",
            sure(near, far),
        )
    if found.is_no_better:
        return Explanation(
            f"{threads} threads that add to {kind} counters on one cache line do not slow each other, "
            f"{EQUALLY}",
            sure=sure(near, *apart),
        )
    return cannot_tell(
        f"whether {threads} threads slow each other by {kind} counters on one cache line",
        f"an addition takes {costs}",
        found,
    )


def _contention(section: Section, threads: int) -> Explanation | None:
    one = find(section.figures, what="one counter, add", threads=1)
    many = find(section.figures, what="one counter, add", threads=threads)
    swap = find(section.figures, what="one counter, swap", threads=threads)
    if one is None or many is None:
        return None
    costs = f"{nanoseconds(many.median)} with {threads} threads, {nanoseconds(one.median)} with one"
    found = gain(many, one)
    if found.outcome is Outcome.EQUAL:
        return Explanation(f"An addition to one atomic counter takes {costs}: equal, {EQUALLY}")
    if found.outcome is not Outcome.BETTER:
        return cannot_tell("whether threads slow each other at one atomic counter", costs, found)
    text, advice = (
        f"An addition to one atomic counter takes {costs}: {times(found)}",
        "count per thread and sum on demand",
    )
    if swap is not None and (loop := gain(swap, many)).outcome is Outcome.BETTER:
        text += f"; by a compare-and-swap loop it takes {nanoseconds(swap.median)}, {times(loop)}"
        advice += "; prefer fetch-and-add to compare-and-swap loops"
    return Explanation(text, advice, sure(one, many))


# ---- faults


def _explain_faults(section: Section) -> list[Explanation | None]:
    return [
        _first_touch(section),
        _ahead(section),
        _after_fork(section),
        _small_buffers(section),
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
    text = f"New memory costs {_per_gib(small)} of page faults with 4 KiB pages"
    reuse = "reuse buffers instead of freeing them"
    if len(small.samples) < MIN_KNOWN:
        text = f"{text}, from {len(small.samples)} passes only"
        return Explanation(text, sure=False, decided=False)
    if not others:
        return Explanation(text, reuse, sure(small))
    best, found = best_of(small, others)
    beside = f"{_per_gib(best)} with {page_title(str(best.labels['pages']))}"
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"{text}; {beside}, {times(found)} less",
            f"{reuse}, and use huge pages for large ones",
            sure(small, best),
        )
    if found.is_no_better:
        text = f"{text}; huge pages cost no less, {EQUALLY} ({beside})"
        return Explanation(text, reuse, sure(small, *others))
    return cannot_tell(
        "whether new memory costs less in huge pages",
        f"{_per_gib(small)} with 4 KiB pages and {beside}",
        found,
    )


def _ahead(section: Section) -> Explanation | None:
    touch = find(section.figures, what="first touch", pages="4K")
    ahead = find(section.figures, what="MADV_POPULATE_WRITE", pages="4K")
    if touch is None or ahead is None:
        return None
    costs = f"{_per_gib(touch)} by touch and {_per_gib(ahead)} in one call"
    found = gain(touch, ahead)
    if found.outcome is Outcome.BETTER:
        return Explanation(
            "Populating 4 KiB pages in one call (MADV_POPULATE_WRITE) costs less than touching them one "
            f"by one: {costs}",
            "use Region(size, populate=True) where all of it is used, or latency matters",
            sure(touch, ahead),
        )
    if found.is_no_better:
        return Explanation(
            f"Populating 4 KiB pages in one call costs no less than touching them, {EQUALLY} ({costs})",
            "populate for predictable latency, not for speed",
            sure(touch, ahead),
        )
    return cannot_tell("whether populating costs less than touching", costs, found)


def _after_fork(section: Section) -> Explanation | None:
    touch = find(section.figures, what="first touch", pages="4K")
    copy = find(section.figures, what="write after fork", pages="4K")
    fork = find(section.figures, what="fork", pages="4K")
    rest = find(section.figures, what="fork without it", pages="4K")
    if touch is None or copy is None or fork is None or rest is None:
        return None
    forked, copied = gain(fork, rest), gain(copy, touch)
    first = "What a fork costs for each GiB of memory cannot be told on this noisy machine"
    if forked.outcome is Outcome.BETTER:
        more = (fork.median - rest.median) * (1 << 30) / _PAGE / 1e6
        first = f"A fork costs {more:.0f} ms for each GiB in 4 KiB pages"
    elif forked.is_no_better:
        first = f"A fork with this memory costs no more than without it, {EQUALLY}"
    text = f"{first}. Each first write to a page then costs {nanoseconds(copy.median)}, "
    if copied.outcome is Outcome.BETTER:
        text += f"{times(copied)} a new page"
    elif copied.outcome is Outcome.EQUAL:
        text += f"as much as a new page, {EQUALLY}"
    else:
        text += f"a new page {nanoseconds(touch.median)}, too noisy to compare"
    huge = find(section.figures, what="write after fork", pages="thp")
    if huge is not None and gain(huge, copy).low > _SPLIT:
        text += "; with transparent huge pages as well, because the kernel splits them to copy"
    if Outcome.BETTER not in (forked.outcome, copied.outcome):
        decided = forked.is_no_better and copied.is_no_better
        return Explanation(text, sure=decided, decided=decided)
    return Explanation(
        text,
        'exclude large buffers from children that do not need them by Region(fork="dont"), or start '
        "programs by posix_spawn or vfork",
        sure(copy, fork, rest),
    )


def _small_buffers(section: Section) -> Explanation | None:
    """Compare a mapping for each buffer with one mapping for all."""
    taken = [each for each in section.figures if each.labels.get("step") == "all three"]
    one, each = (find(taken, layout=layout) for layout in ("one mapping", "a mapping each"))
    if one is None or each is None:
        return None
    count = f"{int(each.labels['count']):,} buffers of a page"
    costs = f"{nanoseconds(each.median)} each with a mapping each, {nanoseconds(one.median)} in one mapping"
    found = gain(each, one)
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"To map, touch and unmap {count} costs {costs}: {times(found)}",
            "take small buffers from malloc, a pool or one region, and map large ones only",
            sure(one, each),
        )
    if found.is_no_better:
        return Explanation(
            f"To map, touch and unmap {count} costs no more with a mapping each, {EQUALLY}: {costs}",
            sure=sure(one, each),
        )
    return cannot_tell(
        f"whether {count} cost more with a mapping each", f"they take {costs}", found
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


def _compared(section: Section, name: str, base_name: str = "glibc") -> Difference | None:
    """Return the mean gain of a malloc over another one; None if no case is of both."""
    base, mine = _timed(section, base_name), _timed(section, name)
    both = [key for key in mine if key in base]
    return mean_gain((base[key], mine[key]) for key in both) if both else None


def _fastest(section: Section) -> Explanation | None:
    found = {
        str(name): compared
        for name in values(section, "allocator")
        if name not in ("glibc", *_OURS) and (compared := _compared(section, str(name))) is not None
    }
    if not found:
        return None
    better = {name: each for name, each in found.items() if each.outcome is Outcome.BETTER}
    name, best = max((better or found).items(), key=lambda each: each[1].factor)
    if better:
        library = section.proofs.get(name, name)
        return Explanation(
            f"{name} is {times(best)} as fast as glibc's malloc (geometric mean of all patterns)"
            + (", the most of this machine's" if _beats(section, name, found) else ""),
            f"try your program with LD_PRELOAD={library}",
            all(sure(each) for each in _timed(section, "glibc").values()),
        )
    if all(each.is_no_better for each in found.values()):
        return Explanation(
            f"No malloc of this machine is faster than glibc's, {EQUALLY}", "keep glibc's malloc"
        )
    name, widest = max(found.items(), key=lambda each: each[1].high)
    costs = f"{name} took {1 / widest.factor:.2g} of glibc's time" if widest.is_known else ""
    return cannot_tell("whether another malloc is faster than glibc's", costs, widest)


def _beats(section: Section, name: str, others: Iterable[str]) -> bool:
    """Return whether a malloc is surely faster than each other one."""
    compared = (_compared(section, name, other) for other in others if other != name)
    return all(each is None or each.outcome is Outcome.BETTER for each in compared)


def _worst(section: Section) -> Explanation | None:
    """Return the pattern at which glibc is slowest relative to another malloc."""
    base = _timed(section, "glibc")
    worst: tuple[Difference, Figure, Figure] | None = None
    for name in values(section, "allocator"):
        for key, figure in _timed(section, str(name)).items():
            other = base.get(key)
            if name in _OURS or name == "glibc" or other is None:
                continue
            found = gain(other, figure)
            if found.outcome is Outcome.BETTER and (
                worst is None or found.factor > worst[0].factor
            ):
                worst = (found, other, figure)
    if worst is None or worst[0].factor < 2:
        return None
    _, slow, fast = worst
    size = "mixed sizes" if slow.labels["size"] == 0 else f"{slow.labels['size']} bytes"
    return Explanation(
        f"glibc is weakest at {slow.labels['what']} of {size} with {slow.labels['threads']} threads: "
        f"{nanoseconds(slow.median)}, against {nanoseconds(fast.median)} of {fast.labels['allocator']}",
        _BATCH_ADVICE if slow.labels["what"] == "batch" else _OTHER_ADVICE,
        sure(slow, fast),
    )


_OTHER_ADVICE = "if your program does that, use a pool, or another malloc"
_BATCH_ADVICE = (
    f"{_OTHER_ADVICE}, or GLIBC_TUNABLES=glibc.malloc.trim_threshold=268435456, which keeps up to 256 MiB "
    "and fixes the mmap threshold at 128 KiB: each larger block is then mapped by itself"
)
_OURS = {
    "pool": ("pool", "use mematlas.memory.Pool for objects of one size"),
    "arena": ("arena", "use mematlas.memory.Arena for the allocations of one job, from Python"),
}


def _ours(section: Section, name: str) -> Explanation | None:
    found = _compared(section, name)
    if found is None:
        return None
    title, advice = _OURS[name]
    both = (*_timed(section, name).values(), *_timed(section, "glibc").values())
    if found.outcome is Outcome.BETTER:
        text = f"mematlas's {title} does the same work {times(found)} as fast as glibc's malloc"
        return Explanation(text, advice, sure(*both))
    if found.is_no_better:
        text = f"mematlas's {title} is not faster than glibc's malloc at the same work, {EQUALLY}"
        return Explanation(text, sure=sure(*both))
    costs = f"a mean factor of {found.factor:.2g}" if found.is_known else ""
    return cannot_tell(f"whether mematlas's {title} is faster than glibc's malloc", costs, found)


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
    held = least.median
    text = (
        "With nine in ten objects freed at random, at least "
        f"{100 * held:.0f} % of the requested peak stays resident ({name})"
    )
    if held < _HELD:
        return Explanation(text)
    return Explanation(
        f"Resident memory hardly shrinks when objects are freed. {text}",
        "allocate long-lived objects apart from short-lived ones; reuse instead of freeing",
        sure(*thin.values()),
    )


# ---- numa


def _explain_numa(section: Section) -> list[Explanation | None]:
    loads = [each for each in section.figures if each.labels["what"] == "latency"]
    reads = [each for each in section.figures if each.labels["what"] == "read"]
    nodes = {each.labels["memory"] for each in section.figures}
    local = [each for each in loads if each.labels["cpus"] == each.labels["memory"]]
    remote = [each for each in loads if each.labels["cpus"] != each.labels["memory"]]
    if not local:
        return []
    near = min(local, key=lambda each: each.median)
    if not remote:
        if len(nodes) > 1 or section.unavailable:
            return []
        return [
            Explanation(
                f"One memory node: a load takes every CPU {nanoseconds(near.median)}"
                + (f", and all CPUs read {reads[0].median:.3g} GB/s" if reads else ""),
                "NUMA policies have no effect on this machine",
                sure(near),
            )
        ]
    far = max(remote, key=lambda each: each.median)
    local_to_far = find(local, cpus=far.labels["cpus"])
    return [_far_node(local_to_far or near, far)]


def _far_node(near: Figure, far: Figure) -> Explanation:
    found = gain(far, near)
    cpus = far.labels["cpus"]
    costs = (
        f"{nanoseconds(near.median)} from {near.labels['memory']} and {nanoseconds(far.median)} from "
        f"{far.labels['memory']}"
    )
    if found.outcome is Outcome.BETTER:
        return Explanation(
            f"A load takes CPUs of {cpus} {costs}, {times(found)} local memory",
            "run programs on the node of their memory: `mematlas exec --cpunodebind N --membind N`",
            sure(near, far),
        )
    if found.is_no_better:
        return Explanation(f"A load takes CPUs of {cpus} {costs}: no more, {EQUALLY}")
    return cannot_tell("whether memory of another node is slower", f"a load takes {costs}", found)


EXPLAIN: dict[str, Callable[[Section], list[Explanation | None]]] = {
    "sharing": _explain_sharing,
    "faults": _explain_faults,
    "alloc": _explain_alloc,
    "numa": _explain_numa,
}
