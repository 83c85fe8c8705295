"""Recordings for Python programs: `mematlas.open(path)`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

from mematlas.api.load import load, with_symbol_note
from mematlas.api.views import export_source, html_page
from mematlas.errors import MematlasError, UsageError
from mematlas.present.progress import step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mematlas.heap.api import Look
    from mematlas.recording import model
    from mematlas.report.model.diff import Diff
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Metric, Report
    from mematlas.report.model.window import Window

Format: TypeAlias = Literal[
    "html", "pprof", "speedscope", "collapsed", "dhat", "perfetto", "chrome", "parquet", "csv"
]
Unit: TypeAlias = Literal["bytes", "KiB", "pages"]
Table: TypeAlias = Literal["stacks", "lines", "timeline"]
Frames: TypeAlias = Literal["code", "all"]


class Recording:
    """A recording in an .atlas file, as `mematlas.open` returns it.

    The file is read once, at the start; the methods compute. All times are seconds from the start of
    the run, all sizes bytes. Figures of a sampled recording are estimates with standard errors.

    >>> import mematlas
    >>> recording = mematlas.open("app.atlas")
    >>> recording
    <mematlas.Recording 'app.atlas'>
    >>> recording.report().account.rss_bytes > 32 << 20
    True
    """

    __module__ = "mematlas"

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        skip: Iterable[str] = (),
        keep: Iterable[str] = (),
    ) -> None:
        """Read the file; see `mematlas.open` for the errors."""
        self.path = os.fspath(path)
        self._data = load(path, skip=skip, keep=keep)

    def __repr__(self) -> str:
        return f"<mematlas.Recording {self.path!r}>"

    def _repr_html_(self) -> str:
        """Return the report as notebooks show it."""
        from mematlas.api.cell_views import cell_html

        return cell_html(self)

    @property
    def command(self) -> tuple[str, ...]:
        """The traced command, one word an item.

        >>> mematlas.open("app.atlas").command[-1]
        'app.py'
        """
        return self._data.command

    @property
    def processes(self) -> tuple[model.Process, ...]:
        """All traced processes, the first one first. An exec starts another entry with the same PID.

        >>> [process.ending for process in mematlas.open("app.atlas").processes]
        ['exited 0']
        """
        return tuple(self._data.processes)

    @property
    def started_s(self) -> float:
        """The start of the run, in seconds since 1970.

        >>> mematlas.open("app.atlas").started_s > 1.7e9
        True
        """
        from mematlas.recording.folder import started_s

        return started_s(self._data)

    @property
    def duration_s(self) -> float:
        """Seconds from the start of the run to the last recorded event; 0.0 if there is none.

        >>> 1 < mematlas.open("app.atlas").duration_s < 60
        True
        """
        data = self._data
        ends = [each.end_s for each in data.processes if each.end_s is not None]
        ends += [each.time_s for each in data.snapshots]
        ends += [float(rows["time_s"][-1]) for rows in data.timeline.values() if len(rows)]
        return max(ends, default=0.0)

    @property
    def window_end_s(self) -> float:
        """The latest end of a `window()`, in seconds; 0.0 if lifetimes were not recorded.

        >>> recording = mematlas.open("app.atlas")
        >>> 0 < recording.window_end_s <= recording.duration_s
        True
        """
        from mematlas.report.analyse.window import end_of

        return end_of(self._data)

    @property
    def complete(self) -> bool:
        """False if the recording is cut short, or lossy; `notes` say which.

        The figures of a recording that was cut short are right up to its end. A lossy one lacks events of
        the program throughout.

        >>> mematlas.open("app.atlas").complete
        True
        """
        return self._data.complete

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not recorded or not resolved, and why; one sentence an item.

        >>> all(isinstance(note, str) for note in mematlas.open("app.atlas").notes)
        True
        """
        return tuple(self._data.notes)

    @property
    def marks(self) -> dict[str, float]:
        """The moments that the program named, with their seconds; a name set again is "NAME#2".

        >>> mematlas.open("app.atlas").marks
        {}
        """
        from mematlas.report.analyse.moments import labels

        return {label: mark.time_s for label, mark in labels(self._data).items()}

    def report(self, *, pid: int | None = None, at: str = "peak") -> Report:
        """Return the account of resident memory and the figures of all stacks.

        As `mematlas report` prints them. `pid` restricts the report to one process; after an exec,
        to its last program. `at` is the moment of the account: "peak", "end", or a mark of the program.

        Raises:
            UsageError: no process of the recording has this PID, or the program set no such mark.

        >>> report = mematlas.open("app.atlas").report()
        >>> account = report.account
        >>> parts = sum(part.resident_bytes for part in account.parts)
        >>> parts + account.unexplained_bytes == account.rss_bytes
        True
        >>> largest = max(report.stacks, key=lambda stack: stack.live_bytes)
        >>> any(frame.function == "load" for frame in largest.frames), largest.live_bytes >> 20
        (True, 32)
        """
        from mematlas.api.cell_views import name_cells, report_html
        from mematlas.report.analyse.report import make_report
        from mematlas.report.model.report import Report

        Report.cell_view = report_html
        name_cells(self)
        step("summing stacks")
        return with_symbol_note(self._data, make_report(self._data, self._index_of(pid), at=at))

    def leaks(self) -> Leaks:
        """Return what was live when each process ended, likely leaks first.

        As `mematlas leaks` prints it. `likely_bytes` sums up the likely leaks. `heap` is what nothing pointed to,
        of a recording of `run --graph`, else None.

        >>> leaks = mematlas.open("app.atlas").leaks()
        >>> leaks.live_bytes >= 32 << 20
        True
        """
        from dataclasses import replace

        from mematlas.report.analyse.leaks import find_leaks
        from mematlas.report.analyse.lost_memory import find_lost_memory

        leaks = find_leaks(self._data)
        return replace(leaks, heap=find_lost_memory(self._data)) if self._data.graphs else leaks

    def heap(self, *, pid: int | None = None, at: Literal["peak", "end"] | None = None) -> Look:
        """Return what kept each block alive, with the line that allocated it, as `mematlas heap` shows it.

        Of a recording of `run --graph`. `pid`: of this process; default the one with most live bytes. `at`: at
        the peak of RSS or at the end; default the peak, if there is a graph of it.

        Raises:
            UsageError: the recording has no such graph.

        >>> held = mematlas.open("app.atlas").heap()
        >>> int(held.retained[0]) == int(held.size.sum()) >= 32 << 20
        True
        """
        return self._heap(self._index_of(pid), at)

    def _heap(self, process: int | None, at: str | None) -> Look:
        from mematlas.heap.api import Look
        from mematlas.heap.read.recorded import read_graph
        from mematlas.report.analyse.heap_lines import choose_graph, with_lines

        step("reading the heap graph")
        graph = choose_graph(self._data, process, at)
        return Look.of(with_lines(read_graph(graph), self._data, graph.process))

    def diff(
        self,
        other: Recording,
        *,
        by: Metric = "resident",
        at: str | None = None,
        ignore_lines: bool = False,
    ) -> Diff:
        """Return what changed from this recording to another, by line and by stack.

        As `mematlas diff` prints it: bytes of the metric `by`, the largest changes first, at the same moment of
        both: "peak", "end" or a mark. Default: the peak, or the end if `by` is "live".
        `ignore_lines` matches frames by function alone, for code edited between the two runs.

        Raises:
            UsageError: one of the recordings lacks the metric or the moment.

        >>> before, after = mematlas.open("app.atlas"), mematlas.open("later.atlas")
        >>> change = before.diff(after).lines[0]
        >>> change.frames[0].function, change.bytes >> 20
        ('load', 16)
        """
        from mematlas.report.analyse.diff import compare

        found = compare(self._data, other._data, by, at=at, ignore_lines=ignore_lines)
        for path, report in zip((self.path, other.path), found.reports, strict=True):
            if why := report.why_unknown(by):
                raise UsageError(f"{path}: {by} is unknown: {why}")
        return found

    def window(
        self, start_s: float, end_s: float | None = None, *, pid: int | None = None
    ) -> Window:
        """Return what was allocated from `start_s` on and still live at `end_s`.

        As `mematlas report --since --until` prints it. Both are seconds from the start of the run, and
        move to the nearest edge of the recorded time cells. Without `end_s`, the window ends when
        each process did.

        Raises:
            UsageError: the window is empty, or no process has this PID.
            MematlasError: the recording does not hold the times of allocations.

        >>> recording = mematlas.open("app.atlas")
        >>> recording.window(0, recording.window_end_s).bytes >= 32 << 20
        True
        """
        from mematlas.report.analyse.window import make_window

        whole = self.window_end_s
        if not whole:
            raise MematlasError(
                f"{self.path} does not hold the times of allocations: made by an older mematlas, cut "
                "short in its first second, or on a machine without a usable clock"
            )
        if start_s >= (whole if end_s is None else end_s):
            raise UsageError(
                f"the window must start before its end and before {whole:.3g} s, the end of the run"
            )
        return make_window(self._data, start_s, end_s, self._index_of(pid))

    @overload
    def to(
        self,
        format: Format,
        output: None = None,
        *,
        by: Metric | None = None,
        pid: int | None = None,
        unit: Unit = "bytes",
        table: Table = "stacks",
        frames: Frames = "code",
        at: str = "peak",
    ) -> bytes: ...

    @overload
    def to(
        self,
        format: Format,
        output: str | os.PathLike[str],
        *,
        by: Metric | None = None,
        pid: int | None = None,
        unit: Unit = "bytes",
        table: Table = "stacks",
        frames: Frames = "code",
        at: str = "peak",
    ) -> Path: ...

    def to(  # noqa: PLR0913 - options of several formats
        self,
        format: Format,  # noqa: A002
        output: str | os.PathLike[str] | None = None,
        *,
        by: Metric | None = None,
        pid: int | None = None,
        unit: Unit = "bytes",
        table: Table = "stacks",
        frames: Frames = "code",
        at: str = "peak",
    ) -> bytes | Path:
        """Convert the recording to the file format of another tool, or to an HTML page.

        As `mematlas export --to FORMAT` does. Without `output`, the bytes are returned; with it, the
        file is written as a whole, and its path is returned.

        Arguments:
            format: html, pprof, speedscope, collapsed, dhat, perfetto, chrome, parquet or csv.
            output: the file to write.
            by: the metric, for formats that hold one; the first one shown, for the others. None: resident,
                and pss for several processes that share memory.
            pid: convert this process alone.
            unit: of collapsed stacks: bytes, KiB or pages.
            table: of csv and parquet: stacks, lines or timeline.
            frames: of pprof, speedscope, collapsed, dhat and perfetto: "code" leaves out the frames of language runtimes, so
                that stacks of Python end in its lines; "all" keeps them.
            at: of html, the moment of its account: "peak", "end", or a mark of the program.

        Raises:
            UsageError: the format or the PID is unknown, or the recording lacks the metric.
            MematlasError: the file cannot be written, or parquet lacks pyarrow.

        >>> recording = mematlas.open("app.atlas")
        >>> len(recording.to("collapsed", by="live").splitlines()) > 1
        True
        >>> recording.to("html", "app.html")
        PosixPath('app.html')
        """
        pieces = (
            iter([html_page(self, pid=pid, at=at).encode()])
            if format == "html"
            else self._render_export(format, by, pid, unit, table, frames)
        )
        if output is None:
            return b"".join(pieces)
        from mematlas.present.output_file import writing

        with writing(output) as part, part.open("wb") as file:
            file.writelines(pieces)
        return Path(output)

    def _render_export(
        self, form: str, by: str | None, pid: int | None, unit: str, table: str, frames: str
    ) -> Iterator[bytes]:
        from mematlas.report.export import FORMATS, render_export

        known = [each.name for each in FORMATS]
        if form not in known:
            raise UsageError(f"unknown format {form!r}; use html, {', '.join(known)}")
        source = export_source(self, form, by=by, pid=pid, unit=unit, table=table, frames=frames)
        return render_export([source], form)

    def _index_of(self, pid: int | None) -> int | None:
        """Return the index of the last program that a process ran; None for all processes."""
        if pid is None:
            return None
        found = [each.index for each in self._data.processes if each.pid == pid]
        if not found:
            known = ", ".join(sorted({str(each.pid) for each in self._data.processes})[:20])
            raise UsageError(f"PID {pid} is not in the recording; it has {known or 'none'}")
        return found[-1]


