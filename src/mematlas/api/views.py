"""What a page and an export show of a recording."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mematlas.errors import UsageError
from mematlas.present.progress import step

if TYPE_CHECKING:
    from mematlas.api.recording import Recording
    from mematlas.report.export.source import ExportSource
    from mematlas.report.model.heap import HeapView

_HOLDERS = 30  # rows of a heap graph in a page
_AT: dict[str, Literal["peak", "end"]] = {"peak": "peak", "exit": "end"}
STACK_FORMATS = ("pprof", "speedscope", "collapsed", "dhat", "perfetto")


def html_page(
    recording: Recording, *, pid: int | None = None, at: str = "peak", editor: str = ""
) -> str:
    """Return the HTML page of a recording, as `mematlas report -o` writes it.

    `editor` is the URL that opens a line in an editor, with {file} and {line} in it.
    """
    from mematlas.report.analyse.leaks import find_leaks
    from mematlas.report.analyse.lines import lines
    from mematlas.report.analyse.spans import make_spans
    from mematlas.report.analyse.table import StackTable
    from mematlas.report.html import render_html

    report = recording.report(pid=pid, at=at)
    ranked = lines(report.stacks, report.main_metric)
    if pid is not None:  # leaks and lifetimes are computed for all processes together
        return render_html(report, ranked, editor=editor)
    step("comparing snapshots")
    data = recording._data  # noqa: SLF001 - of the same room
    paths = StackTable.of(report.stacks).paths
    leaks, spans = find_leaks(data, paths), make_spans(data, paths)
    heaps = heap_views(recording)
    step("drawing the page")
    return render_html(report, ranked, leaks, spans, editor, heaps)


def heap_views(recording: Recording, top: int = _HOLDERS) -> tuple[HeapView, ...]:
    """Return what held the memory of the process with most live bytes, at each moment with a graph."""
    from mematlas.report.analyse.heap_lines import choose_graph
    from mematlas.report.model.heap import HeapView

    data = recording._data  # noqa: SLF001 - of the same room
    if not data.graphs:
        return ()
    process = choose_graph(data, None, None).process
    moments = [moment for index, moment in sorted(data.graphs, reverse=True) if index == process]
    return tuple(
        HeapView(each, recording._heap(process, _AT[each]).summary(top=top))  # noqa: SLF001
        for each in moments
    )


def export_source(
    recording: Recording,
    form: str,
    *,
    by: str | None = None,
    pid: int | None = None,
    unit: str = "bytes",
    table: str = "stacks",
    frames: str = "code",
) -> ExportSource:
    """Return what the exporter of a format writes; UsageError if the metric is unknown. `by` None: the main one.

    With `frames` "code", stacks come without the frames of language runtimes.
    """
    from mematlas.report.analyse.code_frames import code_only
    from mematlas.report.analyse.export import export_table
    from mematlas.report.export.source import ExportSource

    report = recording.report(pid=pid)
    by = by or report.main_metric
    if why := report.why_unknown(by):
        raise UsageError(f"{recording.path}: {by} is unknown: {why}; choose another metric")
    step("converting stacks")
    rows = export_table(recording._data, report)  # noqa: SLF001 - of the same room
    if frames == "code" and form in STACK_FORMATS:
        rows = code_only(rows)
    data = recording._data  # noqa: SLF001
    return ExportSource(data, report, rows, by=by, unit=unit, rows=table, frames=frames)
