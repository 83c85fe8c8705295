"""Typed facade over the C core: buffers in, buffers out, errors as OSError. Alone touches `_native`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mematlas._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

if lib.mematlas_abi() != 1:
    message = "the compiled core is of another version; run scripts/setup"
    raise ImportError(message)

PAGE = os.sysconf("SC_PAGESIZE")


def check(result: int, name: str | None = None) -> int:
    """Pass a count through; turn -errno into the OSError that says it."""
    if result < 0:
        raise OSError(-result, os.strerror(-result), name)
    return result


# ---- scan: address spaces ------------------------------------------------------------------------

ABSENT = 2**64 - 1
"""In a column: the kernel did not print this field for this row."""

MAPS_COLUMNS = (
    "start",
    "end",
    "permissions",
    "offset",
    "device",
    "inode",
    "flags",
    "name_at",
    "name_length",
)
"""In the order of enum mematlas_maps_column."""


@dataclass(frozen=True, slots=True)
class MapsColumns:
    """What one pass over maps or smaps gave. The memoryviews (format "Q") keep their memory alive."""

    count: int
    overlaps: int
    ignored: int
    base: dict[str, memoryview]
    fields: dict[str, memoryview]
    flag_names: tuple[str, ...]
    names: memoryview


def read_maps(descriptor: int) -> MapsColumns:
    """Read an open maps or smaps to its end, straight into columns."""
    holder = ffi.new("struct mematlas_maps **")
    check(lib.mematlas_maps_create(descriptor, holder))
    maps = ffi.gc(holder[0], lib.mematlas_maps_destroy)
    sizes = ffi.new("struct mematlas_maps_sizes *")
    lib.mematlas_maps_sizes(maps, sizes)
    count = sizes.count
    return MapsColumns(
        count=count,
        overlaps=sizes.overlaps,
        ignored=sizes.ignored,
        base={
            name: _view(lib.mematlas_maps_base(maps, index), count * 8, maps).cast("Q")
            for index, name in enumerate(MAPS_COLUMNS)
        },
        fields={
            ffi.string(lib.mematlas_maps_key(maps, index)).decode("ascii", "replace"): _view(
                lib.mematlas_maps_values(maps, index), count * 8, maps
            ).cast("Q")
            for index in range(sizes.keys)
        },
        flag_names=tuple(
            ffi.string(lib.mematlas_maps_flag(maps, index)).decode("ascii", "replace")
            for index in range(sizes.flags)
        ),
        names=_view(lib.mematlas_maps_names(maps), sizes.names, maps),
    )


def _view(pointer: Any, size: int, owner: Any) -> memoryview:
    """Memory that C owns, as bytes that cannot be written and that keep `owner` alive."""
    if size == 0:
        return memoryview(b"")
    # A buffer keeps its cdata alive, and the cdata its destructor, which holds the owner.
    kept = ffi.gc(pointer, lambda _, owner=owner: owner)
    return memoryview(ffi.buffer(kept, size)).toreadonly()


# ---- scan: pages ---------------------------------------------------------------------------------


def _words(array: Words) -> Any:
    if array.dtype.str != "<u8" or not array.flags.c_contiguous:
        message = "expected a contiguous array of uint64"
        raise TypeError(message)
    return ffi.from_buffer("uint64_t[]", array)


def read_pagemap(descriptor: int, start: int, pages: int) -> Words:
    """Pagemap entries of `pages` pages from `start`; fewer where the address space ends."""
    import numpy as np

    entries = np.empty(pages, dtype=np.uint64)
    got = check(lib.mematlas_pagemap_read(descriptor, start, pages, _words(entries)))
    return entries[:got]


def scan_pagemap(
    descriptor: int, start: int, end: int, *, any_of: int, want: int
) -> list[tuple[int, int, int]]:
    """List (start, end, categories) of the pages in [start, end) that have one of `any_of`."""
    room = 4096
    runs = ffi.new("struct mematlas_page_run[]", room)
    at = ffi.new("uint64_t *", start)
    found: list[tuple[int, int, int]] = []
    while at[0] < end:
        got = check(lib.mematlas_pagemap_scan(descriptor, at, end, any_of, want, runs, room))
        found.extend((runs[i].start, runs[i].end, runs[i].categories) for i in range(got))
    return found


def join_frames(entries: Words, tables: Sequence[int]) -> tuple[list[Words], int]:
    """Each entry's frame in each open table (kpageflags, ...), and how many frames are distinct."""
    import numpy as np

    columns = [np.empty(len(entries), dtype=np.uint64) for _ in tables]
    pointers = [_words(column) for column in columns]
    frames = check(
        lib.mematlas_frames_join(_words(entries), len(entries), list(tables), pointers, len(tables))
    )
    return columns, frames
