"""Recordings as other tools' files. Each module writes one format, exactly as its readers ask."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.report.export.source import ExportSource


class Format(NamedTuple):
    """One format: what its files are called, and what opens them."""

    name: str
    suffix: str
    summary: str
    opens: str


FORMATS = (
    Format("pprof", ".pb.gz", "all metrics in one profile.proto", "go tool pprof -http=: {}"),
    Format("speedscope", ".speedscope.json", "a profile a metric", "drop it on speedscope.app"),
    Format("collapsed", ".collapsed.txt", "one metric, a line a stack", "flamegraph.pl {}"),
    Format("dhat", ".dhat.json", "valgrind's heap profile", "drop it on dh_view.html"),
    Format("chrome", ".trace.json", "memory over time", "drop it on ui.perfetto.dev"),
    Format("parquet", ".parquet", "a row a stack, in columns", "duckdb -c \"from '{}'\""),
    Format("csv", ".csv", "a row a stack", "any spreadsheet"),
)


def render_export(source: ExportSource, name: str) -> Iterator[bytes]:
    """Write a recording in a format, piece by piece."""
    render: Iterator[bytes] = import_module(f"mematlas.report.export.{name}").render(source)
    return render
