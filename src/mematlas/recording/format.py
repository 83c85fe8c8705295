"""The .atlas file, version 2: magic, version, then chunks. docs/recording-format.md tells the rest.

Every number is little-endian. A chunk is a head of 20 bytes (type, flags, payload length, CRC-32)
and a payload; a payload is the length of its facts, the facts as JSON padded with blanks to a
multiple of 8, and rows: columns as in `mematlas.model.recording`, or other bytes.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from mematlas.model.recording import COLUMNS
from mematlas.native.trie import turn_rows

MAGIC = b"\x89ATLAS\r\n"
VERSION = 2
OLDEST = 1  # that can be read: rows in their own order alone
START = struct.Struct("<8sII")  # magic, version, 0

HEAD = struct.Struct("<4sIQ")  # type, flags, payload length; followed by
CHECK = struct.Struct("<I")  # the CRC-32 of those 16 bytes and the payload
CHUNK_HEAD = HEAD.size + CHECK.size

HEADER = b"HEAD"
PROCESS = b"PROC"
NODES = b"NODE"
MODULES = b"MODS"
CODES = b"CODE"
SNAPSHOT = b"SNAP"
TOTALS = b"TOTL"
LIVES = b"LIFE"
AGES = b"AGES"
PINS = b"PINS"
COLD = b"COLD"
OBJECTS = b"OBJS"
HEAPS = b"HEAP"
TIMELINE = b"TIME"
TOUCHES = b"TOUC"
FRAMES = b"FRAM"
NOTES = b"NOTE"
END = b"END "

HEAP_FACTS = ("start", "size", "in_use", "free", "trimmable", "main", "top")

_COLUMNS_OF = {
    NODES: "NODE_DTYPE",
    SNAPSHOT: "SNAPSHOT_DTYPE",
    TOTALS: "TOTALS_DTYPE",
    LIVES: "LIVES_DTYPE",
    AGES: "AGES_DTYPE",
    PINS: "PINS_DTYPE",
    COLD: "COLD_DTYPE",
    OBJECTS: "OBJECTS_DTYPE",
    TIMELINE: "TIMELINE_DTYPE",
    TOUCHES: "TOUCHES_DTYPE",
}

COMPRESSED = 1  # flag: the payload is a zlib stream
_ROW_SHIFT = 8  # flags from here on: bytes of a row, if the rows' first bytes come first, then
_MOST_ROW = 255  # their second ones, and so on, which packs to a third
_COMPRESS_FROM = 512
_FACTS_PEEK = 1 << 16  # bytes; the facts of a snapshot fit
_MOST_INFLATED = 64 << 20  # bytes; larger chunks must have cost their writer something,
_MOST_RATIO = 200  # at least this share of it: exact sums, mostly zeros, shrink to a fiftieth
_MOST_FACTS = 256 << 20
_FACTS_LENGTH = struct.Struct("<Q")


def pack_chunk(kind: bytes, facts: dict[str, Any], rows: bytes | memoryview = b"") -> bytes:
    """One whole chunk, compressed where that pays."""
    text = json.dumps(facts, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    flags = 0
    if _FACTS_LENGTH.size + len(text) + len(rows) >= _COMPRESS_FROM:
        size = row_bytes(kind)
        flags = COMPRESSED | size << _ROW_SHIFT
        rows = memoryview(turn_rows(rows, len(rows) // size, size)) if size else rows
    payload = b"".join((_FACTS_LENGTH.pack(len(text)), text, rows))
    if flags:
        payload = zlib.compress(payload, 1)
    head = HEAD.pack(kind, flags, len(payload))
    return b"".join((head, CHECK.pack(zlib.crc32(payload, zlib.crc32(head))), payload))


def row_bytes(kind: bytes) -> int:
    """Bytes of a row of such chunks; 0 where they have none, or rows of other bytes."""
    name = _COLUMNS_OF.get(kind)
    return sum(int(code[2:]) for _, code in COLUMNS[name]) if name else 0


def by_row(data: memoryview, size: int) -> memoryview:
    """Give turned rows of `size` bytes in their own order. ValueError if they are none."""
    count, left = divmod(len(data), size)
    if left:
        message = f"{len(data)} bytes are no rows of {size}"
        raise ValueError(message)
    return memoryview(turn_rows(data, size, count)).toreadonly()


def unpack_facts(flags: int, payload: bytes) -> dict[str, Any]:
    """Facts alone, without inflating all of the rows after them."""
    if flags & COMPRESSED:
        start = zlib.decompressobj().decompress(payload, _FACTS_PEEK)
        if len(start) >= _FACTS_LENGTH.size:
            end = _FACTS_LENGTH.size + _FACTS_LENGTH.unpack_from(start)[0]
            if end <= len(start):
                return unpack_payload(0, start[:end])[0]
    return unpack_payload(flags, payload)[0]


def unpack_payload(flags: int, payload: bytes) -> tuple[dict[str, Any], memoryview]:
    """Facts and rows of a chunk whose check has passed. ValueError or zlib.error if malformed."""
    facts, data, size = unpack_turned(flags, payload)
    return facts, by_row(data, size) if size else data


def unpack_turned(flags: int, payload: bytes) -> tuple[dict[str, Any], memoryview, int]:
    """Facts, rows as they are in the file, and the bytes of a row if they are turned; else 0. Errors as above."""
    size = flags >> _ROW_SHIFT
    if flags & ((1 << _ROW_SHIFT) - 1) & ~COMPRESSED or size > _MOST_ROW:
        message = f"unknown flags {flags:#x}"
        raise ValueError(message)
    data = memoryview(_inflate(payload) if flags & COMPRESSED else payload)
    if len(data) < _FACTS_LENGTH.size:
        message = "payload too short"
        raise ValueError(message)
    (length,) = _FACTS_LENGTH.unpack_from(data)
    end = _FACTS_LENGTH.size + length
    if end > len(data):
        message = "facts run over the end"
        raise ValueError(message)
    if length > _MOST_FACTS:
        message = f"{length:,} bytes of facts"
        raise ValueError(message)
    facts = json.loads(bytes(data[_FACTS_LENGTH.size : end]))
    if not isinstance(facts, dict):
        message = "facts are no object"
        raise TypeError(message)
    return facts, data[end:], size


def most_inflated(packed: int) -> int:
    """How many bytes so many may inflate to, before they are taken for an attack on memory."""
    return max(_MOST_INFLATED, _MOST_RATIO * packed)


def _inflate(payload: bytes) -> bytes:
    """Inflate, up to a limit: a megabyte of zlib can hold a gigabyte of nothing."""
    stream = zlib.decompressobj()
    data = stream.decompress(payload, most_inflated(len(payload)))
    if not stream.eof:
        message = "a chunk is cut, or inflates to more than any recording holds"
        raise ValueError(message)
    return data
