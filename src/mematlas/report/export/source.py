"""Input of all export formats, and the names of frames and processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from mematlas.present.printable import clean, shorten
from mematlas.recording.model import Run
from mematlas.report import frame_names
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mematlas.recording.model import Frame, RecordingData
    from mematlas.report.analyse.table import StackTable
    from mematlas.report.model.report import Report


UNKNOWN_STACK, OTHER_STACKS = "unknown stack", "other stacks"


class Origin(NamedTuple):
    """Where figures come from; what is unknown is ""."""

    host: str
    run: str  # its ID
    version: str  # of the mematlas that recorded
    build_id: str  # of the program file
    labels: dict[str, str]


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
    frames: str = "code"  # "all": the stacks have the frames of language runtimes
    title: str = ""  # of the recording, where it is one of several
    labels: tuple[tuple[str, str], ...] = ()  # besides those of its runs
    no_stack: str = UNKNOWN_STACK  # name of what the row with stack 0 stands for

    @property
    def unknown(self) -> list[str]:
        """Columns of metrics that were not measured."""
        return [f"{each}_bytes" for each in METRICS if self.report.why_unknown(each)]

    def roots(self) -> dict[int, tuple[str, ...]]:
        """Return the names of what the stacks of a process belong to, innermost first.

        The process, if there is more than one, and the recording, if that is one of several.
        """
        processes = self.table.processes()
        above = (self.title,) if self.title else ()
        return {
            each: (self.process_name(each), *above) if len(processes) > 1 else above
            for each in processes
        }

    def path(
        self, process: int, stack: int, roots: Mapping[int, tuple[str, ...]]
    ) -> list[Frame | str]:
        """Return the frames of a stack and what it belongs to, innermost first."""
        frames = self.table.paths[process].frames(stack) or (self.no_stack,)
        return [*frames, *roots.get(process, ())]

    def process_name(self, index: int) -> str:
        """Return the name of a process: command and PID."""
        for each in self.report.processes:
            if each.index == index:
                return f"{shorten(clean(each.command), 80)} ({each.pid})"
        return f"process {index}"

    def origin(self, process: int) -> Origin:
        """Return where the figures of a process come from."""
        found = next((each for each in self.recording.processes if each.index == process), None)
        runs = self.recording.runs
        run = runs[found.run] if found and found.run < len(runs) else Run("", "", "", "")
        build_id = clean(found.build_id) if found else ""
        labels = {name: clean(value) for name, value in (*run.labels, *self.labels)}
        return Origin(clean(run.host), run.id, run.version, build_id, labels)


def commands(sources: Sequence[ExportSource]) -> str:
    """Format the commands that were recorded, each once."""
    return " + ".join(dict.fromkeys(clean(" ".join(each.report.command)) for each in sources))


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


def distinct_pids(source: ExportSource, taken: set[int]) -> dict[int, int]:
    """Return a number for each process: its PID, or the next that no process of another recording has.

    The programs that one process ran in turn have one number.
    """
    numbers: dict[int, int] = {}
    for pid in dict.fromkeys(each.pid for each in source.recording.processes):
        number = pid
        while number in taken:
            number += 1
        taken.add(number)
        numbers[pid] = number
    return {each.index: numbers[each.pid] for each in source.recording.processes}


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


def started_nanoseconds(source: ExportSource) -> int:
    """Return the start of a run in nanoseconds since 1970, 0 if it is unknown."""
    try:
        return round(datetime.fromisoformat(source.report.started).timestamp()) * 1_000_000_000
    except ValueError:
        return 0
