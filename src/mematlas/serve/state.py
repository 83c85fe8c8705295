"""The recording that a server shows: read again when it grew, with a share of one CPU at most.

A request for a difference reads at its begin, and each half second at its end until there are new figures.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.api.growing import GrowingRecording
from mematlas.errors import MematlasError
from mematlas.report.analyse.report import make_report
from mematlas.report.model.report import END

if TYPE_CHECKING:
    from mematlas.recording.model import RecordingData
    from mematlas.report.model.report import Report

_LEAST_S = 1.0  # between two readings
_POLL_S = 0.5
_SHARE = 0.02  # of one CPU, for reading


@dataclass(frozen=True, slots=True)
class State:
    """One reading. `number` tells readings apart; `time_ns` is the moment of the reading.

    `time_s` is the moment of the figures, in seconds after the start: the recorder writes sums of many stacks
    seldom.
    """

    number: int
    data: RecordingData
    report: Report
    time_ns: int
    time_s: float


class NotYetRecordedError(MematlasError):
    """The recording has no figures yet."""


class ServedRecording:
    """Reads a growing recording for several threads."""

    def __init__(self, path: str) -> None:
        """Serve the recording at a path, which need not exist yet."""
        self.path = path
        self._growing = GrowingRecording(path)
        self._lock = threading.Lock()
        self._state: State | None = None
        self._signature: tuple[int, int] | None = None
        self._next_s = 0.0

    def read(self, *, fresh: bool = False) -> State:
        """Return the newest reading; `fresh`: read what was recorded since, though it is not the time yet.

        Raises NotYetRecordedError before the first.
        """
        with self._lock:
            if fresh:
                self._next_s = 0.0
            if self._is_due():
                self._read()
            if self._state is None:
                raise NotYetRecordedError("nothing is recorded yet; ask again in a second")
            return self._state

    def read_newer(self, than: State, timeout_s: float, stop: threading.Event) -> State | None:
        """Wait for figures of a later moment; None if there are none within the timeout."""
        end = time.monotonic() + timeout_s
        while not stop.wait(_POLL_S) and time.monotonic() < end:
            state = self.read(fresh=True)
            if state.time_s > than.time_s:
                return state
        return None

    def _is_due(self) -> bool:
        with suppress(OSError):
            status = os.stat(self.path)  # noqa: PTH116
            return (
                time.monotonic() >= self._next_s
                and (status.st_size, status.st_mtime_ns) != self._signature
            )
        return False

    def _read(self) -> None:
        status = os.stat(self.path)  # noqa: PTH116
        began = time.thread_time()
        try:
            data = self._growing.read()
            if data is None or not data.totals:
                return
            report = make_report(data, at=END)
        except MematlasError:
            if self._state is None:  # its first chunk may be being written
                return
            raise
        finally:
            took = time.thread_time() - began
            self._next_s = time.monotonic() + max(_LEAST_S, took / _SHARE)
        self._signature = status.st_size, status.st_mtime_ns
        number = self._state.number + 1 if self._state else 1
        moment_s = max(each.time_s for each in data.totals.values())
        self._state = State(number, data, report, time.time_ns(), moment_s)
