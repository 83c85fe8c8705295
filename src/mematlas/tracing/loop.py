"""The run: start the program, follow the collector's events, write the recording as it happens."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.native import Collector, Event, TraceSettings
from mematlas.tracing import child
from mematlas.tracing.process import ProcessRecorder
from mematlas.tracing.session import session_directory
from mematlas.tracing.target import check_program, find_program
from mematlas.tracing.unseen import carried_allocators

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mematlas.recording import Writer
    from mematlas.tracing.settings import Settings

_POLL_S = 0.1
_FLUSH_S = 0.5
_GRACE_S = 0.5  # for the program's own children to end after it
_ROOM = 128  # rings there should be room for in shared memory
_TRIGGERS = {
    Event.INTERVAL: "interval",
    Event.PEAK: "peak",
    Event.STOPPED: "stopped",
    Event.EXITING: "exit",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended. `failure` is why the recording is cut short, if it is."""

    status: int
    failure: OSError | None = None


def run(
    command: Sequence[str], settings: Settings, open_writer: Callable[[int], Writer]
) -> Outcome:
    """Trace a program to its end. The writer is left open, for the names to follow.

    `open_writer` is called with the program's PID once it runs.
    """
    program = find_program(command)
    check_program(program)
    with session_directory(_ROOM * settings.ring_bytes) as session:
        collector = Collector(
            str(session),
            TraceSettings(
                exact=settings.exact,
                ring_bytes=settings.ring_bytes,
                sample_bytes=settings.sample_bytes,
                seed=settings.seed,
                interval_s=settings.interval_s,
                budget=settings.budget,
                fault_period=settings.fault_period,
            ),
        )
        process = child.start(command, program, session)
        with child.signals_passed_on(process) as interrupts:
            failure = None
            try:
                writer = open_writer(process.pid)
                _Run(collector, process, writer, interrupts, session).follow()
            except OSError as error:  # the program must not suffer from a full disk of ours
                failure = error
            finally:
                collector.stop()
                _await(process, interrupts)
                collector.close()
    status = process.returncode
    return Outcome(child.exit_status(-2 if status is None else status), failure)


def _await(process: subprocess.Popen[bytes], interrupts: child.Interrupts) -> None:
    """Wait for the program even when recording it failed."""
    while process.poll() is None and interrupts.count < 2:
        time.sleep(_POLL_S)


def _refusals(session: Path) -> list[str]:
    """Tell why processes could not be traced; each left a link that says so."""
    reasons: dict[str, list[str]] = {}
    for link in sorted(session.glob("*.why")):
        reasons.setdefault(str(link.readlink()), []).append(link.name.partition(".")[0])
    return [
        f"not traced: PID {', '.join(pids[:5])}{' and others' * (len(pids) > 5)}: {reason}"
        for reason, pids in reasons.items()
    ]


class _Run:
    """One run being followed."""

    def __init__(
        self,
        collector: Collector,
        process: subprocess.Popen[bytes],
        writer: Writer,
        interrupts: child.Interrupts,
        session: Path,
    ) -> None:
        self._collector = collector
        self._process = process
        self._writer = writer
        self._interrupts = interrupts
        self._session = session
        self._recorders: dict[int, ProcessRecorder] = {}
        self._deadline: float | None = None
        self._next_flush = 0.0

    def follow(self) -> None:
        """Record until the program and all it started have ended, or the grace is over."""
        self._collector.watch(self._process.pid)
        while not self._is_over():
            event, index = self._collector.poll(_POLL_S)
            self._handle(event, index)
            if time.monotonic() >= self._next_flush:
                self._flush()
        for _ in range(len(self._recorders) + 1):  # what the end of the last one left to tell
            self._handle(*self._collector.poll(0))
        self._collector.stop()
        status = self._process.returncode
        for recorder in self._recorders.values():
            recorder.close(status if recorder.pid == self._process.pid else None)
        paths = {path for recorder in self._recorders.values() for path in recorder.paths}
        notes = [*_refusals(self._session), *carried_allocators(paths)]
        if not self._recorders and not notes:
            notes.append("the program was not traced: it did not load the tracer")
        if notes:
            self._writer.notes(notes)

    def _is_over(self) -> bool:
        if self._interrupts.count >= 2:
            return True
        if self._deadline is None:
            return False
        alive = any(not recorder.ended for recorder in self._recorders.values())
        return not alive or time.monotonic() >= self._deadline

    def _flush(self) -> None:
        for recorder in self._recorders.values():
            recorder.flush_timeline()
        self._next_flush = time.monotonic() + _FLUSH_S

    def _handle(self, event: Event, index: int) -> None:
        if event is Event.PROCESS:
            self._recorders[index] = ProcessRecorder(self._collector, self._writer, index)
        elif event is Event.WATCHED:
            self._process.wait()
            self._deadline = time.monotonic() + _GRACE_S
        elif event is Event.ENDED:
            self._recorders[index].end()
        elif event is not Event.NONE:
            self._recorders[index].snapshot(_TRIGGERS[event])
