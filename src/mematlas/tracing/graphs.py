"""Heap graphs of a run: copies taken while a process waits, read when the run has ended."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.linux.status import read_status_of
from mematlas.present.printable import clean
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mematlas._core import Collector
    from mematlas.heap.model.image import Image
    from mematlas.heap.read.traced import Traced
    from mematlas.recording import Writer
    from mematlas.tracing.settings import GraphMoment

_LEAST_LIVE = 1 << 20  # bytes of a process that the run did not name; smaller ones hold little
_GROWTH = 1.2  # of RSS since the last copy at a peak
_BUDGET = 0.2  # share of the time that copies at peaks may take,
_FREE_S = 0.5  # after these seconds
_PEAK_STOP_S = 0.25  # other threads of the program are stopped for less
_EXIT_STOP_S = 6.0  # the program waits for ten at its exit
_SHORT = 0.95  # part of the highest RSS; a graph at less is told
_SMALL_BYTES = 16 << 20  # RSS of a process whose peak is not worth a note
_NAMED = 3  # refusals with a note of their own
_MEANWHILE_S = 0.01
_RELIEF_S = 0.1
_LEAST_ROOM = 64 << 20  # bytes that the program can still populate; with less, copies are given up
_FAILURES = (MematlasError, OSError, ValueError, MemoryError, LookupError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class _Copy:
    """The memory of a process at one moment, and the live blocks that the tracer knew then."""

    pid: int
    image: Image
    traced: Traced
    time_s: float
    rss_bytes: int


class GraphTaker:
    """The heap graphs of a session. Nothing here raises: what is not possible becomes a note."""

    def __init__(self, collector: Collector, moments: tuple[GraphMoment, ...]) -> None:
        """Take graphs at these moments."""
        self._collector = collector
        self._moments = moments
        self._copies: dict[tuple[int, GraphMoment], _Copy] = {}
        self._refusals: dict[tuple[int, GraphMoment], str] = {}
        self._spent_s = 0.0  # on copies at peaks
        self._next_relief = 0.0
        self._small = 0
        _load_capture()
        self._began_s = time.monotonic()

    def before_snapshot(self, index: int, trigger: str, *, is_named: bool) -> None:
        """Copy the process if its graph is wanted at this snapshot. It waits at an exit, and for a peak a second."""
        moment = next((each for each in self._moments if each == trigger), None)
        if moment is None:
            return
        info = self._collector.process(index)
        if not is_named and info.live_bytes < _LEAST_LIVE:
            self._small += moment == "exit"
        elif moment == "exit" or self._is_worth(index, info.rss_bytes):
            self._copy(index, info.pid, moment, info.rss_bytes)

    def _is_worth(self, index: int, rss_bytes: int) -> bool:
        """Return whether the process grew since its last copy, and copies at peaks did not take too long."""
        last = self._copies.get((index, "peak"))
        if last is not None and rss_bytes < last.rss_bytes * _GROWTH:
            return False
        return self._spent_s <= _FREE_S + _BUDGET * (time.monotonic() - self._began_s)

    def _copy(self, index: int, pid: int, moment: GraphMoment, rss_bytes: int) -> None:
        import numpy as np

        from mematlas._core import LIVE_BLOCK_FORMAT
        from mematlas.heap.read.traced import Traced

        began = time.monotonic()
        try:
            before = self._collector.live_blocks(index)
            image = self._capture(pid, at_exit=moment == "exit")
            after = self._collector.live_blocks(index)
            rss_bytes = min(rss_bytes, _resident(pid, rss_bytes))
        except _FAILURES as error:
            self._refusals[index, moment] = f"PID {pid}: {error}"
            return
        finally:
            if moment == "peak":
                self._spent_s += time.monotonic() - began
        traced = Traced(*(np.frombuffer(each, LIVE_BLOCK_FORMAT) for each in (before, after)))
        self._copies[index, moment] = _Copy(pid, image, traced, self._collector.now_s(), rss_bytes)
        self._refusals.pop((index, moment), None)

    def _capture(self, pid: int, *, at_exit: bool) -> Image:
        """Copy a process. The rings are read meanwhile, or other threads and processes would wait for room in theirs."""
        from concurrent.futures import ThreadPoolExecutor, wait

        from mematlas.heap.read.capture import capture

        stop_s = _EXIT_STOP_S if at_exit else _PEAK_STOP_S
        with ThreadPoolExecutor(1) as copier:
            copied = copier.submit(capture, pid, stop_s=stop_s, waits=at_exit)
            while not wait([copied], _MEANWHILE_S).done:
                self._collector.read_rings()
        return copied.result()

    def relieve(self) -> None:
        """Drop all copies if memory became short since they were made: the program comes first."""
        now = time.monotonic()
        if not self._copies or now < self._next_relief:
            return
        from mematlas.memory.headroom import read_headroom

        self._next_relief = now + _RELIEF_S
        room = read_headroom(swap=False)
        if room is None or room.size >= _LEAST_ROOM:
            return
        for key, each in self._copies.items():
            self._refusals[key] = (
                f"PID {each.pid}: memory became short, {format_bytes(room.size)} are all that"
                f" {room.limit}, so the copy was given up"
            )
        self._copies.clear()

    def write(self, writer: Writer, highest_rss: Callable[[int], int | None]) -> list[str]:
        """Read all copies into graphs, write these, and return notes. The processes' nodes must be written."""
        notes = list(self._refused())
        for (index, moment), each in list(self._copies.items()):
            del self._copies[index, moment]  # the copy of a process is as large as the process
            short = _distance(each, highest_rss(index)) if moment == "peak" else ""
            notes += _write(writer, index, moment, each, short)
            if short:
                notes.append(f"the heap graph of PID {each.pid} {short}")
        if self._small:
            notes.append(
                f"no heap graph of {self._small:,} processes with less than "
                f"{format_bytes(_LEAST_LIVE)} of live blocks"
            )
        return notes

    def _refused(self) -> Iterator[str]:
        texts = list(self._refusals.values())
        for text in texts[:_NAMED]:
            yield f"no heap graph of {clean(text)}"
        if len(texts) > _NAMED:
            yield f"no heap graph of {len(texts) - _NAMED:,} more processes"


