"""Decoder of CPython line tables: the line of an instruction."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PEP626, LOCATIONS = 1, 2  # enum trace_linetable: CPython 3.10; 3.11 and later
_LONG, _NO_COLUMNS, _NO_LOCATION = 14, 13, 15
_ONE_LINE = range(10, 13)
_NO_LINE = -(1 << 63)


def decode(linetable_format: int, linetable: bytes, first_line: int, offset: int) -> int | None:
    """Return the line of the instruction at a byte offset in co_code; None if it has none."""
    ends, lines = _table(linetable_format, linetable, first_line)
    at = bisect_right(ends, offset)
    return lines[at] if at < len(lines) and lines[at] != _NO_LINE else None


# Recordings of one program, as of the tests of a suite, have the same code objects. An entry takes about 2 KB.
@lru_cache(maxsize=4096)
def _table(
    linetable_format: int, linetable: bytes, first_line: int
) -> tuple[array[int], array[int]]:
    """Return the end of each instruction range, and its line or _NO_LINE."""
    ends, lines = array("q"), array("q")
    entries = {PEP626: _pep626, LOCATIONS: _locations}.get(linetable_format)
    if entries is None:
        return ends, lines
    end = 0
    try:
        for size, line in entries(linetable, first_line):
            end += size
            lines.append(_NO_LINE if line is None else line)
            ends.append(end)
    except (IndexError, OverflowError):  # a truncated table, or one that is none
        pass
    return ends, lines


def _pep626(table: bytes, line: int) -> Iterator[tuple[int, int | None]]:
    for at in range(0, len(table) - 1, 2):
        step = table[at + 1] - 256 if table[at + 1] > 127 else table[at + 1]
        if step == -128:
            yield table[at], None
        else:
            line += step
            yield table[at], line


def _locations(table: bytes, line: int) -> Iterator[tuple[int, int | None]]:
    """Yield (bytes, line) per entry of a 3.11 table (CPython: Objects/locations.md)."""
    at = 0
    while at < len(table):
        code, size = table[at] >> 3 & 15, 2 * ((table[at] & 7) + 1)
        at += 1
        if code == _NO_LOCATION:
            yield size, None
            continue
        if code in {_LONG, _NO_COLUMNS}:
            step, at = _varint(table, at)
            line += -(step >> 1) if step & 1 else step >> 1
            for _ in range(3 if code == _LONG else 0):
                _, at = _varint(table, at)
        elif code in _ONE_LINE:
            line, at = line + code - _ONE_LINE.start, at + 2
        else:
            at += 1
        yield size, line


def _varint(table: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = table[at]
        value |= (byte & 63) << shift
        at, shift = at + 1, shift + 6
        if not byte & 64:
            return value, at
