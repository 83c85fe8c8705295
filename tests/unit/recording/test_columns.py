"""Packed rows behave like an array of rows."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from mematlas._core.columns.trie import number_words, trie_add_up, trie_depths, trie_least
from mematlas.recording.columns import ChunkData, join_rows
from mematlas.recording.format import ShuffledRows
from mematlas.recording.row_types import AGE_MATRIX_DTYPE, TOTALS_DTYPE


def turned(rows: np.ndarray) -> ChunkData:
    """Return byte-shuffled rows."""
    size = rows.dtype.itemsize
    flat = np.frombuffer(rows.tobytes(), np.uint8).reshape(len(rows), size)
    return ChunkData(ShuffledRows(memoryview(flat.T.tobytes()), size))


@pytest.mark.parametrize("dtype", [AGE_MATRIX_DTYPE, TOTALS_DTYPE])
def test_turned_rows_are_the_rows(dtype: np.dtype[np.void]) -> None:
    """Columns, masks, slices and bytes of packed parts equal those of one array."""
    raw = np.random.default_rng(1).integers(0, 1 << 20, (90, dtype.itemsize // 4), np.uint32)
    whole = np.frombuffer(raw.tobytes(), dtype)
    plain = ChunkData(memoryview(whole[40:70].tobytes()))
    rows = join_rows(
        dtype, [turned(whole[:40]).part(dtype), plain.part(dtype), turned(whole[70:]).part(dtype)]
    )
    assert len(rows) == len(whole)
    for name in dtype.names or ():
        assert rows[name].tobytes() == np.ascontiguousarray(whole[name]).tobytes()
    mask = whole["stack"] % 3 == 0
    assert rows[mask].tobytes() == whole[mask].tobytes()
    assert rows[5:9].tobytes() == whole[5:9].tobytes()
    assert rows[-1].tobytes() == whole[-1].tobytes()
    assert np.asarray(rows).tobytes() == rows.tobytes() == whole.tobytes()
    assert copy.deepcopy(rows).tobytes() == whole.tobytes()


def test_no_rows_of_another_size() -> None:
    """Incomplete rows and rows of another size are refused."""
    with pytest.raises(ValueError, match="not rows of"):
        ChunkData(
            ShuffledRows(
                memoryview(bytes(AGE_MATRIX_DTYPE.itemsize + 1)), AGE_MATRIX_DTYPE.itemsize
            )
        ).rows(AGE_MATRIX_DTYPE)
    with pytest.raises(ValueError, match="not rows of"):
        ChunkData(ShuffledRows(memoryview(bytes(AGE_MATRIX_DTYPE.itemsize)), 8)).rows(
            AGE_MATRIX_DTYPE
        )


def test_words_are_numbered_as_numpy_does() -> None:
    """More words than the initial capacity are found."""
    words = np.random.default_rng(2).integers(0, 1 << 63, 100_000, np.uint64)
    words[::3] = words[0]
    distinct, numbers = number_words(words)
    expected, which = np.unique(words, return_inverse=True)
    assert (distinct == expected).all()
    assert (numbers == which).all()


def test_no_trie_is_refused() -> None:
    """A node before its parent is an error, and so are columns of the wrong length."""
    later = np.array([0, 2, 0], np.uint32)
    with pytest.raises(OSError, match="Invalid"):
        trie_depths(later)
    with pytest.raises(OSError, match="Invalid"):
        trie_least(later, np.zeros(3, np.uint32), np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="figures"):
        trie_add_up(np.zeros(3, np.uint32), np.zeros(2, np.int64))
