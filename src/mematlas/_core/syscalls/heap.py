"""malloc of the C library."""

from __future__ import annotations

from mematlas._core.binding import check, ffi, lib
from mematlas._core.syscalls.mapping import map_memory, unmap_memory


def read_heap() -> str:
    """Read malloc_info(3), which is XML."""
    size = 1 << 20
    address = map_memory(size, 0x22)  # malloc would change what is read
    buffer = ffi.cast("char *", address)
    try:
        check(lib.mematlas_heap_describe(buffer, size))
        text: str = ffi.string(buffer).decode()
        return text
    finally:
        unmap_memory(address, size)


def trim_heap() -> bool:
    """Return free memory of malloc to the kernel (malloc_trim); False if there was none."""
    return check(lib.mematlas_heap_trim()) != 0
