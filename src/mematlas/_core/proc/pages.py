"""/proc/PID/pagemap and tables of page frames, as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]


def _words(array: Words) -> Any:
    if array.dtype.str != "<u8" or not array.flags.c_contiguous:
        message = "expected a contiguous array of uint64"
        raise TypeError(message)
    return ffi.from_buffer("uint64_t[]", array)


def read_pagemap(descriptor: int, start: int, pages: int) -> Words:
    """Read the pagemap entries of `pages` pages from `start`; fewer where the address space ends."""
    import numpy as np

    entries = np.empty(pages, dtype=np.uint64)
    got = check(lib.mematlas_pagemap_read(descriptor, start, pages, _words(entries)))
    return entries[:got]


def scan_pagemap(
    descriptor: int, start: int, end: int, *, any_of: int, want: int
) -> list[tuple[int, int, int]]:
    """Return runs (start, end, categories) of the pages in [start, end) with one of `any_of`."""
    capacity = 4096
    runs = ffi.new("struct mematlas_page_run[]", capacity)
    at = ffi.new("uint64_t *", start)
    found: list[tuple[int, int, int]] = []
    while at[0] < end:
        got = check(lib.mematlas_pagemap_scan(descriptor, at, end, any_of, want, runs, capacity))
        found.extend((runs[i].start, runs[i].end, runs[i].categories) for i in range(got))
    return found


def join_frames(
    entries: Words, tables: Sequence[int], *, counts: int = -1
) -> tuple[list[Words], int]:
    """Read each entry's frame in each open table (kpageflags, ...); return columns and distinct frames.

    `counts` is the index of kpagecount: pages that pagemap calls mapped once are 1 without a read.
    """
    import numpy as np

    columns = [np.empty(len(entries), dtype=np.uint64) for _ in tables]
    pointers = [_words(column) for column in columns]
    frames = check(
        lib.mematlas_frames_join(
            _words(entries), len(entries), list(tables), pointers, len(tables), counts
        )
    )
    return columns, frames
