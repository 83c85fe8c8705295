"""Line tables of CPython code objects: the lines of instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas._core.columns.linetable import lines_at

if TYPE_CHECKING:
    from collections.abc import Sequence

PEP626, LOCATIONS = 1, 2  # enum trace_linetable: CPython 3.10; 3.11 and later


def decode(linetable_format: int, linetable: bytes, first_line: int, offset: int) -> int | None:
    """Return the line of the instruction at a byte offset in co_code; None if it has none."""
    return decode_all(linetable_format, linetable, first_line, (offset,))[0]


def decode_all(
    linetable_format: int, linetable: bytes, first_line: int, offsets: Sequence[int]
) -> list[int | None]:
    """Return the line of each instruction at ascending byte offsets in co_code; None for those that have none."""
    if linetable_format not in {PEP626, LOCATIONS}:
        return [None] * len(offsets)
    return lines_at(linetable_format, linetable, first_line, offsets)
