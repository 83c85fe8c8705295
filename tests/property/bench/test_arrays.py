"""The benchmarks' loops on arrays against their NumPy twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mematlas import bench
from mematlas._core.bench.patterns import sum_pattern
from mematlas.errors import UsageError

SIDES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 128, 129, 192, 260]))
TYPES = st.sampled_from(["u1", "<i2", "<f4", "<f8", "<c16", "<M8[ns]"])


def drawn(seed: int, *shape: int) -> Any:
    """Random doubles."""
    return np.random.default_rng(seed).standard_normal(shape)


@given(SIDES, SIDES, TYPES, st.sampled_from(["tiles", "halves", "rows"]), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_transpose_is_the_transpose(
    rows: int, columns: int, kind: str, method: bench.TransposeMethod, shift: int
) -> None:
    """Any shape, element size and method, rows apart or not, at any alignment of elements."""
    dtype = np.dtype(kind)
    raw = np.random.default_rng(rows * 1000 + columns).bytes(
        (columns + shift) * rows * dtype.itemsize
    )
    wide = np.frombuffer(raw, dtype).reshape(rows, columns + shift)
    source = wide[:, shift:]
    expected = source.T.copy()
    turned = bench.transpose(source, method=method)
    assert turned.tobytes() == expected.tobytes()
    room = np.zeros((columns, rows + shift), dtype)
    bench.transpose(source, room[:, shift:], method=method)
    assert room[:, shift:].tobytes() == expected.tobytes()
    assert not room[:, :shift].tobytes().strip(b"\0")


def test_transpose_of_lines_that_fit() -> None:
    """The vector tiles, with and without rests, wherever in a cache line the target begins."""
    for rows, columns in ((128, 256), (136, 300), (32, 128), (1000, 1000), (8, 500)):
        source = drawn(1, rows, columns)
        for into in range(8):
            room = np.full(columns * rows + 16, np.nan)
            skip = (64 - room.ctypes.data % 64) % 64 // 8 + into
            end = skip + columns * rows
            out = room[skip:end].reshape(columns, rows)
            assert (bench.transpose(source, out) == source.T).all()
            assert np.isnan(room[:skip]).all()
            assert np.isnan(room[end:]).all()
        assert bench.transpose(source).ctypes.data % 64 == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda a: bench.transpose(a[0]),
        lambda a: bench.transpose(a[:, ::2]),
        lambda a: bench.transpose(a[::-1]),
        lambda a: bench.transpose(a, a.T),
        lambda a: bench.transpose(a, np.zeros((3, 3))),
        lambda a: bench.transpose(a, method="magic"),  # type: ignore[arg-type]
        lambda a: bench.transpose(a.astype(object)),
        lambda a: bench.prefetch_sum(a[0].view("u8"), a[1].view("u8"), distance=-1),
    ],
)
def test_wrong_input_is_refused(wrong: Any) -> None:
    """One clear error, and no memory touched."""
    with pytest.raises(UsageError):
        wrong(np.arange(64.0).reshape(8, 8))


@given(st.integers(1, 200), st.integers(0, 300), st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_prefetch_changes_no_sum(values: int, count: int, distance: int, rounds: int) -> None:
    """However far ahead is looked, the sum is that of NumPy."""
    rng = np.random.default_rng(values * 7 + count)
    table = rng.integers(0, 2**63, values).astype(np.uint64)
    index = rng.integers(0, values, count).astype(np.uint64)
    digest = table[index]
    for _ in range(rounds):
        digest = (digest ^ digest >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    found = bench.prefetch_sum(table, index, distance=distance, rounds=rounds)
    assert found == int(digest.sum(dtype=np.uint64))


def test_an_index_outside_is_refused() -> None:
    """IndexError, as NumPy gives."""
    with pytest.raises(IndexError):
        bench.prefetch_sum(np.zeros(4, np.uint64), np.array([4], np.uint64))


@given(st.integers(0, 20), st.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_patterns_read_each_element_once(rows: int, columns: int) -> None:
    """Along rows and down columns give the sum of the matrix."""
    matrix = np.random.default_rng(9).integers(0, 2**62, (rows, columns)).astype(np.uint64)
    base, row = matrix.ctypes.data, columns * 8
    expected = int(matrix.sum(dtype=np.uint64))
    assert sum_pattern(base, rows, row, columns, 8)[0] == expected
    assert sum_pattern(base, columns, 8, rows, row)[0] == expected
