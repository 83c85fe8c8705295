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
    from collections.abc import Iterable

    from mematlas.linux.exec_records import ExecRecord

_LOOK_S = 0.05  # between two readings of peaks
_EARLY_S = 0.001  # by which the clocks of the tracer and of the kernel may differ
_MAX_NAMED = 20  # programs in notes, the largest first
_MAX_COMMAND = 120


@dataclass(slots=True)
class Image:
    """One program that a process executed. `peak_bytes` is VmHWM as last read; None: never read."""

    pid: int
    start_s: float  # of the monotonic clock
    command: str
    left: LeftKind = LeftKind.NOT
    peak_bytes: int | None = None
    ended: bool = False


class UntracedWatch:
    """The programs that this process's descendants execute, until each is known to be traced."""

    def __init__(self) -> None:
        """Watch the programs started from now on; where the kernel refuses, `refused` says so."""
        self.refused = ""
        self._records: ExecRecords | None = None
        self._images: list[Image] = []
        self._next_look_s = 0.0
        self._matched: set[tuple[int, float]] = set()  # starts that belong to a dropped image
        try:
            self._records = ExecRecords()
        except OSError as error:
            self.refused = f"perf_event_open: {error.strerror}"

    def look(self, joined: Iterable[tuple[int, float]]) -> None:
        """Read what has happened. `joined`: PID and start (monotonic) of each traced image."""
        if self._records is None:
            return
        for record in self._records.take():
            self._add(record)
        now = time.monotonic()
        if now < self._next_look_s:
            return
        self._next_look_s = now + _LOOK_S
        self._forget(joined)
        for image in self._images:
            _read_peak(image)

    def finish(self, joined: Iterable[tuple[int, float]], refused: set[int]) -> list[str]:
        """Return a line for each program that ran untraced; those of PIDs in `refused` are told elsewhere."""
        if self._records is None:
            return []
        for record in self._records.take():
            self._add(record)
        self._forget(joined)
        for image in self._images:
            _read_peak(image)
        lost = self._records.lost
        self._records.close()
        self._records = None
        found = [image for image in self._images if image.pid not in refused]
        found.sort(key=lambda image: -(image.peak_bytes or 0))
        lines = [_describe(image) for image in found[:_MAX_NAMED]]
        if len(found) > _MAX_NAMED:
            lines.append(f"{len(found) - _MAX_NAMED} more programs ran untraced")
        if lost:
            lines.append(f"{lost} starts of programs were not seen: too many at once")
        return lines

    def _add(self, record: ExecRecord) -> None:
        for image in self._images:
            if image.pid == record.pid:
                image.ended = True  # replaced by this one
        image = Image(record.pid, record.time_s, record.name)
        _read_program(image)
        self._images.append(image)

    def _forget(self, joined: Iterable[tuple[int, float]]) -> None:
        """Drop the images that have joined: each start belongs to the last exec of its PID before it."""
        starts: dict[int, list[float]] = {}
        pids = {image.pid for image in self._images}
        for pid, start_s in joined:
            if pid in pids and (pid, start_s) not in self._matched:
                starts.setdefault(pid, []).append(start_s)
        traced: set[int] = set()
        for pid, times in starts.items():
            images = [image for image in self._images if image.pid == pid]
            for start_s in times:
                # One that is taken was started within _EARLY_S, as by env(1): the one before is meant.
                before = [
                    each
                    for each in images
                    if each.start_s <= start_s + _EARLY_S and id(each) not in traced
                ]
                if before:
                    traced.add(id(before[-1]))
                    self._matched.add((pid, start_s))
        self._images = [image for image in self._images if id(image) not in traced]


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
