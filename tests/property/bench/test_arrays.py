"""Benchmark loops on arrays, compared with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mematlas import bench
from mematlas._core.bench.kernels import kernel_names
from mematlas._core.bench.patterns import sum_pattern, transpose_kernel
from mematlas.errors import UsageError

SIDES = st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 128, 129, 192, 260]))
TYPES = st.sampled_from(["u1", "<i2", "<f4", "<f8", "<c16", "<M8[ns]"])


def drawn(seed: int, *shape: int) -> Any:
    """Return random doubles."""
    return np.random.default_rng(seed).standard_normal(shape)


@given(SIDES, SIDES, TYPES, st.sampled_from(["tiles", "halves", "rows"]), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_transpose_is_the_transpose(
    rows: int, columns: int, kind: str, method: bench.TransposeMethod, shift: int
) -> None:
    """Any shape, element size, method, row distance and alignment of elements."""
    dtype = np.dtype(kind)
    raw = np.random.default_rng(rows * 1000 + columns).bytes(
        (columns + shift) * rows * dtype.itemsize
    )
    wide = np.frombuffer(raw, dtype).reshape(rows, columns + shift)
    source = wide[:, shift:]
    expected = source.T.copy()
    turned = bench.transpose(source, method=method)
    assert turned.tobytes() == expected.tobytes()
    target = np.zeros((columns, rows + shift), dtype)
    bench.transpose(source, target[:, shift:], method=method)
    assert target[:, shift:].tobytes() == expected.tobytes()
    assert not target[:, :shift].tobytes().strip(b"\0")


@pytest.mark.parametrize("method", ["tiles", "halves"])
@pytest.mark.parametrize("shape", [(24, 16), (72, 136), (264, 200), (520, 1000), (67, 41)])
@pytest.mark.parametrize("shift", [0, 2, 3])
def test_every_kernel_transposes(
    method: bench.TransposeMethod, shape: tuple[int, int], shift: int
) -> None:
    """A matrix is transposed by each kernel in turn until one is chosen, at any offset into a line."""
    rows, columns = shape
    source = np.arange(rows * columns, dtype=np.float64).reshape(shape)
    room = np.zeros((columns, rows + 16))
    for _ in range(30):
        room[:] = -1
        out = room[:, shift : shift + rows]
        bench.transpose(source, out, method=method)
        assert (out == source.T).all()
        assert (room[:, :shift] == -1).all()
        assert (room[:, shift + rows :] == -1).all()
    names = kernel_names(1 if method == "halves" else 2)
    assert transpose_kernel(method) in (None, *names)  # None: each trial was disturbed


def test_transpose_of_lines_that_fit() -> None:
    """Vector tiles with and without remainders, for each offset of the target in a cache line."""
    for rows, columns in ((128, 256), (136, 300), (32, 128), (1000, 1000), (8, 500)):
        source = drawn(1, rows, columns)
        for into in range(8):
            target = np.full(columns * rows + 16, np.nan)
            skip = (64 - target.ctypes.data % 64) % 64 // 8 + into
            end = skip + columns * rows
            out = target[skip:end].reshape(columns, rows)
            assert (bench.transpose(source, out) == source.T).all()
            assert np.isnan(target[:skip]).all()
            assert np.isnan(target[end:]).all()
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
    """Invalid input is a UsageError before any memory is touched."""
    with pytest.raises(UsageError):
        wrong(np.arange(64.0).reshape(8, 8))


@given(st.integers(1, 200), st.integers(0, 300), st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_prefetch_changes_no_sum(values: int, count: int, distance: int, rounds: int) -> None:
    """The sum equals NumPy's for any prefetch distance."""
    rng = np.random.default_rng(values * 7 + count)
    table = rng.integers(0, 2**63, values).astype(np.uint64)
    index = rng.integers(0, values, count).astype(np.uint64)
    digest = table[index]
    for _ in range(rounds):
        digest = (digest ^ digest >> np.uint64(33)) * np.uint64(0xFF51AFD7ED558CCD)
    found = bench.prefetch_sum(table, index, distance=distance, rounds=rounds)
    assert found == int(digest.sum(dtype=np.uint64))


def test_an_index_outside_is_refused() -> None:
    """An index out of bounds is an IndexError, as in NumPy."""
    with pytest.raises(IndexError):
        bench.prefetch_sum(np.zeros(4, np.uint64), np.array([4], np.uint64))


@given(st.integers(0, 20), st.integers(0, 50))
@settings(max_examples=100, deadline=None)
def test_patterns_read_each_element_once(rows: int, columns: int) -> None:
    """Reading by rows and by columns has the sum of the matrix."""
    matrix = np.random.default_rng(9).integers(0, 2**62, (rows, columns)).astype(np.uint64)
    base, row = matrix.ctypes.data, columns * 8
    expected = int(matrix.sum(dtype=np.uint64))
    assert sum_pattern(base, rows, row, columns, 8)[0] == expected
    assert sum_pattern(base, columns, 8, rows, row)[0] == expected