def _load_capture() -> None:
    """Import what copies need: at the first peak the program would wait for these imports."""
    for name in (
        "concurrent.futures.thread",
        "mematlas.heap.read.capture",
        "mematlas.heap.read.traced",
    ):
        importlib.import_module(name)


def _resident(pid: int, unknown: int) -> int:
    """Return the RSS of a process, which may not have waited for its copy; `unknown` if it ended."""
    try:
        return read_status_of(pid).sizes.get("VmRSS", unknown)
    except OSError:
        return unknown


def _distance(copied: _Copy, most: int | None) -> str:
    """Format how far a copy at a peak is from the highest RSS; "" if it is near, or the process is small."""
    if not most or most <= _SMALL_BYTES or copied.rss_bytes >= most * _SHORT:
        return ""
    size, highest = format_bytes(copied.rss_bytes), format_bytes(most)
    return f"is of {size} of RSS; the highest was {highest}"


def _write(writer: Writer, index: int, moment: GraphMoment, copied: _Copy, short: str) -> list[str]:
    from mematlas.heap.read.heap import read_heap
    from mematlas.heap.read.recorded import pack_graph

    try:
        heap = read_heap(copied.image, copied.traced)
        facts, rows = pack_graph(heap, copied.rss_bytes)
        if short:
            facts["notes"] = [*facts["notes"], f"the graph {short}"]
    except _FAILURES as error:
        return [f"no heap graph of PID {copied.pid}: {clean(str(error))}"]
    writer.graph(index, moment=moment, time_s=copied.time_s, facts=facts, rows=rows)
    return []