def open(  # noqa: A001 - mematlas.open, as in gzip.open
    path: str | os.PathLike[str], *, skip: Iterable[str] = (), keep: Iterable[str] = ()
) -> Recording:
    """Read a recording, resolve its symbols, and return it.

    `path` is an .atlas file that `mematlas run`, `mematlas attach` or `mematlas.trace` wrote, or the folder of a
    rolling recording, which is read as one. A
    recording that is cut short is read up to its end, and has `complete` False. Owners look through
    functions whose name matches an expression of `skip`, and never through those of `keep`.

    Raises:
        TargetError: there is no such file.
        AccessError: the file may not be read.
        MematlasError: the file is not a recording, or its format is newer than this mematlas.
        UsageError: an expression of `skip` or `keep` is malformed.

    >>> import mematlas
    >>> recording = mematlas.open("app.atlas")
    >>> recording.complete, len(recording.processes)
    (True, 1)
    """
    return Recording(path, skip=skip, keep=keep)


open.__module__ = "mematlas"


def open_at(
    path: str | os.PathLike[str],
    at_s: float | None,
    *,
    skip: Iterable[str] = (),
    keep: Iterable[str] = (),
) -> Recording:
    """Read a recording as it was at a time in seconds since 1970; None: as it is. Raises as open()."""
    return recording_of(os.fspath(path), load(path, skip=skip, keep=keep, at_s=at_s))


def recording_of(path: str, data: model.RecordingData) -> Recording:
    """Return the recording of data that were read before."""
    found = Recording.__new__(Recording)
    found.path, found._data = path, data  # noqa: SLF001 - a function of the same module
    return found
