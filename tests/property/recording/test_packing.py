"""Packed rows are read back bit by bit."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mematlas.recording import format as atlas
from mematlas.recording.columns import ChunkData, join_rows
from mematlas.recording.packed import Packed, read_head, unpack_limit
from mematlas.recording.row_types import COLUMNS

NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_1234))[0]
DOUBLES = st.one_of(
    st.integers(0, 3).map(float),
    st.integers(0, 1 << 17).map(float),
    st.integers(0, 1 << 70).map(float),
    st.floats(width=64),
    st.sampled_from([NAN, -0.0, float(2**53 + 2), float(2**63), -1.0, 0.5, float("inf")]),
)
NUMBERS = st.one_of(st.integers(0, 3), st.integers(0, (1 << 32) - 1))
WORDS = st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1))
VALUES = {"<f8": DOUBLES, "<u4": NUMBERS, "<u8": WORDS}


def column(draw: st.DrawFn, code: str, count: int) -> np.ndarray:
    """Draw a column: few values, arbitrary values, or nearly constant."""
    values = VALUES[code]
    few = np.array(draw(st.lists(values, min_size=1, max_size=4)), code)
    found = np.full(count, few[0], code)
    kind = draw(st.integers(0, 2))
    places = st.lists(st.integers(0, len(few) - 1), min_size=count, max_size=count)
    if kind == 0:
        found[:] = few[np.array(draw(places), int)]
    elif kind == 1:
        found[:] = np.array(draw(st.lists(values, min_size=count, max_size=count)), code)
    elif count:
        found[draw(st.lists(st.integers(0, count - 1), max_size=3))] = few[-1]
    return found


@st.composite
def chunks(draw: st.DrawFn) -> tuple[bytes, np.ndarray]:
    """Draw a chunk type and rows, packed or not."""
    kind = draw(st.sampled_from(sorted(atlas._COLUMNS_OF)))
    columns = COLUMNS[atlas._COLUMNS_OF[kind]]
    count = draw(st.sampled_from([0, 1, 2, 30, 70, 300]))
    rows = np.zeros(count, np.dtype(columns))
    for name, code in columns:
        rows[name] = column(draw, code, count)
    return kind, rows


def by_stack(kind: bytes, rows: np.ndarray) -> np.ndarray:
    """Sort rows as they are packed."""
    if kind not in atlas._BY_STACK:
        return rows
    return rows[np.lexsort((rows["kind"], rows["stack"]))]


def pack(kind: bytes, rows: np.ndarray, first: int = 0) -> tuple[int, bytes]:
    """Return flags and payload of a chunk of rows."""
    chunk = atlas.pack_chunk(kind, {"first": first}, rows.tobytes())
    return atlas.HEAD.unpack_from(chunk)[1], chunk[atlas.CHUNK_HEAD :]


@given(chunks(), st.integers(0, 1 << 20))
def test_packed_rows_are_the_rows(drawn: tuple[bytes, np.ndarray], first: int) -> None:
    """NaN, -0.0, large integers, no row, one row: all bits are preserved."""
    kind, rows = drawn
    flags, payload = pack(kind, rows, first)
    facts, found = atlas.unpack_chunk(flags, payload)
    assert facts == atlas.unpack_metadata(flags, payload) == {"first": first}
    made = ChunkData(found).rows(rows.dtype)
    if flags == atlas.PACKED:
        assert isinstance(found, Packed)
        rows = by_stack(kind, rows)
        for name in rows.dtype.names or ():
            column = rows[name]
            narrow = made.narrow(name)  # type: ignore[attr-defined]
            assert narrow.dtype.itemsize <= column.dtype.itemsize
            assert np.array_equal(narrow, column, equal_nan=column.dtype.kind == "f")
    assert made.tobytes() == rows.tobytes()


@given(st.lists(WORDS, min_size=40, max_size=200), st.integers(0, 3))
def test_words_are_numbered(words: list[int], parts: int) -> None:
    """Words of several parts with their own dictionaries are numbered in ascending order."""
    rows = np.zeros(len(words) * (parts + 1), np.dtype(COLUMNS["NODE_DTYPE"]))
    rows["word"] = np.resize(np.array(words * 2, np.uint64)[::-1], len(rows))
    pieces = np.array_split(rows, parts + 1)

    made: Any = join_rows(
        rows.dtype,
        [
            ChunkData(atlas.unpack_chunk(*pack(atlas.NODES, each))[1]).part(rows.dtype)
            for each in pieces
        ],
    )
    distinct, numbers = made.numbered("word")
    assert (distinct == np.unique(rows["word"])).all()
    assert (distinct[numbers] == rows["word"]).all()
    assert set(made.distinct("word", 1).tolist()) == set(rows["word"][1:].tolist())


@given(chunks(), st.data())
def test_damaged_columns_are_refused_or_read(
    drawn: tuple[bytes, np.ndarray], data: st.DataObject
) -> None:
    """Arbitrary headers or columns give a known error or some values."""
    kind, rows = drawn
    flags, payload = pack(kind, rows)
    if flags != atlas.PACKED:
        return
    head = bytearray(zlib.decompress(read_head(memoryview(payload))))
    rest = bytearray(payload[8 + len(read_head(memoryview(payload))) :])
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(24, len(head) - 1), st.integers(0, 255)), max_size=3)
    ):
        head[at] = value
    if rest:
        for at, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(rest) - 1), st.integers(0, 255)), max_size=3)
        ):
            rest[at] = value
    deflated = zlib.compress(bytes(head), 1)
    try:
        _, found = atlas.unpack_chunk(
            flags, len(deflated).to_bytes(8, "little") + deflated + bytes(rest)
        )
        made = ChunkData(found).rows(rows.dtype)
        for name in rows.dtype.names or ():
            assert len(made[name]) == len(made)
    except atlas.MALFORMED:
        pass


@pytest.mark.parametrize("count", [1_000, 1_000_000])
def test_rows_all_alike_can_be_read(count: int) -> None:
    """Highly compressible rows are padded to the unpack limit."""
    rows = np.ones(count, np.dtype(COLUMNS["TOTALS_DTYPE"]))
    rows["stack"] = 7
    flags, payload = pack(atlas.TOTALS, rows)
    assert len(payload) < 1_000 + count
    _, found = atlas.unpack_chunk(flags, payload)
    assert (ChunkData(found).rows(rows.dtype)["bad_frees"] == 1).all()


def test_more_rows_than_believable_are_refused() -> None:
    """A few bytes that claim a billion rows are refused."""
    rows = np.ones(1000, np.dtype(COLUMNS["TOTALS_DTYPE"]))
    flags, payload = pack(atlas.TOTALS, rows)
    head = zlib.decompress(read_head(memoryview(payload)))
    many = head.replace((1000).to_bytes(8, "little"), (1 << 30).to_bytes(8, "little"))
    deflated = zlib.compress(many)
    bomb = len(deflated).to_bytes(8, "little") + deflated
    with pytest.raises(ValueError, match="exceed the limit"):
        atlas.unpack_chunk(flags, bomb)
    assert unpack_limit(len(bomb)) < 1 << 27
