"""Counts, lifetimes and idle memory in words."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from mematlas.recording.row_types import LIFETIME_LIMITS_S
from mematlas.report.titles import IDLE_METHODS, KIND_TITLES
from mematlas.units import format_bytes, format_count, format_duration, format_percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mematlas.report.model.diff import StackChange
    from mematlas.report.model.report import IdleSummary, PageFaults


def count(number: int, noun: str) -> str:
    """Format a count: "1 block", "2,000 blocks"."""
    return format_count(number, noun)


def change_error(change: StackChange) -> str:
    """Format the standard error behind a change: " ± 1.50 KiB", " ± unknown", "" where the change is exact."""
    if change.error_bytes is None:
        return " ± unknown"
    return f" ± {format_bytes(change.error_bytes)}" if change.error_bytes else ""


def lifetimes(blocks: Sequence[int]) -> str:
    """Format the lifetimes of freed blocks: "2,000 freed: 98.5 % within 1 ms, median below 100 us".

    `blocks` counts blocks by lifetime, as LIFETIMES of the recording model.
    """
    freed = sum(blocks)
    if not freed:
        return "none freed"
    below = list(accumulate(blocks))
    text = f"{freed:,} freed: {format_percent(below[1], freed)} within 1 ms"
    half = next(number for number, blocks in enumerate(below) if 2 * blocks >= freed)
    if half == len(LIFETIME_LIMITS_S):
        return f"{text}, median lifetime {format_duration(LIFETIME_LIMITS_S[-1])} or more"
    return f"{text}, median lifetime below {format_duration(LIFETIME_LIMITS_S[half])}"


def mapped(sizes: Mapping[str, int], threads: int, touched_error: int = 0) -> list[str]:
    """Format the resident bytes that are no allocation: "shared memory 2.00 MiB", "stacks of 4 threads 1.00 MiB"."""
    titles = dict(KIND_TITLES)
    if threads:
        titles["stack"] = "stack of 1 thread" if threads == 1 else f"stacks of {threads:,} threads"
    errors = {"touched": f" ± {format_bytes(touched_error)}"} if touched_error else {}
    return [
        f"{titles.get(kind, kind)} {format_bytes(size)}{errors.get(kind, '')}"
        for kind, size in sizes.items()
    ]


def page_faults(found: PageFaults) -> str:
    """Format the sampled page faults: bytes, faults, the sampling, and what was lost."""
    error = f" ± {format_bytes(found.error_bytes)}" if found.error_bytes else ""
    phrase = f"{format_bytes(found.bytes)}{error} made resident by {found.faults:,} page faults"
    if found.major_faults:
        phrase += f", {found.major_faults:,} major"
    if found.period > 1:
        phrase += f" (1 in {found.period} sampled)"
    return phrase + (f"; {found.lost:,} samples lost" if found.lost else "")


def idle(found: IdleSummary) -> str:
    """Format the result of an idle-page scan: bytes, idle time, method, and whether it is a bound."""
    text = f"{format_bytes(found.bytes)} not used for {format_duration(found.seconds)}"
    text += f" before {format_duration(found.time_s)}"
    bound = "" if found.whole else "; lower bounds per line"
    return f"{text}, by {IDLE_METHODS.get(found.method, found.method)}{bound}"
