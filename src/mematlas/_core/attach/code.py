"""The code of a running process, read from its memory: no file of the process is opened."""

from __future__ import annotations

from typing import Any

from mematlas._core.binding import check, ffi, lib

_BUILD_ID_BYTES = 64


class ProcessCode:
    """The executable mappings of a process at one time."""

    def __init__(self, pid: int) -> None:
        """Read the mappings. OSError as of reading /proc/PID/maps."""
        out = ffi.new("struct mematlas_target **")
        check(lib.mematlas_target_create(pid, out))
        self.handle: Any = ffi.gc(out[0], lib.mematlas_target_destroy)

    def find_function(self, image: int, name: str) -> int:
        """Return the address of a function that the ELF file mapped at `image` defines; 0: none."""
        return int(lib.mematlas_target_function(self.handle, image, name.encode()))

    def read_build_id(self, image: int) -> bytes:
        """Return the build ID of the ELF file mapped at `image`; empty: it has none."""
        room = ffi.new("uint8_t[]", _BUILD_ID_BYTES)
        size = check(lib.mematlas_target_build_id(self.handle, image, room, _BUILD_ID_BYTES))
        return bytes(ffi.buffer(room, size))
