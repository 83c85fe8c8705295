"""Export of recordings to formats of other tools, one module per format."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mematlas.report.export.source import ExportSource


class Format(NamedTuple):
    """A format: name, file suffix, summary, and the command that opens its files."""

    name: str
    suffix: str
    summary: str
    opens: str


FORMATS = (
    Format("pprof", ".pb.gz", "all metrics in one profile.proto", "go tool pprof -http=: {}"),
    Format("speedscope", ".speedscope.json", "one profile per metric", "drop it on speedscope.app"),
    Format("collapsed", ".collapsed.txt", "one metric, one stack per line", "flamegraph.pl {}"),
    Format("dhat", ".dhat.json", "heap profile of valgrind's DHAT", "drop it on dh_view.html"),
    Format(
        "perfetto", ".pftrace", "heap profile and memory over time", "drop it on ui.perfetto.dev"
    ),
    Format("chrome", ".trace.json", "memory over time", "drop it on ui.perfetto.dev"),
    Format("parquet", ".parquet", "one row per stack, columnar", "duckdb -c \"from '{}'\""),
    Format("csv", ".csv", "one row per stack", "any spreadsheet"),
)


def render_export(sources: Sequence[ExportSource], name: str) -> Iterator[bytes]:
    """Render recordings in a format, in pieces. All sources have the same `by`, `unit` and `rows`."""
    render: Iterator[bytes] = import_module(f"mematlas.report.export.{name}").render(sources)
    return render
