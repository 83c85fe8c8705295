"""Write a recording as another tool's file: pprof, speedscope, flame graphs, DHAT, Parquet, ..."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import positive
from mematlas.cli.recordings import open_recording
from mematlas.errors import UsageError
from mematlas.present.output_file import writing
from mematlas.report.export import FORMATS, Format
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.report.export.source import ExportSource

UNITS = ("bytes", "KiB", "pages")
TABLES = ("stacks", "lines", "timeline")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    width = max(len(each.name) for each in FORMATS)
    lines = [f"  {each.name:<{width}}  {each.summary}; {_opens(each)}" for each in FORMATS]
    parser.epilog = "formats, and what opens them:\n" + "\n".join(lines)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", metavar="FILE", help="a recording, of `mematlas run` or `attach`")
    parser.add_argument(
        "--to", choices=[each.name for each in FORMATS], required=True, help="the format"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="the file to write (default: FILE's name; - is stdout)",
    )
    parser.add_argument(
        "--by",
        choices=METRICS,
        default="resident",
        help="the metric, or of formats that hold all the one shown first (default resident)",
    )
    parser.add_argument("--pid", type=positive, help="export this process alone")
    parser.add_argument(
        "--unit", choices=UNITS, default="bytes", help="of collapsed stacks (default bytes)"
    )
    parser.add_argument(
        "--table", choices=TABLES, default="stacks", help="of csv and parquet (default stacks)"
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    from mematlas.api.recording import export_source
    from mematlas.report.export import render_export

    form = next(each for each in FORMATS if each.name == arguments.to)
    path = arguments.output or _beside(arguments.file, form)
    if path == "-" and arguments.json:
        raise UsageError("--json prints to stdout, so the export needs a file: -o OUT")
    source = export_source(
        open_recording(arguments.file),
        by=arguments.by,
        pid=arguments.pid,
        unit=arguments.unit,
        table=arguments.table,
    )
    size = _write(path, render_export(source, form.name))
    if path != "-":
        _tell(arguments, source, form, path, size)
    return 0


def _beside(file: str, form: Format) -> str:
    """Name the output after the recording, in the folder one is in."""
    return Path(file).name.removesuffix(".atlas") + form.suffix


def _write(path: str, pieces: Iterator[bytes]) -> int:
    if path == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return 0
    with writing(path) as part, part.open("wb") as file:
        return sum(map(file.write, pieces))


def _tell(
    arguments: argparse.Namespace, source: ExportSource, form: Format, path: str, size: int
) -> None:
    if arguments.json:
        facts = {
            "file": path,
            "format": form.name,
            "bytes": size,
            "by": arguments.by,
            "stacks": len(source.table),
            "total_bytes": int(source.table.metric(arguments.by).sum()),
            "complete": source.report.complete,
            "notes": list(source.report.notes),
        }
        print(json.dumps({"schema": "mematlas/export/1", "data": facts}))
        return
    print(f"mematlas: {path}: {size:,} bytes; {_opens(form, path)}", file=sys.stderr)


def _opens(form: Format, path: str = "OUT") -> str:
    said = form.opens.format(shlex.quote(path))
    return said if said.startswith(("any", "drop")) else f"open it with `{said}`"
