"""Blocks of all allocators in an image, and what is said of those that could not be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas._core import FindingKind, Origin
from mematlas._core.heap.python import add_pymalloc
from mematlas.heap.model.heap import Finding
from mematlas.linux.allocators import allocator_of_file
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mematlas._core import AllocatorSums, GlibcSums, HeapHandle, RawFinding
    from mematlas.heap.model.image import Image

_NAMES = {
    Origin.JEMALLOC: "jemalloc",
    Origin.MIMALLOC: "mimalloc",
    Origin.TCMALLOC: "tcmalloc",
}


def read_blocks(handle: HeapHandle) -> tuple[GlibcSums, dict[str, AllocatorSums]]:
    """Add the live blocks of all allocators, and return the sums of glibc's and of those of the others that are there.

    An allocator is read before those that take their memory from it.
    """
    glibc = handle.read_glibc()
    found = {
        "jemalloc": handle.read_jemalloc(),
        "mimalloc": handle.read_mimalloc(),
        "tcmalloc": handle.read_tcmalloc(),
    }
    add_pymalloc(handle)
    return glibc, {name: sums for name, sums in found.items() if sums.copies}


def name_unread(
    image: Image, sums: Mapping[str, AllocatorSums], *, traced: bool = False
) -> list[str]:
    """Return a sentence for each library behind malloc(3) whose blocks are not read. `traced`: a tracer knows them."""
    paths = {os.fsdecode(image.mappings.name(index)) for index in range(image.mappings.count)}
    return [
        f"{allocator} serves malloc ({Path(path).name}), and its blocks are "
        + ("those of the trace alone" if traced else "not read")
        for path in sorted(paths)
        if (allocator := allocator_of_file(path)) and allocator not in sums
    ]


_SENTENCES = {
    FindingKind.TORN_CHUNK: "heap of arena {number}: no chunk at {address:#x}{after}",
    FindingKind.OVERLAP: "the blocks at {detail:#x} and {address:#x} overlap",
    FindingKind.TORN_FREE_CHUNK: (
        "heap of arena {number}: the sizes of the free chunk at {address:#x} differ"
    ),
    FindingKind.TORN_FASTBIN: "free list of arena {number} broken at {address:#x}",
    FindingKind.TORN_POOL: "pymalloc: free list of the pool at {address:#x} broken",
    FindingKind.UNKNOWN_LAYOUT: (
        "{allocator} at {address:#x} has a layout that is not known: its blocks are not read"
    ),
    FindingKind.TORN_EXTENT: (
        "{allocator}: what describes the memory at {address:#x} contradicts itself"
    ),
    FindingKind.TORN_SLAB: (
        "{allocator}: blocks and free lists at {address:#x} contradict each other; {detail:,} bytes"
        " count as one block"
    ),
    FindingKind.TORN_CACHE: "{allocator}: the list of free blocks at {address:#x} leads to no block",
    FindingKind.MISSING_CACHE: (
        "{allocator}: a thread's cache at {address:#x} is not read, and its free blocks count as live"
    ),
}


def describe(raw: RawFinding) -> Finding:
    """Build the sentence of a finding."""
    after = f"; read on at {raw.detail:#x}" if raw.detail else ", and none behind it"
    text = _SENTENCES[raw.kind].format(
        number=raw.number,
        address=raw.address,
        detail=raw.detail,
        after=after,
        allocator=_NAMES.get(Origin(raw.number), "") if raw.number in set(Origin) else "",
    )
    return Finding(text, raw.address)


def find_doubts(glibc: GlibcSums, sums: Mapping[str, AllocatorSums]) -> list[Finding]:
    """Compare what was found with what the allocators themselves count."""
    found = []
    told = glibc.told_mapped
    if told is not None and told != glibc.mapped:
        found.append(
            Finding(
                f"malloc counts {format_bytes(told)} of mapped chunks, "
                f"{format_bytes(glibc.mapped)} were found",
                0,
            )
        )
    found += [
        Finding(
            f"{name} counts {each.told:,} small blocks, those in caches included; "
            f"{each.counted:,} were found",
            0,
        )
        for name, each in sums.items()
        if each.told != each.counted
    ]
    return found
