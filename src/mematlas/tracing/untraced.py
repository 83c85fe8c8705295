"""Which programs of a run the tracer was not loaded into, and the memory they had by the kernel's figure."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas._core import LeftKind, left_kind
from mematlas.linux.exec_records import ExecRecords
from mematlas.present.printable import clean
from mematlas.tracing.program import WHY_UNTRACED
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.linux.exec_records import ExecRecord

_LOOK_S = 0.05  # between two readings of peaks
_EARLY_S = 0.001  # by which the clocks of the tracer and of the kernel may differ
_MAX_NAMED = 20  # programs in notes, the largest first
_MAX_COMMAND = 120
_MOST_PIDS = (
    4096  # with images; above that the smallest of those that ended long ago are only counted
)
_MOST_ENDED = 1024  # that are then kept
_JOINS_S = 60.0  # in which a program has joined
_MOST_STARTS = 1024  # that belong to no image yet


@dataclass(slots=True)
class Image:
    """One program that a process executed. `peak_bytes` is VmHWM as last read; None: never read."""

    pid: int
    start_s: float  # of the monotonic clock
    command: str
    left: LeftKind = LeftKind.NOT
    peak_bytes: int | None = None
    ended: bool = False
    name: str = ""  # of its thread at the exec
    read_s: float = 0.0  # time at which command and `left` had been read
    peak_s: float = 0.0  # time of the last reading of the peak, and the peak before
    peak_before: int | None = None

    def replace(self, time_s: float) -> None:
        """End the image at the time of the next exec of its PID. What was read later is of that program."""
        self.ended = True
        if self.read_s >= time_s:
            self.command, self.left = self.name, LeftKind.NOT
        if self.peak_s >= time_s:
            self.peak_bytes = self.peak_before


class UntracedWatch:
    """The programs that this process's descendants execute, until each is known to be traced."""

    def __init__(self) -> None:
        """Watch the programs started from now on; where the kernel refuses, `refused` says so."""
        self.refused = ""
        self._records: ExecRecords | None = None
        self._images: dict[int, list[Image]] = {}  # by PID, in the order of time; not joined yet
        self._running: dict[int, Image] = {}  # by PID, of these
        self._next_look_s = 0.0
        self._starts: list[tuple[int, float]] = []  # that belong to no image yet
        self._forgotten = 0  # images
        try:
            self._records = ExecRecords()
        except OSError as error:
            self.refused = f"perf_event_open: {error.strerror}"

    def look(self, joined: Sequence[tuple[int, float]]) -> None:
        """Read what has happened. `joined`: PID and start (monotonic) of each traced image since the last call."""
        if self._records is None:
            return
        self._starts += joined
        self._add_all(self._records.take())
        now = time.monotonic()
        if now < self._next_look_s:
            return
        self._next_look_s = now + _LOOK_S
        self._drop_joined()
        self._read_peaks()
        if len(self._images) > _MOST_PIDS:
            self._forget_small(now - _JOINS_S)

    def has_some(self, joined: Sequence[tuple[int, float]]) -> bool:
        """Return whether programs have run that did not join. `joined` is as for `look`."""
        if self._records is None:
            return False
        self._starts += joined
        self._add_all(self._records.take())
        self._drop_joined()
        return bool(self._images or self._forgotten or self._records.lost)

    def finish(self, joined: Sequence[tuple[int, float]], refused: set[int]) -> list[str]:
        """Return a line for each program that ran untraced; those of PIDs in `refused` are told elsewhere."""
        if self._records is None:
            return []
        self._starts += joined
        self._add_all(self._records.take())
        self._drop_joined()
        self._read_peaks()
        lost = self._records.lost
        self._records.close()
        self._records = None
        found = [
            image for pid, images in self._images.items() for image in images if pid not in refused
        ]
        found.sort(key=lambda image: -(image.peak_bytes or 0))
        lines = [_describe(image) for image in found[:_MAX_NAMED]]
        more = len(found) - _MAX_NAMED + self._forgotten
        if more > 0:
            lines.append(f"{more} more programs ran untraced")
        if lost:
            lines.append(f"{lost} starts of programs were not seen: too many at once")
        return lines

    def _add_all(self, records: Sequence[ExecRecord]) -> None:
        last = {record.pid: record for record in records}
        for record in records:
            images = self._images.setdefault(record.pid, [])
            if images:
                images[-1].replace(record.time_s)
            image = Image(record.pid, record.time_s, record.name, name=record.name)
            if last[record.pid] is record:  # the others have been replaced already
                _read_program(image)
                image.read_s = time.monotonic()
                self._running[record.pid] = image
            images.append(image)

    def _read_peaks(self) -> None:
        for image in self._running.values():
            _read_peak(image)
        self._running = {pid: each for pid, each in self._running.items() if not each.ended}

    def _drop_joined(self) -> None:
        """Drop the images that have joined: each start belongs to the last exec of its PID before it."""
        left = [(pid, start_s) for pid, start_s in self._starts if not self._drop(pid, start_s)]
        self._starts = left[-_MOST_STARTS:]

    def _forget_small(self, until_s: float) -> None:
        """Count the smallest of the images that ended and began before a time, and forget them."""
        old = [
            image
            for images in self._images.values()
            for image in images
            if image.ended and image.start_s < until_s
        ]
        old.sort(key=lambda image: -(image.peak_bytes or 0))
        for image in old[_MOST_ENDED:]:
            self._remove(image)
            self._forgotten += 1

    def _drop(self, pid: int, start_s: float) -> bool:
        images = self._images.get(pid, [])
        # One that is dropped was started within _EARLY_S, as by env(1): the one before is meant.
        before = [each for each in images if each.start_s <= start_s + _EARLY_S]
        if not before:
            return False
        self._remove(before[-1])
        return True

    def _remove(self, image: Image) -> None:
        images = self._images[image.pid]
        # Two of one PID may be equal.
        images[:] = [each for each in images if each is not image]
        if self._running.get(image.pid) is image:
            del self._running[image.pid]
        if not images:
            del self._images[image.pid]


def _read_program(image: Image) -> None:
    """Read the command line and why the program cannot load the tracer, while the process lives."""
    process = Path(f"/proc/{image.pid}")
    with suppress(OSError):
        words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        image.command = b" ".join(words).decode("utf-8", "replace") or image.command
    image.left = left_kind(str(process / "exe"))


def _read_peak(image: Image) -> None:
    if image.ended:
        return
    try:
        status = Path(f"/proc/{image.pid}/status").read_bytes()
    except OSError:
        image.ended = True
        return
    for line in status.splitlines():
        if line.startswith(b"VmHWM:"):
            peak = int(line.split()[1]) << 10
            image.peak_before, image.peak_s = image.peak_bytes, time.monotonic()
            image.peak_bytes = max(peak, image.peak_bytes or 0)


def _describe(image: Image) -> str:
    peak = "its memory is not known: it ended before it could be read"
    if image.peak_bytes is not None:
        peak = f"peak RSS {format_bytes(image.peak_bytes)}"
    why = WHY_UNTRACED.get(image.left, "it did not open the session")
    command = clean(image.command)
    if len(command) > _MAX_COMMAND:
        command = command[:_MAX_COMMAND] + " ..."
    return f"ran untraced: PID {image.pid}, {command}: {peak}; {why}"
