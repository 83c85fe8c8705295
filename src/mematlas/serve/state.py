"""The recording that a server shows: read again when it grew, with a share of one CPU at most.

A request for a difference reads at its begin, and each half second at its end until there are new figures.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from mematlas.api.growing import GrowingRecording
from mematlas.errors import MematlasError
from mematlas.linux.file_lock import is_locked
from mematlas.recording.reader import has_end
from mematlas.recording.segments import newest_file
from mematlas.report.analyse.report import make_report
from mematlas.report.model.report import END

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.recording.model import RecordingData
    from mematlas.report.model.report import Report

T = TypeVar("T")
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

    def __init__(self, message: str = "nothing is recorded yet; ask again in a second") -> None:
        """Store the message."""
        super().__init__(message)


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
            signature = self._read_signature()
            if signature != self._signature and time.monotonic() >= self._next_s:
                self._read(signature)
            if self._state is None:
                raise NotYetRecordedError
            return self._state

    def read_newer(self, than: State, timeout_s: float, stop: threading.Event) -> State | None:
        """Wait for figures of a later moment; None if there are none within the timeout."""
        end = time.monotonic() + timeout_s
        while not stop.wait(_POLL_S) and time.monotonic() < end:
            state = self.read(fresh=True)
            if state.time_s > than.time_s:
                return state
        return None

    def lacks_end(self) -> bool:
        """Return whether a recorder is still to end the recording, of a folder its newest segment."""
        try:
            return not has_end(newest_file(self.path)) and self._is_locked()
        except OSError:
            return False

    def _is_locked(self) -> bool:
        """Return whether a recorder has the folder locked, which it does until its end; it locks no single file."""
        return os.path.isdir(self.path) and is_locked(self.path)  # noqa: PTH112

    def _read_signature(self) -> tuple[int, int] | None:
        """Return size and time of the file, of a folder those of its newest, which change when it grows; of none those of the last reading."""
        try:
            status = newest_file(self.path).stat()
        except OSError:
            return self._signature
        return status.st_size, status.st_mtime_ns

    def _read(self, signature: tuple[int, int] | None) -> None:
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
        self._signature = signature
        number = self._state.number + 1 if self._state else 1
        moment_s = max(each.time_s for each in data.totals.values())
        self._state = State(number, data, report, time.time_ns(), moment_s)


class OncePerReading(Generic[T]):
    """What is made from a reading: once for each, by one request at a time."""

    def __init__(self, recording: ServedRecording, make: Callable[[State], T]) -> None:
        """Store the function that makes it."""
        self._recording, self._make = recording, make
        self._lock = threading.Lock()
        self._kept: tuple[int, T] | None = None

    def get(self) -> T:
        """Return what is made from the newest reading."""
        with self._lock:
            state = self._recording.read()
            if self._kept is None or self._kept[0] != state.number:
                self._kept = state.number, self._make(state)
            return self._kept[1]
