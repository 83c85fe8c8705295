"""Tracing a running program, and the end of it."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError
from mematlas.tracing.attachment import Attachment, end_attachment
from mematlas.tracing.child import library
from mematlas.tracing.follow import Follower, open_collector
from mematlas.tracing.inject import attach_tracer, detach_tracer
from mematlas.tracing.output import begun_recording
from mematlas.tracing.recorder import command_of
from mematlas.tracing.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Self

    from mematlas.recording import Writer
    from mematlas.tracing.settings import TraceSettings

_DRAIN_S = 0.3  # for records that threads had begun when the hooks were removed


class StopSignals:
    """SIGINT, SIGTERM and SIGHUP as requests to end the recording; the program goes on."""

    def __init__(self) -> None:
        """Install the handlers."""
        self.received = False
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True

    def __enter__(self) -> Self:
        """Enter the block, which lasts until the recording is written to its end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the handlers of before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


def attach(
    pid: int,
    settings: TraceSettings,
    path: str,
    stop: StopSignals,
    *,
    duration_s: float | None = None,
    on_attached: Callable[[], None] = lambda: None,
    on_look: Callable[[str], object] = lambda _: None,
) -> Writer:
    """Trace a running process until it ends, `duration_s` is over, or a signal asks for the end.

    Args:
        pid: the process.
        settings: what to record.
        path: the recording to write; its writer is returned open, so that the caller can add the
            resolved names.
        stop: the signals that ask for the end; they are held until the names are written too.
        duration_s: seconds after which the process is detached; None: no limit.
        on_attached: called once the process is traced.
        on_look: called with a line that tells of a look that was kept.

    Raises:
        MematlasError: as of Target and attach_tracer(); the process is then as before, and no recording
            is written.
        OSError: the recording cannot be written.
    """
    target = Target(pid)
    collector = open_collector(settings)
    try:
        with begun_recording(path, command_of(pid), settings) as writer:
            # Before the tracer is loaded: the process may end right after that.
            follower = Follower(
                collector,
                writer,
                pid,
                idle_s=settings.idle_s,
                when=settings.when,
                on_look=on_look,
            )
            enter_process(target, collector.session)
        with Attachment(pid):
            on_attached()
            writer.notes(_follow(follower, stop, duration_s))
    finally:
        collector.stop()
        collector.close()
    return writer


def enter_process(target: Target, session: str) -> None:
    """Load the tracer into a process and have it join a session. Raises as attach_tracer()."""
    attach_tracer(target, library(), session)


def detach(pid: int) -> bool:
    """End the tracing of a process; False if it is not traced, or gone.

    A running `mematlas attach` is interrupted and awaited. If it was killed, its hooks are removed here.

    Raises:
        AccessError: another user traces it.
        MematlasError: the hooks cannot be removed.
    """
    if end_attachment(pid):
        return True
    return detach_tracer(pid)


def _follow(follower: Follower, stop: StopSignals, duration_s: float | None) -> list[str]:
    """Follow the process, then detach; return a note per process that stays hooked."""
    end = float("inf") if duration_s is None else time.monotonic() + duration_s
    follower.follow(lambda: stop.received or time.monotonic() >= end, lambda: None)
    return detach_all(follower)


def detach_all(follower: Follower) -> list[str]:
    """Detach all processes of a recording and end it; return a note per process that stays hooked."""
    follower.snapshot_all()
    notes = []
    for pid in follower.running():
        try:
            detach_tracer(pid)
        except MematlasError as error:
            notes.append(
                f"{error}; its hooks stay and only forward calls; remove them with: mematlas detach {pid}"
            )
    drained = time.monotonic() + _DRAIN_S
    follower.follow(lambda: time.monotonic() >= drained, lambda: None)
    follower.finish(None)
    return notes
