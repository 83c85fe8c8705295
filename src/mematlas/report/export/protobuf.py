"""The few rules of protocol buffers that writing a message takes: tags, varints, lengths."""

from __future__ import annotations

from functools import lru_cache

_VARINT, _LENGTH = 0, 2


@lru_cache(maxsize=1 << 12)  # of lengths and tags, which are few and small
def varint(value: int) -> bytes:
    """Seven bits a byte, low bits first; a negative number as its 64 bit complement."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def number(field: int, value: int) -> bytes:
    """Write a number; 0 is what is not there."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def data(field: int, value: bytes) -> bytes:
    """Write bytes, a string or a message."""
    return varint(field << 3 | _LENGTH) + varint(len(value)) + value
