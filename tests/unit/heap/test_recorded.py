"""Heap graphs of recordings of other versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mematlas._core import Rank
from mematlas.errors import MematlasError
from mematlas.heap.read.recorded import pack_graph, read_graph
from mematlas.recording.model import HeapGraph
from mematlas.recording.row_types import GRAPH_DTYPE
from synthetic_recording import GRAPH_FACTS, graph_rows

if TYPE_CHECKING:
    from mematlas.heap.model.heap import Heap


def _read(rank: Any) -> Heap:
    facts = GRAPH_FACTS | {"groups": [["server", "file", 0, rank]]}
    return read_graph(HeapGraph(0, "exit", 0.0, facts, np.frombuffer(graph_rows(), GRAPH_DTYPE)))


@pytest.mark.parametrize(
    ("recorded", "rank"),
    [
        (0, Rank.STRONG),
        (1, Rank.FRAMES),
        (2, Rank.PROGRAM),
        (3, Rank.WEAK),
        ("STACKS", Rank.STACKS),
        ("WEAK", Rank.WEAK),
    ],
)
def test_ranks_of_roots_keep_their_meaning(recorded: object, rank: Rank) -> None:
    """A recording has them by name. Before the rank of stacks came between, it had numbers."""
    heap = _read(recorded)
    assert [each.rank for each in heap.groups] == [rank]
    assert pack_graph(heap, 0)[0]["groups"] == [["server", "file", 0, rank.name]]


@pytest.mark.parametrize("recorded", [-1, 4, "NONE", None])
def test_an_unknown_rank_is_refused(recorded: object) -> None:
    """What it counts for is not known."""
    with pytest.raises(MematlasError, match="malformed"):
        _read(recorded)
