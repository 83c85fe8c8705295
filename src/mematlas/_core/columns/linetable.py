"""Line tables of CPython code objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core.binding import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_LINE = -(1 << 63)


def lines_at(
    linetable_format: int, table: bytes, first_line: int, offsets: Sequence[int]
) -> list[int | None]:
    """Return the line of the instruction at each byte offset (below 2^32); None where there is none.

    The offsets ascend, else OSError EINVAL. `linetable_format` is enum trace_linetable.
    """
    found = ffi.new("int64_t[]", len(offsets))
    check(
        lib.mematlas_linetable_lines(
            linetable_format,
            ffi.from_buffer("uint8_t[]", table),
            len(table),
            first_line,
            ffi.new("uint32_t[]", offsets),
            len(offsets),
            found,
        )
    )
    return [None if line == _NO_LINE else line for line in ffi.unpack(found, len(offsets))]
