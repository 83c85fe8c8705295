"""The .atlas file: magic, version, chunks. docs/recording/format.md is the specification.

All numbers are little-endian. A chunk is a header of 20 bytes (type, flags, payload length, CRC-32)
and a payload. A payload is the length of its metadata, the metadata as JSON padded with blanks to a
multiple of 8, and rows (`mematlas.recording.model`) or other bytes. Payloads of many rows are packed
by column (`mematlas.recording.packed`).

"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, NamedTuple

from mematlas.recording.packed import Packed, pack_rows, read_columns, read_head
from mematlas.recording.row_types import COLUMNS
from mematlas.recording.stored import FileSlice

Payload = bytes | FileSlice

MAGIC = b"\x89ATLAS\r\n"
VERSION = 4
OLDEST = 1  # oldest readable version; docs/recording/format.md lists the changes
START = struct.Struct("<8sII")  # magic, version, 0

HEAD = struct.Struct("<4sIQ")  # type, flags, payload length; followed by
CHECK = struct.Struct("<I")  # CRC-32 of those 16 bytes and the payload
CHUNK_HEAD = HEAD.size + CHECK.size

HEADER = b"HEAD"
PROCESS = b"PROC"
NODES = b"NODE"
MODULES = b"MODS"
CODES = b"CODE"
SNAPSHOT = b"SNAP"
TOTALS = b"TOTL"
CHANGED_TOTALS = b"CHNG"
LIFETIMES = b"LIFE"
AGE_MATRIX = b"AGES"
FRAGMENTATION = b"FRAG"
SHARING = b"SHAR"
IDLE = b"IDLE"
OBJECTS = b"OBJS"
HEAPS = b"HEAP"
BAD_FREES = b"BADF"
ROOM = b"ROOM"
TIMELINE = b"TIME"
FAULT_SITES = b"FALT"
FRAMES = b"FRAM"
NOTES = b"NOTE"
MARK = b"MARK"
GRAPH = b"GRPH"
END = b"END "

RENAMED_TYPES = {b"PINS": FRAGMENTATION, b"COLD": IDLE, b"TOUC": FAULT_SITES}
RENAMED_METADATA = {"cold_bytes": "idle_bytes", "places": "parts"}
"""Names of version 3 and older, with the current ones."""

BAD_FREE_FIELDS = (
    *("time_s", "stack", "address", "reason", "block_stack", "freed_stack"),
    *("block_address", "block_bytes", "freed_s"),
)
HEAP_FIELDS = ("start", "size", "in_use", "free", "trimmable", "main", "top")

_COLUMNS_OF = {
    NODES: "NODE_DTYPE",
    SNAPSHOT: "SNAPSHOT_DTYPE",
    TOTALS: "TOTALS_DTYPE",
    CHANGED_TOTALS: "TOTALS_DTYPE",
    LIFETIMES: "LIFETIMES_DTYPE",
    AGE_MATRIX: "AGE_MATRIX_DTYPE",
    FRAGMENTATION: "FRAGMENTATION_DTYPE",
    SHARING: "SHARING_DTYPE",
    IDLE: "IDLE_DTYPE",
    OBJECTS: "OBJECTS_DTYPE",
    TIMELINE: "TIMELINE_DTYPE",
    FAULT_SITES: "FAULT_SITES_DTYPE",
    GRAPH: "GRAPH_DTYPE",
}
_BY_STACK = (
    *(SNAPSHOT, TOTALS, CHANGED_TOTALS, LIFETIMES, AGE_MATRIX, FRAGMENTATION, SHARING, IDLE),
)
"""Chunks whose rows are sorted by (stack, kind): they pack best, and readers can join without a sort."""

COMPRESSED = 1  # flag: the payload is a zlib stream
PACKED = 2  # flag: the payload has packed columns
_ROW_SHIFT = 8  # from this bit on: row size of byte-shuffled rows,
_MOST_ROW = 255  # which version 2 had instead of packed columns
_COMPRESS_FROM = 512
_METADATA_PEEK = 1 << 16  # bytes; metadata of a snapshot fit
_MOST_INFLATED = 64 << 20  # bytes; a larger result is refused unless the payload has
_MOST_RATIO = 200  # at least this fraction of it; exact sums, mostly zeros, shrink to 1/50
_MOST_METADATA = 256 << 20
_METADATA_LENGTH = struct.Struct("<Q")


MALFORMED = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    OverflowError,
    RecursionError,
    struct.error,
    zlib.error,
)
"""Exceptions raised on a malformed chunk."""


def pack_chunk(kind: bytes, metadata: dict[str, Any], rows: bytes | memoryview = b"") -> bytes:
    """Return one complete chunk, packed or compressed if that is smaller.

    Raises ValueError if `rows` are not rows of this chunk type.
    """
    text = json.dumps(metadata, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    text = _METADATA_LENGTH.pack(len(text)) + text
    columns = _COLUMNS_OF.get(kind)
    flags = COMPRESSED if len(text) + len(rows) >= _COMPRESS_FROM else 0
    if flags and columns and len(rows):
        flags = PACKED
        first, ascending = metadata.get("first", 0), kind in _BY_STACK
        payload = pack_rows(text, COLUMNS[columns], rows, first=first, ascending=ascending)
    else:
        payload = b"".join((text, rows))
        payload = zlib.compress(payload, 1) if flags else payload
    head = HEAD.pack(kind, flags, len(payload))
    return b"".join((head, CHECK.pack(zlib.crc32(payload, zlib.crc32(head))), payload))


def unpack_metadata(flags: int, payload: Payload) -> dict[str, Any]:
    """Return the metadata of a chunk without inflating its rows."""
    if flags & COMPRESSED and not isinstance(payload, FileSlice):
        start = zlib.decompressobj().decompress(payload, _METADATA_PEEK)
        if len(start) >= _METADATA_LENGTH.size:
            end = _METADATA_LENGTH.size + _METADATA_LENGTH.unpack_from(start)[0]
            if end <= len(start):
                return unpack_chunk(0, start[:end])[0]
    return unpack_chunk(flags, payload)[0]


class ShuffledRows(NamedTuple):
    """Byte-shuffled rows: the first byte of each row, then the second of each, and so on."""

    data: memoryview
    size: int  # bytes of a row


def unpack_chunk(
    flags: int, payload: Payload
) -> tuple[dict[str, Any], memoryview | ShuffledRows | Packed]:
    """Return the metadata of a chunk and its rows as stored. The CRC must have been checked.

    Raises ValueError, struct.error or zlib.error if malformed.
    """
    if flags == PACKED:
        data = payload if isinstance(payload, FileSlice) else memoryview(payload)
        head = read_head(data)
        metadata, described = _split(memoryview(_inflate(head)))
        return metadata, read_columns(described, data, len(head))
    if isinstance(payload, FileSlice):
        payload = bytes(payload[:])
    size = flags >> _ROW_SHIFT
    if flags & ((1 << _ROW_SHIFT) - 1) & ~COMPRESSED or size > _MOST_ROW:
        message = f"unknown flags {flags:#x}"
        raise ValueError(message)
    metadata, rows = _split(memoryview(_inflate(payload) if flags & COMPRESSED else payload))
    return metadata, ShuffledRows(rows, size) if size else rows


def _split(data: memoryview) -> tuple[dict[str, Any], memoryview]:
    """Split a payload into metadata and the bytes after it."""
    if len(data) < _METADATA_LENGTH.size:
        message = "payload too short"
        raise ValueError(message)
    (length,) = _METADATA_LENGTH.unpack_from(data)
    end = _METADATA_LENGTH.size + length
    if end > len(data):
        message = "metadata exceeds the payload"
        raise ValueError(message)
    if length > _MOST_METADATA:
        message = f"metadata of {length:,} bytes is too large"
        raise ValueError(message)
    metadata = json.loads(bytes(data[_METADATA_LENGTH.size : end]))
    if not isinstance(metadata, dict):
        message = "metadata is not a JSON object"
        raise TypeError(message)
    return {str(RENAMED_METADATA.get(name, name)): metadata[name] for name in metadata}, data[end:]


def inflate_limit(packed: int) -> int:
    """Return the size limit for inflating `packed` bytes; more is taken for a decompression bomb."""
    return max(_MOST_INFLATED, _MOST_RATIO * packed)


def _inflate(payload: bytes | memoryview) -> bytes:
    """Inflate a payload up to inflate_limit(). Raises ValueError beyond."""
    stream = zlib.decompressobj()
    data = stream.decompress(payload, inflate_limit(len(payload)))
    if not stream.eof:
        message = "a chunk is truncated or inflates beyond the limit"
        raise ValueError(message)
    return data
