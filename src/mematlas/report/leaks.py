"""Leaks in words: the sentence of the headline, the outline of `mematlas leaks`, what sampling can see."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

from mematlas.present.printable import NAME
from mematlas.recording.model import PartKind
from mematlas.report.bad_frees import place
from mematlas.report.model.leaks import LIKELY, PAGE_TABLES, LeakVerdict
from mematlas.report.quantities import count
from mematlas.report.titles import PART_TITLES
from mematlas.units import format_bytes, format_duration, format_estimate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.report.model.leaks import Leak, Leaks, LostMemory, RssGrowth, VerdictSum

TITLES = {
    LeakVerdict.GROWING: "grew to the end",
    LeakVerdict.UNFREED: "never freed, growth cannot be told from this run",
    LeakVerdict.STEADY: "allocated and freed, or growth stopped (caches, buffers)",
    LeakVerdict.SETUP: "allocated once and kept (start-up, imports)",
    LeakVerdict.UNCLEAR: "too few samples or snapshots for a verdict",
}
DOUBTS = 3  # of a heap graph that are shown
SEARCHED = 1000  # leaks in which the largest of a verdict is looked for
_SMALL = 100  # a leak of less than this fraction of the memory is not for the headline
_LEAST_SAMPLE = 1024
_ENOUGH = 9  # samples: 9 - 2 * sqrt(9) = 3 are left, more than a leak without a sample can have


def sentence(leaks: Leaks, of_bytes: int, directory: str, width: int = NAME) -> str:
    """Return what leaked, as sentences for the headline; "" if that is nothing, or little of `of_bytes`."""
    return _live_sentence(leaks, of_bytes, directory, width) + growth_sentence(leaks, of_bytes)


def growth_sentence(leaks: Leaks, of_bytes: int = 0) -> str:
    """Return the growth of RSS that no live allocation explains; "" if that is nothing, or little of `of_bytes`."""
    growth = [each for each in leaks.growth if each.kind != PAGE_TABLES]
    grown = sum(each.bytes for each in growth)
    if not growth or grown * _SMALL < of_bytes:
        return ""
    error = round(math.hypot(*(each.error_bytes for each in growth)))
    size = format_estimate(grown, error)
    largest = growth[0]
    return (
        f" RSS outside live allocations grew by {size} from {format_duration(largest.since_s)} to the end: "
        f"{'mostly ' if len(growth) > 1 else ''}{growth_name(largest)}."
    )


def growth_unknown(leaks: Leaks) -> str:
    """Describe of how many processes growth is unknown; "" if it is known of all."""
    if leaks.growth_known:
        return ""
    some = (
        f" for {leaks.growth_unknown:,} of {leaks.process_count:,} processes"
        if leaks.process_count > 1
        else ""
    )
    return (
        f"Growth of RSS outside live allocations is unknown{some}: fewer than 5 snapshots of a process "
        "(run --interval)."
    )


def growth_name(growth: RssGrowth) -> str:
    """Return the name of what grew: "allocator slack (glibc heap)"."""
    if growth.kind == PAGE_TABLES:
        return PAGE_TABLES
    kind = PART_TITLES[PartKind(growth.kind)]
    return f"{kind} ({growth.name})" if growth.name and growth.name != kind else kind


def growth_evidence(growth: RssGrowth) -> str:
    """Return from what to what a part grew, when, and how fast."""
    start = format_bytes(growth.end_bytes - growth.bytes)
    text = (
        f"{start} at {format_duration(growth.since_s)}, {format_bytes(growth.end_bytes)} at "
        f"{format_duration(growth.time_s)}; {format_bytes(growth.bytes_per_s)}/s"
    )
    if growth.processes > 1:
        text += f"; shared memory, which grew in {growth.processes} processes and counts once"
        if growth.most_bytes:
            text += f": {format_bytes(growth.most_bytes)} if it is not the same memory"
    return text if growth.kind != PAGE_TABLES else f"{text}; of the kernel, not in RSS"


def _live_sentence(leaks: Leaks, of_bytes: int, directory: str, width: int) -> str:
    for verdict, did in (
        (LeakVerdict.GROWING, "grew to the end (a leak, or data being built)"),
        (LeakVerdict.UNFREED, "was never freed; whether it grows cannot be told from this run"),
    ):
        found = leaks.sum_of(verdict)
        main = largest(leaks, verdict)
        if main is None or found.live_bytes * _SMALL < of_bytes or not is_told(main):
            continue
        where = place(main.frames, directory, width) or "an unknown stack"
        most = f"{format_bytes(main.live_bytes)} by {where}"
        text = f" {_size(found)} {did}: "
        return text + (f"{where}." if found.leaks == 1 else f"{most}.")
    return ""


def is_told(leak: Leak) -> bool:
    """Return whether a leak is worth a warning.

    Short runs build what they use until they end, and free little of it, so nothing in a run that is too short for a
    rate is.
    """
    return leak.verdict in LIKELY and leak.bytes_per_s is not None


def told_bytes(leaks: Leaks) -> int:
    """Sum the leaks, and the growth of RSS, that are worth a warning."""
    mains = {verdict: largest(leaks, verdict) for verdict in LIKELY}
    told = [verdict for verdict, main in mains.items() if main and is_told(main)]
    return leaks.grown_bytes + sum(leaks.sum_of(verdict).live_bytes for verdict in told)


def largest(leaks: Leaks, verdict: LeakVerdict) -> Leak | None:
    """Return the largest leak of a verdict."""
    if not leaks.sum_of(verdict).leaks:
        return None
    return next((each for each in islice(leaks.leaks, SEARCHED) if each.verdict == verdict), None)


def outline(leaks: Leaks) -> Iterator[tuple[str, bool]]:
    """Yield the sums of what was live at the end, as phrases, and whether each is a warning."""
    yield f"{format_bytes(leaks.live_bytes)} live at the end", False
    if leaks.heap is not None:
        lost = leaks.heap.lost_bytes
        blocks_lost = count(leaks.heap.lost_count, "block")
        yield (
            f"{format_bytes(lost)} definitely lost in {blocks_lost}"
            if lost
            else f"nothing {'that was read ' if leaks.heap.doubts else ''}is lost",
            lost > 0,
        )
        yield f"{format_bytes(leaks.heap.reachable_bytes)} still reachable", False
    likely = [(each, leaks.sum_of(each)) for each in LIKELY]
    for verdict, found in likely:
        if found.leaks:
            yield f"{_size(found)} {TITLES[verdict]}", verdict is LeakVerdict.GROWING
    if leaks.growth:
        error = leaks.grown_error_bytes
        size = format_estimate(leaks.grown_bytes, error)
        yield f"{size} of growth no live allocation explains", True
    unclear = leaks.sum_of(LeakVerdict.UNCLEAR)
    if unclear.leaks:
        yield f"{_size(unclear)} has {TITLES[LeakVerdict.UNCLEAR]}", False
    elif not leaks.growth and not any(found.leaks for _, found in likely):
        yield "nothing grew to the end or was never freed", False


def lost_remark(lost: LostMemory) -> str:
    """Describe lost blocks: how many, of which type, and what hangs on them."""
    kinds = [f"{count(lost.count, 'block')} of {format_bytes(lost.bytes)}: {lost.type}"]
    if lost.indirect_count:
        size = format_bytes(lost.indirect_bytes)
        kinds.append(f"{count(lost.indirect_count, 'block')} of {size} by way of these")
    if lost.forgotten:
        kinds.append(
            f"{lost.forgotten:,} count more references than there are: a forgotten Py_DECREF()?"
        )
    elif lost.collectable:
        kinds.append("cycles that Python's collector frees when it runs")
    elif lost.cycle:
        kinds.append("each one of a ring")
    return "; ".join(kinds)


def resolution(leaks: Leaks) -> str:
    """Describe what the sampling cannot see; "" for an exact run."""
    if not leaks.resolution_bytes:
        return ""
    seen = format_bytes(leaks.resolution_bytes)
    text = (
        f"A leak of {seen} has a sample with 95 %, a smaller one with less. To see smaller leaks, "
    )
    return text + finer(leaks, leaks.sampling.sample_bytes * _ENOUGH // 16)


def finer(leaks: Leaks, limit: int) -> str:
    """Return the options of `run` that tell a leak of `limit` bytes from none."""
    mean = min(limit // _ENOUGH, leaks.sampling.sample_bytes // 2)
    if mean < _LEAST_SAMPLE:
        return "record with --exact"
    return f"record with --sample-bytes {_power(mean) >> 10}K or --exact"


def cannot_tell(leaks: Leaks, limit: int) -> str:
    """Return the line for a limit that this sampling cannot check."""
    return (
        f"cannot tell whether {format_bytes(limit)} leaked: by the samples of this recording, "
        f"from {format_bytes(leaks.least_bytes)} to {format_bytes(leaks.most_bytes)} may have; "
        f"{finer(leaks, limit)}"
    )


def blocks(leak: Leak) -> str:
    """Format the blocks of a leak; an estimate has its error."""
    if leak.count_error:
        return f"about {leak.live_count:,} ± {leak.count_error:,} blocks"
    return count(leak.live_count, "block")


def _size(found: VerdictSum) -> str:
    error = f" ± {format_bytes(found.error_bytes)}" if found.error_bytes else ""
    return format_bytes(found.live_bytes) + error


def _power(number: int) -> int:
    """Return the largest power of two up to a number."""
    return 1 << (number.bit_length() - 1)
