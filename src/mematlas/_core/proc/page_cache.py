"""Pages of a file in the page cache: cachestat(2), mincore(2)."""

from __future__ import annotations

from mematlas._core.binding import PAGE, check, ffi, lib


def cachestat(descriptor: int, offset: int = 0, length: int = 0) -> tuple[int, int, int, int, int]:
    """Count pages of a range of a file: cached, dirty, under writeback, evicted, recently evicted."""
    found = ffi.new("struct mematlas_cachestat *")
    check(lib.mematlas_cachestat(descriptor, offset, length, found))
    return found.cached, found.dirty, found.writeback, found.evicted, found.recently_evicted


def mincore_file(descriptor: int, length: int) -> tuple[int, bytearray]:
    """Count the resident pages of a file; return the count and a byte for each page."""
    pages = bytearray((length + PAGE - 1) // PAGE)
    if not pages:
        return 0, pages
    found = lib.mematlas_mincore_file(descriptor, length, ffi.from_buffer("unsigned char[]", pages))
    return check(found), pages
