"""Copies for heap graphs: what goes wrong with them becomes a note, and the program comes first."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mematlas.heap.read import capture as capture_module
from mematlas.heap.read import heap as heap_module
from mematlas.heap.read import recorded
from mematlas.memory import headroom
from mematlas.memory.headroom import Headroom
from mematlas.tracing import graphs
from mematlas.tracing.graphs import GraphTaker


class Collector:
    """A session with one process, which counts how often the rings are read."""

    def __init__(self) -> None:
        self.reads = 0
        self.read_twice = threading.Event()

    def process(self, _: int) -> Any:
        """Return its facts."""
        return SimpleNamespace(pid=4242, live_bytes=2 << 20, rss_bytes=64 << 20)

    def live_blocks(self, _: int) -> bytes:
        """Return no blocks."""
        return b""

    def read_rings(self) -> None:
        """Count."""
        self.reads += 1
        if self.reads == 2:
            self.read_twice.set()

    def now_s(self) -> float:
        """Return a time."""
        return 1.0


class Writer:
    """A recording that takes no graph."""

    def graph(self, *_: object, **__: object) -> None:
        """Fail."""
        raise AssertionError


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    """Return a session whose copies are made by reading its rings twice."""
    found = Collector()

    def capture(*_: object, **__: object) -> str:
        assert found.read_twice.wait(60)
        return "image"

    monkeypatch.setattr(capture_module, "capture", capture)
    monkeypatch.setattr(graphs, "read_status_of", lambda _: SimpleNamespace(sizes={}))
    return found


def _taken(collector: Collector) -> GraphTaker:
    taker = GraphTaker(cast("Any", collector), ("peak", "exit"))
    taker.before_snapshot(0, "exit", is_named=True)
    return taker


def _notes(taker: GraphTaker) -> list[str]:
    return taker.write(cast("Any", Writer()), lambda _: None)


@pytest.mark.parametrize("error", [OSError(12, "no memory"), IndexError("7"), ZeroDivisionError()])
def test_a_heap_that_cannot_be_read_is_a_note(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """The recording goes on, whatever the copied memory does to its readers."""

    def read_heap(*_: object) -> None:
        raise error

    taker = _taken(collector)
    assert collector.reads >= 2  # other programs did not wait for the copy
    monkeypatch.setattr(heap_module, "read_heap", read_heap)
    (note,) = _notes(taker)
    assert note.startswith("no heap graph of PID 4242: ")


def test_a_graph_far_from_the_peak_is_told(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both the recording and the graph in it name the two figures, also where the program did not wait for its copy."""
    written: list[dict[str, Any]] = []
    taker = GraphTaker(cast("Any", collector), ("peak",))
    monkeypatch.setattr(
        graphs, "read_status_of", lambda _: SimpleNamespace(sizes={"VmRSS": 9 << 20})
    )
    taker.before_snapshot(0, "peak", is_named=True)
    monkeypatch.setattr(heap_module, "read_heap", lambda *_: None)
    monkeypatch.setattr(recorded, "pack_graph", lambda *_: ({"notes": ["first"]}, b""))
    writer = SimpleNamespace(graph=lambda *_, facts, **__: written.append(facts))
    notes = taker.write(cast("Any", writer), lambda _: 43 << 20)
    text = "is of 9.00 MiB of RSS; the highest was 43.0 MiB"
    assert notes == [f"the heap graph of PID 4242 {text}"]
    assert written == [{"notes": ["first", f"the graph {text}"]}]


def test_a_copy_outlives_its_process(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program waits a second for its copy at a peak, and may be gone when it is made."""

    def gone(_: int) -> None:
        raise FileNotFoundError

    taker = GraphTaker(cast("Any", collector), ("peak",))
    monkeypatch.setattr(graphs, "read_status_of", gone)
    monkeypatch.setattr(heap_module, "read_heap", lambda *_: None)
    monkeypatch.setattr(recorded, "pack_graph", lambda *_: ({"notes": []}, b""))
    taker.before_snapshot(0, "peak", is_named=True)
    written: list[Any] = []
    writer = SimpleNamespace(graph=lambda *_, **facts: written.append(facts))
    assert taker.write(cast("Any", writer), lambda _: None) == []
    assert len(written) == 1


def test_copies_are_given_up_where_memory_is_short(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that grows on gets the memory of the copies back, and a note says so."""
    taker = _taken(collector)
    monkeypatch.setattr(
        headroom, "read_headroom", lambda **_: Headroom(1 << 20, "this machine can give")
    )
    taker.relieve()
    (note,) = _notes(taker)
    assert "memory became short, 1.00 MiB are all that this machine can give" in note
