"""The rows of a heap's tree, over heaps that are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from mematlas.heap.analyse import holders

if TYPE_CHECKING:
    from mematlas.heap.model.heap import Heap

ABOVE = 3


class _Content:
    """Paths of a graph that is not searched without a root."""

    @staticmethod
    def find_paths() -> tuple[Any, Any]:
        return np.zeros(8, np.uint32), np.zeros(8, np.uint32)


class _Heap:
    content = _Content()


@pytest.mark.parametrize("first", [0, ABOVE])
def test_a_row_without_a_nearest_root_takes_no_search(
    monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """A search without a root goes over the whole graph, and few roots have one."""
    monkeypatch.setattr(holders, "_find_root", lambda *_: first)
    column: Any = np.zeros(8)
    heap = cast("Heap", _Heap())
    tree = holders._Tree(heap, column, column, column, column, column, least=0, most=0)
    assert holders._nearest_roots(tree, np.array([5]), ABOVE) == ("", "")
    assert not tree.without
