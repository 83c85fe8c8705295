"""malloc of the C library."""

from __future__ import annotations

from mematlas._core.binding import check, ffi, lib
from mematlas._core.syscalls.mapping import map_memory, unmap_memory


def read_heap() -> tuple[str, int, int]:
    """Read malloc_info(3), and the number and bytes of mmapped blocks (mallinfo2)."""
    size, heap = 1 << 20, ffi.new("struct mematlas_heap *")
    address = map_memory(size, 0x22)  # malloc would change what is read
    buffer = ffi.cast("char *", address)
    try:
        lib.mematlas_heap_read(heap)
        check(lib.mematlas_heap_describe(buffer, size))
        return ffi.string(buffer).decode(), heap.mapped_blocks, heap.mapped_bytes
    finally:
        unmap_memory(address, size)


def trim_heap() -> bool:
    """Return free memory of malloc to the kernel (malloc_trim); False if there was none."""
    return check(lib.mematlas_heap_trim()) != 0
