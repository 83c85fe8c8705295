"""Following a session: the collector's events, written to the recording as they come."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from mematlas._core import Collector, Event, SessionSettings
from mematlas.errors import MematlasError, UnsupportedError
from mematlas.linux import idle_memory
from mematlas.tracing.private_allocators import carried_allocators
from mematlas.tracing.process import ProcessRecorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mematlas.recording import Writer
    from mematlas.tracing.settings import Settings

_POLL_S = 0.1
_FLUSH_S = 0.5
_GRACE_S = 0.5  # for the program's own children to end after it
_TRIGGERS = {
    Event.INTERVAL: "interval",
    Event.PEAK: "peak",
    Event.STOPPED: "stopped",
    Event.EXITING: "exit",
}


def open_collector(session: Path, settings: Settings) -> Collector:
    """Open the reading side of a session."""
    return Collector(
        str(session),
        SessionSettings(
            exact=settings.exact,
            ring_bytes=settings.ring_bytes,
            sample_bytes=settings.sample_bytes,
            seed=settings.seed,
            interval_s=settings.interval_s,
            budget=settings.budget,
            fault_period=settings.fault_period,
        ),
    )


class Follower:
    """One session being followed, for the sake of the process with `pid` and all that it starts."""

    def __init__(
        self, collector: Collector, writer: Writer, session: Path, pid: int, *, cold_s: float = 0.0
    ) -> None:
        """Watch the process; `cold_s`: tell what it did not use for so long."""
        self._collector = collector
        self._writer = writer
        self._session = session
        self._pid = pid
        self._recorders: dict[int, ProcessRecorder] = {}
        self._deadline: float | None = None
        self._next_flush = 0.0
        self._cold_s = cold_s
        self._cold_method, self._notes = _choose_cold() if cold_s else ("", [])
        collector.watch(pid)

    def follow(self, stop: Callable[[], bool], reap: Callable[[], object]) -> None:
        """Record until the process and all it started have ended, the grace is over, or `stop` says so.

        `reap` is called when the process is gone.
        """
        while not (stop() or self._is_over()):
            event, index = self._collector.poll(_POLL_S)
            if event is Event.WATCHED:
                reap()
                self._deadline = time.monotonic() + _GRACE_S
            self._handle(event, index)
            if time.monotonic() >= self._next_flush:
                self._flush()

    def look_once_more(self) -> None:
        """Take a last look at all processes that still run, as at their exit."""
        for index, recorder in self._recorders.items():
            if not recorder.ended and not self._collector.process(index).disabled:
                recorder.snapshot("exit")

    def finish(self, returncode: int | None) -> None:
        """Write the end; `returncode` is the process's own, if it is known."""
        for _ in range(len(self._recorders) + 1):  # what the end of the last one left to tell
            self._handle(*self._collector.poll(0))
        self._collector.stop()
        for recorder in self._recorders.values():
            recorder.close(returncode if recorder.pid == self._pid else None)
        paths = {path for recorder in self._recorders.values() for path in recorder.paths}
        notes = [*_refusals(self._session), *carried_allocators(paths), *self._notes]
        if not self._recorders and not notes:
            notes.append("the program was not traced: it did not load the tracer")
        if notes:
            self._writer.notes(notes)

    def running(self) -> list[int]:
        """Give the PIDs of the processes that are traced now."""
        return [
            recorder.pid
            for index, recorder in self._recorders.items()
            if not recorder.ended and not self._collector.process(index).disabled
        ]

    @property
    def seen(self) -> bool:
        """Some process was traced."""
        return bool(self._recorders)

    def _is_over(self) -> bool:
        if self._deadline is None:
            return False
        alive = any(not recorder.ended for recorder in self._recorders.values())
        return not alive or time.monotonic() >= self._deadline

    def _flush(self) -> None:
        for recorder in self._recorders.values():
            recorder.flush_timeline()
            if self._cold_method and not recorder.ended:
                with suppress(OSError, MematlasError):  # gone, or its right to hide
                    recorder.look_for_cold(self._cold_method, self._cold_s)
        self._next_flush = time.monotonic() + _FLUSH_S

    def _handle(self, event: Event, index: int) -> None:
        if event is Event.PROCESS:
            self._recorders[index] = ProcessRecorder(self._collector, self._writer, index)
        elif event is Event.ENDED:
            self._recorders[index].end()
        elif event in _TRIGGERS:
            self._recorders[index].snapshot(_TRIGGERS[event])


def _choose_cold() -> tuple[str, list[str]]:
    """Choose how to tell cold pages; where there is no way, a note says why."""
    try:
        return idle_memory.choose(), []
    except UnsupportedError as error:
        return "", [str(error)]


def _refusals(session: Path) -> list[str]:
    """Tell why processes could not be traced; each left a link that says so."""
    reasons: dict[str, list[str]] = {}
    for link in sorted(session.glob("*.why")):
        reasons.setdefault(str(link.readlink()), []).append(link.name.partition(".")[0])
    return [
        f"not traced: PID {', '.join(pids[:5])}{' and others' * (len(pids) > 5)}: {reason}"
        for reason, pids in reasons.items()
    ]
