"""Mappings: made, advised, locked, named, lent; and the numbers in them."""

from __future__ import annotations

from typing import Any

from mematlas._core.binding import check, ffi, lib


def map_memory(length: int, flags: int, descriptor: int = -1) -> int:
    """Map readable, writable memory and give its address."""
    address = ffi.new("uint64_t *")
    check(lib.mematlas_map(length, flags, descriptor, address))
    return int(address[0])


def unmap_memory(address: int, length: int) -> None:
    """Give address space back (munmap)."""
    check(lib.mematlas_unmap(address, length))


def protect_memory(address: int, length: int, protection: int) -> None:
    """Change what pages allow (mprotect)."""
    check(lib.mematlas_protect(address, length, protection))


def advise(address: int, length: int, advice: int) -> None:
    """Tell the kernel what to do with pages (madvise)."""
    check(lib.mematlas_advise(address, length, advice))


def lock_memory(address: int, length: int, flags: int) -> None:
    """Keep pages in memory (mlock2)."""
    check(lib.mematlas_lock(address, length, flags))


def unlock_memory(address: int, length: int) -> None:
    """Let pages be reclaimed again (munlock)."""
    check(lib.mematlas_unlock(address, length))


def lock_all(flags: int) -> None:
    """Lock the whole address space (mlockall); 0 unlocks it."""
    check(lib.mematlas_lock_all(flags))


def name_memory(address: int, length: int, name: str) -> None:
    """Name an anonymous mapping in /proc/PID/maps (PR_SET_VMA_ANON_NAME)."""
    check(lib.mematlas_name_memory(address, length, name.encode()))


def create_memfd(name: str, flags: int) -> int:
    """Open an anonymous file in memory (memfd_create)."""
    return check(lib.mematlas_memfd(name.encode(), flags))


def lend_memory(address: int, length: int) -> Any:
    """Memory at an address as a writable buffer that takes weak references; to be kept mapped."""
    return ffi.buffer(ffi.cast("char *", address), length)


def address_of(buffer: memoryview) -> int:
    """Give the address of a contiguous buffer's first byte."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer)))


def add_to_counter(address: int, amount: int) -> int:
    """Add to the 64-bit number at an address, atomically, and give the sum; 0 reads it."""
    return int(lib.mematlas_counter_add(ffi.cast("int64_t *", address), amount))
