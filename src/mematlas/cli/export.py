"""Convert a recording for another tool: pprof, speedscope, flame graphs, DHAT, Parquet, ..."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_recording, add_wrappers, positive
from mematlas.cli.recordings import open_recording
from mematlas.errors import UsageError
from mematlas.present.output_file import writing
from mematlas.report.export import FORMATS, Format
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from mematlas.report.export.source import ExportSource

UNITS = ("bytes", "KiB", "pages")
TABLES = ("stacks", "lines", "timeline")
EXAMPLES = (
    "export app.atlas --to pprof -o app.pb.gz",
    "export app.atlas --to collapsed --by live -o -",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas export`."""
    width = max(len(each.name) for each in FORMATS)
    lines = [f"  {each.name:<{width}}  {each.summary}; {_opens(each)}" for each in FORMATS]
    parser.epilog = "formats, and what opens them:\n" + "\n".join(lines)
    add_recording(parser)
    parser.add_argument(
        "--to",
        metavar="FORMAT",
        choices=[each.name for each in FORMATS],
        required=True,
        help="the format; see below",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write to FILE; - is standard output (default: the name of the recording)",
    )
    parser.add_argument(
        "--by",
        choices=METRICS,
        help="the metric, or the first one shown if the format holds all "
        "(default resident; of several processes that share memory pss)",
    )
    parser.add_argument("--pid", metavar="PID", type=positive, help="export this process only")
    add_wrappers(parser)
    parser.add_argument(
        "--frames",
        choices=("code", "all"),
        default="code",
        help="of pprof, speedscope, collapsed and dhat: the program's code and its libraries, or also the frames of"
        " interpreters and allocators (default code)",
    )
    parser.add_argument(
        "--unit", choices=UNITS, default="bytes", help="unit of collapsed stacks (default bytes)"
    )
    parser.add_argument(
        "--table",
        choices=TABLES,
        default="stacks",
        help="table of csv and parquet (default stacks)",
    )
    parser.add_argument(
        "--json", action="store_true", help="describe the written file in JSON (mematlas/export/1)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    from mematlas.api.recording import export_source, with_frames
    from mematlas.report.export import render_export

    form = next(each for each in FORMATS if each.name == arguments.to)
    path = arguments.output or _default_name(arguments.file, form)
    if path == "-" and arguments.json:
        raise UsageError(
            "--json prints to standard output; write the export to a file with -o FILE"
        )
    source = export_source(
        open_recording(arguments.file, arguments.skip, arguments.keep),
        by=arguments.by,
        pid=arguments.pid,
        unit=arguments.unit,
        table=arguments.table,
    )
    source = with_frames(source, form.name, arguments.frames)
    size = _write(path, render_export(source, form.name))
    if path != "-":
        _print_result(arguments, source, form, path, size)
    return 0


def _default_name(file: str, form: Format) -> str:
    """Return a name after the recording, in the working directory."""
    return Path(file).name.removesuffix(".atlas") + form.suffix


def _write(path: str, pieces: Iterator[bytes]) -> int:
    if path == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return 0
    with writing(path) as part, part.open("wb") as file:
        return sum(map(file.write, pieces))


def _print_result(
    arguments: argparse.Namespace, source: ExportSource, form: Format, path: str, size: int
) -> None:
    if arguments.json:
        facts = {
            "file": path,
            "format": form.name,
            "bytes": size,
            "by": source.by,
            "stacks": len(source.table),
            "total_bytes": int(source.table.metric(source.by).sum()),
            "complete": source.report.complete,
            "notes": list(source.report.notes),
        }
        print(json.dumps({"schema": "mematlas/export/1", "data": facts}))
        return
    print(f"mematlas: {path}: {size:,} bytes; {_opens(form, path)}", file=sys.stderr)


def _opens(form: Format, path: str = "FILE") -> str:
    text = form.opens.format(shlex.quote(path))
    return text if text.startswith(("any", "drop")) else f"open it with `{text}`"
