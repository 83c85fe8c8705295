"""Joins and numbering of columns, against plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from mematlas._core.columns.distinct import distinct
from mematlas.recording.row_types import SNAPSHOT_DTYPE
from mematlas.report.analyse import sums


def rows_of(pairs: list[tuple[int, int]]) -> np.ndarray:
    """Return snapshot rows of (stack, kind); row n has n + 1 live bytes."""
    rows = np.zeros(len(pairs), SNAPSHOT_DTYPE)
    rows["stack"], rows["kind"] = zip(*pairs, strict=True) if pairs else ((), ())
    rows["live_bytes"] = np.arange(len(pairs)) + 1
    return rows


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(2, 1)],
        [(1, 1), (1, 2), (3, 1), (9, 1)],
        [(9, 1), (3, 1), (1, 2), (1, 1)],  # not in order
        [(3, 1), (3, 1), (1, 1)],  # one key twice
    ],
)
@pytest.mark.parametrize("keys", [[], [1 << 8 | 1], [1 << 8 | 1, 1 << 8 | 2, 3 << 8 | 1, 4 << 8]])
def test_gather_some_is_a_sum_by_key(pairs: list[tuple[int, int]], keys: list[int]) -> None:
    """Only the keys that have a row come back, with the sum of their rows."""
    at, columns = sums.gather_some(rows_of(pairs), np.array(keys, np.int64), ("live_bytes",))
    wanted: dict[int, float] = {}
    for number, (stack, kind) in enumerate(pairs):
        if stack << 8 | kind in keys:
            index = keys.index(stack << 8 | kind)
            wanted[index] = wanted.get(index, 0.0) + number + 1
    assert dict(zip(at.tolist(), columns["live_bytes"].tolist(), strict=True)) == wanted
    assert at.tolist() == sorted(at.tolist())


@pytest.mark.parametrize("numbers", [[], [0], [5, 5, 0, 3], [7, 1 << 40, 7]])
def test_numbers_are_numbered_as_numpy_does(numbers: list[int]) -> None:
    """By a table, or by a sort where the table would be large."""
    given = np.array(numbers, np.int64)
    found, index = sums.numbered(given)
    assert found.tolist() == sorted(set(numbers)) == distinct(given).tolist()
    assert found[index].tolist() == numbers
