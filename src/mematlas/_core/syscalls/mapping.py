"""System calls on mappings, buffers over memory, and atomic counters."""

from __future__ import annotations

from typing import Any

from mematlas._core.binding import check, ffi, lib


def map_memory(length: int, flags: int, descriptor: int = -1) -> int:
    """Map readable, writable memory (mmap) and return its address."""
    address = ffi.new("uint64_t *")
    check(lib.mematlas_map(length, flags, descriptor, address))
    return int(address[0])


def unmap_memory(address: int, length: int) -> None:
    """Unmap a range (munmap)."""
    check(lib.mematlas_unmap(address, length))


def protect_memory(address: int, length: int, protection: int) -> None:
    """Set the protection of pages (mprotect)."""
    check(lib.mematlas_protect(address, length, protection))


def advise(address: int, length: int, advice: int) -> None:
    """Advise the kernel about pages (madvise)."""
    check(lib.mematlas_advise(address, length, advice))


def lock_memory(address: int, length: int, flags: int) -> None:
    """Lock pages in memory (mlock2)."""
    check(lib.mematlas_lock(address, length, flags))


def unlock_memory(address: int, length: int) -> None:
    """Unlock pages (munlock)."""
    check(lib.mematlas_unlock(address, length))


def lock_all(flags: int) -> None:
    """Lock the address space (mlockall), or unlock it with flags 0 (munlockall)."""
    check(lib.mematlas_lock_all(flags))


def name_memory(address: int, length: int, name: str) -> None:
    """Name an anonymous mapping in /proc/PID/maps (PR_SET_VMA_ANON_NAME)."""
    check(lib.mematlas_name_memory(address, length, name.encode()))


def create_memfd(name: str, flags: int) -> int:
    """Open an anonymous file in memory (memfd_create)."""
    return check(lib.mematlas_memfd(name.encode(), flags))


def create_secret_memfd() -> int:
    """Open a file in memory that only mappings of it can reach (memfd_secret)."""
    return check(lib.mematlas_memfd_secret(1 << 19))  # O_CLOEXEC


def wipe_memory(address: int, length: int) -> None:
    """Overwrite memory with zeros."""
    lib.mematlas_wipe(address, length)


def buffer_at(address: int, length: int) -> Any:
    """Return a writable buffer over memory, which must stay mapped. It supports weak references."""
    return ffi.buffer(ffi.cast("char *", address), length)


def address_of(buffer: memoryview) -> int:
    """Return the address of a contiguous buffer's first byte."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(buffer)))


def add_to_counter(address: int, amount: int) -> int:
    """Add to the 64-bit number at an address atomically and return the sum; 0 reads it."""
    return int(lib.mematlas_counter_add(ffi.cast("int64_t *", address), amount))
