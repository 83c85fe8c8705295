"""Encoding of protocol buffers: tags, varints, length-delimited fields."""

from __future__ import annotations

from functools import lru_cache

_VARINT, _LENGTH = 0, 2


@lru_cache(maxsize=1 << 12)  # of lengths and tags, which are few and small
def varint(value: int) -> bytes:
    """Encode a varint; a negative number as its 64-bit complement."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def number(field: int, value: int) -> bytes:
    """Encode a number field; 0 is the default and omitted."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def data(field: int, value: bytes) -> bytes:
    """Encode a bytes, string or message field."""
    return varint(field << 3 | _LENGTH) + varint(len(value)) + value
