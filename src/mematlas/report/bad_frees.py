"""Frees of pointers that were not live allocations, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.present.printable import NAME
from mematlas.recording.model import BadFreeReason
from mematlas.recording.ownership import owning_frame
from mematlas.report import frame_names
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.model import Frame
    from mematlas.report.model.report import BadFree

ABOUT = "freed pointers that were no live blocks"
_WHAT_IS_THERE = {
    BadFreeReason.TWICE: "was freed before",
    BadFreeReason.INTERIOR: "lies",
    BadFreeReason.STATIC: "is static memory of the program or a library, never allocated",
    BadFreeReason.STACK: "is on the stack of the thread that freed it, never allocated",
    BadFreeReason.UNKNOWN: "was never allocated, or freed so long before that it is forgotten",
}
_EXACT_BYTES = 10_000  # below that, sizes of blocks are given to the byte


def sentence(bad_frees: Sequence[BadFree], directory: str, width: int = NAME) -> str:
    """Return the worst of some bad frees as a sentence, with the count of the others; "" for none."""
    if not bad_frees:
        return ""
    first = min(bad_frees, key=lambda each: (each.time_s is None, each.time_s or 0.0))
    where = place(first.frames, directory, width)
    count = sum(each.count for each in bad_frees)
    what = {
        BadFreeReason.TWICE: "freed a block twice",
        BadFreeReason.INTERIOR: "freed a pointer into the middle of a block",
        BadFreeReason.STATIC: "freed static memory",
        BadFreeReason.STACK: "freed memory of its own stack",
    }.get(first.reason or BadFreeReason.UNKNOWN, "freed a pointer to no live block")
    others = f", the first of {count:,}" if count > 1 else ""
    return f" Bad free{others}: {where or 'an unknown stack'} {what}."


def story(bad: BadFree, directory: str, width: int = NAME) -> str:
    """Describe a bad free: the address, what is there, where the block is from, where it was freed first."""
    if bad.address is None or bad.reason is None:
        return ""
    told = [f"{bad.address:#x} {_WHAT_IS_THERE[bad.reason]}"]
    if bad.reason is BadFreeReason.TWICE:
        told[0] += _freed_before(bad, directory, width)
        told += [f"a block of {_size(bad.block_bytes)}"] if bad.block_bytes else []
    if bad.reason is BadFreeReason.INTERIOR and bad.block_bytes and bad.block_address:
        inside = _size(bad.address - bad.block_address)
        told[0] += f" {inside} inside a live block of {_size(bad.block_bytes)}"
    if made := place(bad.block_frames, directory, width):
        told[-1] += f" allocated by {made}"
    return "; ".join(told)


def _freed_before(bad: BadFree, directory: str, width: int) -> str:
    freed = place(bad.freed_frames, directory, width)
    text = f" by {freed}" if freed else ""
    if bad.freed_s is not None and bad.time_s is not None:
        text += f", {format_duration(max(0.0, bad.time_s - bad.freed_s))} earlier"
    return text


def place(frames: tuple[Frame, ...], directory: str, width: int = NAME) -> str:
    """Format the owning frame of a stack as `function file:line`; "" if it is unknown."""
    frame = owning_frame(frames)
    return "" if frame is None else frame_names.named(frame, directory, width)


def _size(size: int) -> str:
    return f"{size:,} bytes" if size < _EXACT_BYTES else format_bytes(size)
