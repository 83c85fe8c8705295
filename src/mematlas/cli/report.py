"""Report on a recording: the account of its resident memory, and the lines of code that own it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import moment, positive
from mematlas.cli.recordings import open_recording
from mematlas.errors import UsageError
from mematlas.present.output_file import writing
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    import argparse

    from mematlas.api.recording import Recording

DEFAULT_LINES = 20
DEFAULT_STACKS = 1000  # in JSON: all of them can be gigabytes, each with its frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", metavar="FILE", help="a recording, of `mematlas run` or `attach`")
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/report/1)")
    parser.add_argument(
        "--html", metavar="OUT", help="write the report as one HTML file, instead of printing it"
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        help=f"show the first N lines, or stacks in JSON (default {DEFAULT_LINES}; JSON {DEFAULT_STACKS})",
    )
    parser.add_argument(
        "--by", choices=METRICS, default="resident", help="rank by this (default resident)"
    )
    parser.add_argument(
        "--from",
        dest="start",
        metavar="T",
        type=moment,
        help="what was allocated from this moment on and still live at --to: 12s, 1.5m, 25%%",
    )
    parser.add_argument(
        "--to", dest="end", metavar="T", type=moment, help="... default the end of the run"
    )
    parser.add_argument("--pid", type=positive, help="report on this process alone")


def run(arguments: argparse.Namespace) -> int:
    """Read the recording and print the report."""
    recording = open_recording(arguments.file)
    if arguments.start or arguments.end:
        return _run_window(arguments, recording)
    if arguments.html:
        page = recording.to("html", pid=arguments.pid)
        write_page(arguments.html, page.decode())
        if not arguments.json:
            return 0
    report = recording.report(pid=arguments.pid)
    if arguments.json:
        from mematlas.report import json_writer

        top = arguments.top or DEFAULT_STACKS
        sys.stdout.writelines(json_writer.render_report(report, by=arguments.by, top=top))
        return 0
    from rich.console import Console

    from mematlas.report.text.report import render_report

    top = arguments.top or DEFAULT_LINES
    render_report(report, top=top, by=arguments.by, console=Console())
    return 0


def _run_window(arguments: argparse.Namespace, recording: Recording) -> int:
    """Print what was allocated during a part of the run and outlived it."""
    if arguments.html or arguments.by != "resident":
        raise UsageError(
            "--from and --to take neither --html nor --by: they rank by bytes still live"
        )
    whole = recording.window_end_s
    start, end = _seconds(arguments.start, whole) or 0.0, _seconds(arguments.end, whole)
    window = recording.window(start, end, pid=arguments.pid)
    if arguments.json:
        from mematlas.report import json_writer

        sys.stdout.writelines(
            json_writer.render_window(window, top=arguments.top or DEFAULT_STACKS)
        )
        return 0
    from rich.console import Console

    from mematlas.report.text import render_window

    render_window(window, top=arguments.top or DEFAULT_LINES, console=Console())
    return 0


def _seconds(moment: tuple[float, str] | None, whole: float) -> float | None:
    if moment is None:
        return None
    number, unit = moment
    return number * whole if unit == "%" else number


def write_page(path: str, page: str) -> None:
    """Write a page and tell how large it is."""
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    print(f"mematlas: {path}: {len(page):,} bytes", file=sys.stderr)
