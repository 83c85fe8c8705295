"""Rows packed by column. docs/recording/format.md specifies the layout.

A payload is the length of its header, the header (deflated: metadata and column descriptions) and the
columns, each deflated separately, so that a reader inflates only the columns it needs.

"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from mematlas._core.columns.packing import ColumnPacker, Packing, Way

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.recording.stored import FileSlice

    Columns = Sequence[tuple[str, str]]

_HEAD_LENGTH = struct.Struct("<Q")
_ROWS = struct.Struct("<QII")  # rows, columns, 0; followed by one _COLUMN per column
_COLUMN = struct.Struct("<4B3IQQ")  # packing, and length in the file

_MOST_UNPACKED = 64 << 20  # bytes of values; a larger result is refused unless the payload has
_MOST_RATIO = 400  # at least this fraction of it; exact sums shrink to 1/100
_WAYS = {"stack": Way.STEPS, "parent": Way.BEHIND}
_WAYS_OF_TYPES = {"<f8": Way.WHOLE, "<u8": Way.WORDS, "<u4": Way.BITS}


class PackedColumn(NamedTuple):
    """One packed column and its position in the data."""

    packing: Packing
    start: int
    length: int


class Packed(NamedTuple):
    """Packed rows of a chunk, as stored."""

    data: memoryview | FileSlice
    rows: int
    columns: tuple[PackedColumn, ...]

    def inflate(self, column: int) -> bytes | memoryview:
        """Inflate a column to its packed form. Raises ValueError or zlib.error if malformed."""
        packing, start, length = self.columns[column]
        size = packing.size(self.rows)
        data = self.data[start : start + length]
        if length == size:
            return data
        stream = zlib.decompressobj()
        found = stream.decompress(data, size)
        if len(found) != size or stream.decompress(stream.unconsumed_tail, 1):
            message = f"a column does not inflate to {size} bytes"
            raise ValueError(message)
        return found

    def words(self, column: int) -> bytes | memoryview:
        """Inflate the words of a column only, 8 bytes each. Raises ValueError or zlib.error if malformed."""
        packing, start, length = self.columns[column]
        data, size = self.data[start : start + length], 8 * packing.words
        found = data[:size]
        if length != packing.size(self.rows):
            found = memoryview(zlib.decompressobj().decompress(data, size) if size else b"")
        if len(found) != size:
            message = "words are truncated"
            raise ValueError(message)
        return found

    @property
    def unpacked(self) -> int:
        """Bytes of all values when unpacked."""
        return _unpacked(self.rows, len(self.columns))


def pack_rows(
    metadata: bytes, columns: Columns, rows: bytes | memoryview, *, first: int, ascending: bool
) -> bytes:
    """Return the payload of a chunk whose first row has number `first`.

    With `ascending`, rows are sorted by stack and kind. Raises ValueError if `rows` are not such rows.
    """
    packer = ColumnPacker(rows, [int(code[2:]) for _, code in columns], ascending=ascending)
    head = [metadata, _ROWS.pack(packer.count, len(columns), 0)]
    packed = []
    for number, (name, code) in enumerate(columns):
        packing, data = packer.pack(number, _WAYS.get(name, _WAYS_OF_TYPES[code]), first)
        deflated = zlib.compress(data, 1)
        packed.append(deflated if len(deflated) < len(data) else bytes(data))
        head.append(_COLUMN.pack(*packing, len(packed[-1])))
    start = zlib.compress(b"".join(head), 1)
    payload = b"".join((_HEAD_LENGTH.pack(len(start)), start, *packed))
    return payload + bytes(_padding_bytes(_unpacked(packer.count, len(columns)), len(payload)))


def _padding_bytes(unpacked: int, packed: int) -> int:
    """Count the zero bytes to append so that the payload passes the reader's unpack limit."""
    least = -(-unpacked // _MOST_RATIO) if unpacked > _MOST_UNPACKED else 0
    return max(0, least - packed)


def read_head(payload: memoryview | FileSlice) -> memoryview:
    """Return the deflated header. Raises ValueError or struct.error if it is cut."""
    (length,) = _HEAD_LENGTH.unpack_from(payload[: _HEAD_LENGTH.size])
    head = payload[_HEAD_LENGTH.size : _HEAD_LENGTH.size + length]
    if len(head) != length:
        message = "the header is truncated"
        raise ValueError(message)
    return head


def read_columns(described: memoryview, payload: memoryview | FileSlice, start: int) -> Packed:
    """Parse the column descriptions after the metadata. Raises ValueError if they do not fit the payload."""
    rows, count, _ = _ROWS.unpack_from(described)
    entries = described[_ROWS.size :]
    if len(entries) != count * _COLUMN.size:
        message = "column descriptions do not match the columns"
        raise ValueError(message)
    if _unpacked(rows, count) > unpack_limit(len(payload)):
        message = f"{rows:,} rows in {len(payload):,} bytes exceed the limit"
        raise ValueError(message)
    columns, start = [], _HEAD_LENGTH.size + start
    for *packing, length in _COLUMN.iter_unpack(entries):
        columns.append(PackedColumn(Packing(*packing), start, length))
        columns[-1].packing.size(rows)
        start += length
    if start > len(payload):
        message = "columns are truncated"
        raise ValueError(message)
    return Packed(payload, rows, tuple(columns))


def unpack_limit(packed: int) -> int:
    """Return the limit of values for a payload; more is taken for a decompression bomb."""
    return max(_MOST_UNPACKED, _MOST_RATIO * packed)


def _unpacked(rows: int, columns: int) -> int:
    return 8 * rows * columns
