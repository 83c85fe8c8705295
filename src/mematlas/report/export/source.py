"""Input of all export formats, and the names of frames and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.present.printable import clean, shorten
from mematlas.report import frame_names
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.recording.model import Frame, RecordingData
    from mematlas.report.analyse.table import StackTable
    from mematlas.report.model.report import Report


@dataclass(frozen=True, slots=True)
class ExportSource:
    """A recording, its report and its stacks; `by` is the metric of formats with only one."""

    recording: RecordingData
    report: Report
    table: StackTable
    by: str = "resident"
    unit: str = "bytes"  # for collapsed stacks
    rows: str = "stacks"  # the table, for formats that are one
    types: tuple[str, ...] = ()  # sample types of pprof; empty: all that were measured
    span: tuple[int, int] | None = None  # of pprof: moment and duration, ns; None: those of the run

    @property
    def unknown(self) -> list[str]:
        """Columns of metrics that were not measured."""
        return [f"{each}_bytes" for each in METRICS if self.report.why_unknown(each)]

    def roots(self) -> dict[int, str]:
        """Return the names of the processes if there is more than one."""
        if len(self.table.processes()) < 2:
            return {}
        return {each.index: self.process_name(each.index) for each in self.report.processes}

    def process_name(self, index: int) -> str:
        """Return the name of a process: command and PID."""
        for each in self.report.processes:
            if each.index == index:
                return f"{shorten(clean(each.command), 80)} ({each.pid})"
        return f"process {index}"


def frame_text(frame: Frame) -> str:
    """Format a frame in one line: `function (file:line)`, or with its module."""
    location = clean(frame.file or frame.module or "")
    if frame.file and frame.line is not None:
        location += f":{frame.line}"
    return (
        f"{frame_names.function_name(frame)} ({location})"
        if location
        else frame_names.function_name(frame)
    )


class Numbers:
    """Numbers of frames in order of occurrence. Known frames are found by id()."""

    def __init__(self, first: int = 0) -> None:
        """Start counting at `first`."""
        self._first = first
        self._numbers: dict[Frame | str, int] = {}
        self._seen: dict[int, int] = {}
        self._kept: list[Frame | str] = []  # keeps frames alive, so that id() stays unique

    def of(self, frame: Frame | str) -> int:
        """Return the number of a frame, a new one for a new frame."""
        number = self._seen.get(id(frame))
        if number is None:
            number = self._numbers.setdefault(frame, self._first + len(self._numbers))
            self._seen[id(frame)] = number
            self._kept.append(frame)
        return number

    def __iter__(self) -> Iterator[Frame | str]:
        return iter(self._numbers)
