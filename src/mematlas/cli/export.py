"""Convert a recording for another tool: pprof, speedscope, flame graphs, DHAT, Parquet, ..."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_wrappers, positive
from mematlas.cli.recording_options import add_label, parse_labels
from mematlas.cli.recordings import open_recording
from mematlas.errors import UsageError
from mematlas.present.output_file import writing
from mematlas.present.printable import clean
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
    "export web-*.atlas --to parquet --label site=berlin -o fleet.parquet",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas export`."""
    width = max(len(each.name) for each in FORMATS)
    lines = [f"  {each.name:<{width}}  {each.summary}; {_opens(each)}" for each in FORMATS]
    parser.epilog = "formats, and what opens them:\n" + "\n".join(lines)
    parser.add_argument(
        "files",
        metavar="RECORDING",
        nargs="+",
        help="a recording, of `mematlas run` or `mematlas attach`; several become one file",
    )
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
        help="of pprof, speedscope, collapsed, dhat and perfetto: the program's code and its libraries, or also the frames of"
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
    add_label(parser, "label what is exported, besides the labels of the recordings; repeatable")
    parser.add_argument(
        "--json", action="store_true", help="describe the written file in JSON (mematlas/export/1)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the file."""
    from mematlas.report.export import render_export

    form = next(each for each in FORMATS if each.name == arguments.to)
    path = arguments.output or _default_name(arguments.files, form)
    if path == "-" and arguments.json:
        raise UsageError(
            "--json prints to standard output; write the export to a file with -o FILE"
        )
    if any(_same_file(path, each) for each in arguments.files):
        raise UsageError(f"{path} is one of the recordings; name another file")
    sources = _sources(arguments, form)
    size = _write(path, render_export(sources, form.name))
    if path != "-":
        _print_result(arguments, sources, form, path, size)
    return 0


def _sources(arguments: argparse.Namespace, form: Format) -> list[ExportSource]:
    """Read the recordings. All are exported by one metric, that of the first if none is named."""
    from mematlas.api.views import export_source

    labels, by = parse_labels(arguments.label), arguments.by
    titles = _titles(arguments.files) if len(arguments.files) > 1 else [""]
    found: list[ExportSource] = []
    for file, title in zip(arguments.files, titles, strict=True):
        source = export_source(
            open_recording(file, arguments.skip, arguments.keep),
            form.name,
            by=by,
            pid=arguments.pid,
            unit=arguments.unit,
            table=arguments.table,
            frames=arguments.frames,
        )
        by = source.by
        found.append(replace(source, title=title, labels=labels))
    return found


def _titles(files: list[str]) -> list[str]:
    """Return a name for each recording: of its file, or its path where two files have one name."""
    names = [Path(each).name.removesuffix(".atlas") for each in files]
    titles = [
        clean(name if names.count(name) == 1 else file)
        for name, file in zip(names, files, strict=True)
    ]
    if len(set(titles)) < len(titles):
        twice = next(each for each in titles if titles.count(each) > 1)
        raise UsageError(f"{twice} is named twice")
    return titles


def _same_file(path: str, file: str) -> bool:
    return path != "-" and Path(path).exists() and Path(file).exists() and Path(path).samefile(file)


def _default_name(files: list[str], form: Format) -> str:
    """Return a name after the recording, in the working directory.

    Raises:
        UsageError: there are several recordings.
    """
    if len(files) > 1:
        raise UsageError(f"name the file for {len(files)} recordings with -o FILE")
    return Path(files[0]).name.removesuffix(".atlas") + form.suffix


def _write(path: str, pieces: Iterator[bytes]) -> int:
    if path == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return 0
    with writing(path) as part, part.open("wb") as file:
        return sum(map(file.write, pieces))


def _print_result(
    arguments: argparse.Namespace,
    sources: list[ExportSource],
    form: Format,
    path: str,
    size: int,
) -> None:
    if arguments.json:
        facts = {
            "file": path,
            "format": form.name,
            "bytes": size,
            "by": sources[0].by,
            "recordings": len(sources),
            "stacks": sum(len(each.table) for each in sources),
            "total_bytes": sum(int(each.table.metric(each.by).sum()) for each in sources),
            "complete": all(each.report.complete for each in sources),
            "notes": [note for each in sources for note in each.report.notes],
        }
        print(json.dumps({"schema": "mematlas/export/1", "data": facts}))
        return
    print(f"mematlas: {path}: {size:,} bytes; {_opens(form, path)}", file=sys.stderr)


def _opens(form: Format, path: str = "FILE") -> str:
    text = form.opens.format(shlex.quote(path))
    return text if text.startswith(("any", "drop")) else f"open it with `{text}`"
