"""The .atlas file, version 1: magic, version, then chunks. docs/recording-format.md tells the rest.

Every number is little-endian. A chunk is a head of 20 bytes (type, flags, payload length, CRC-32)
and a payload; a payload is the length of its facts, the facts as JSON padded with blanks to a
multiple of 8, and rows: columns as in `mematlas.model.recording`, or other bytes.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

MAGIC = b"\x89ATLAS\r\n"
VERSION = 1
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

COMPRESSED = 1  # flag: the payload is a zlib stream
_COMPRESS_FROM = 512
_FACTS_PEEK = 1 << 16  # bytes; the facts of a snapshot fit
_MOST_INFLATED = 64 << 20  # bytes; larger chunks must have cost their writer something,
_MOST_RATIO = 40  # at least this share of it: real ones shrink to a tenth
_MOST_FACTS = 256 << 20
_FACTS_LENGTH = struct.Struct("<Q")


def pack_chunk(kind: bytes, facts: dict[str, Any], rows: bytes | memoryview = b"") -> bytes:
    """One whole chunk, compressed where that pays."""
    text = json.dumps(facts, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    payload = b"".join((_FACTS_LENGTH.pack(len(text)), text, rows))
    flags = 0
    if len(payload) >= _COMPRESS_FROM:
        payload, flags = zlib.compress(payload, 1), COMPRESSED
    head = HEAD.pack(kind, flags, len(payload))
    return b"".join((head, CHECK.pack(zlib.crc32(payload, zlib.crc32(head))), payload))


def unpack_facts(flags: int, payload: bytes) -> dict[str, Any]:
    """Facts alone, without inflating all of the rows after them."""
    if flags & COMPRESSED:
        start = zlib.decompressobj().decompress(payload, _FACTS_PEEK)
        if len(start) >= _FACTS_LENGTH.size:
            end = _FACTS_LENGTH.size + _FACTS_LENGTH.unpack_from(start)[0]
            if end <= len(start):
                return unpack_payload(flags & ~COMPRESSED, start[:end])[0]
    return unpack_payload(flags, payload)[0]


def unpack_payload(flags: int, payload: bytes) -> tuple[dict[str, Any], memoryview]:
    """Facts and rows of a chunk whose check has passed. ValueError or zlib.error if malformed."""
    if flags & ~COMPRESSED:
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
    return facts, data[end:]


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
