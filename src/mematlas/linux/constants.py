"""Read-only data of ELF files: the texts in a program. The files are the observed program's: they may say anything."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OVERLAP = 64
"""Bytes that are seen twice where a piece ends: a text that is searched for is shorter."""
_PIECE = 128 << 10  # stays in the second-level cache while it is searched for several texts
_SECTION = struct.Struct("<II4Q24x")  # name, type, flags, address, offset, size
_MOST_SECTIONS = 4096
_MOST_NAMES = 1 << 20  # bytes


def find_constants(descriptor: int, most: int) -> tuple[tuple[int, int], ...]:
    """Return offset and length of the sections .rodata of an ELF file, `most` bytes in all; none if it has none.

    None either if the file cannot be read.
    """
    try:
        return tuple(_sections(*_headers(descriptor), most))
    except OSError:
        return ()


def _headers(descriptor: int) -> tuple[list[tuple[int, ...]], bytes, int]:
    """Read the section headers, the names of the sections, and the size of the file."""
    whole = os.fstat(descriptor).st_size
    nothing: tuple[list[tuple[int, ...]], bytes, int] = [], b"", whole
    header = os.pread(descriptor, 64, 0)
    if len(header) < 64 or header[:6] != b"\x7fELF\x02\x01":
        return nothing
    (at,) = struct.unpack_from("<Q", header, 40)
    size, count, names = struct.unpack_from("<3H", header, 58)
    if size != _SECTION.size or not names < count <= _MOST_SECTIONS or at > whole:
        return nothing
    table = os.pread(descriptor, size * count, at)
    if len(table) < size * count:
        return nothing
    rows = [_SECTION.unpack_from(table, size * each) for each in range(count)]
    offset, length = rows[names][4:6]
    if offset > whole or length > _MOST_NAMES:
        return nothing
    strings = os.pread(descriptor, length, offset)
    return rows, strings, whole


def _sections(
    rows: Iterable[tuple[int, ...]], strings: bytes, whole: int, most: int
) -> Iterator[tuple[int, int]]:
    for name, kind, _, _, offset, length in rows:
        size = min(length, whole - offset, most)
        if kind == 1 and size > 0 and strings.startswith(b".rodata", name):  # SHT_PROGBITS
            yield offset, size
            most -= size


def read_constants(descriptor: int, spans: Iterable[tuple[int, int]]) -> Iterator[bytearray]:
    """Yield the bytes of spans piece by piece, each time in the same buffer, after the end of the piece before."""
    buffer = bytearray(OVERLAP + _PIECE)
    view = memoryview(buffer)
    for offset, length in spans:
        view[:OVERLAP] = bytes(OVERLAP)
        at, end = offset, offset + length
        while at < end:
            try:
                got = os.preadv(descriptor, [view[OVERLAP : OVERLAP + min(_PIECE, end - at)]], at)
            except OSError:
                return
            if not got:
                break
            at += got
            if got < _PIECE:
                view[OVERLAP + got :] = bytes(_PIECE - got)
            yield buffer
            view[:OVERLAP] = bytes(view[got : got + OVERLAP])
