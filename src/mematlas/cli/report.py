"""Report on a recording: the account of its resident memory, and the lines of code that own it."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import moment, positive
from mematlas.cli.output import writing
from mematlas.errors import MematlasError, UsageError
from mematlas.report.model.report import METRICS

if TYPE_CHECKING:
    import argparse

    from mematlas.recording.model import Recording
    from mematlas.report.model.report import Report

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
    from mematlas.report.analyse.report import make_report

    recording = load(arguments.file)
    if arguments.start or arguments.end:
        return _run_window(arguments, recording)
    report = make_report(recording, find_process(recording, arguments.pid))
    if arguments.html:
        whole = recording if arguments.pid is None else None
        _write_html(arguments.html, report, whole)
    if arguments.json:
        from mematlas.report import json_writer

        top = arguments.top or DEFAULT_STACKS
        sys.stdout.writelines(json_writer.render_report(report, by=arguments.by, top=top))
        return 0
    if arguments.html:
        return 0
    from rich.console import Console

    from mematlas.report.text.report import render_report

    top = arguments.top or DEFAULT_LINES
    render_report(report, top=top, by=arguments.by, console=Console())
    return 0


def _run_window(arguments: argparse.Namespace, recording: Recording) -> int:
    """Print what was allocated during a part of the run and outlived it."""
    from mematlas.report.analyse.window import end_of, make_window

    if arguments.html or arguments.by != "resident":
        raise UsageError(
            "--from and --to take neither --html nor --by: they rank by bytes still live"
        )
    whole = end_of(recording)
    if not whole:
        raise MematlasError(
            "this recording does not tell when memory was allocated: made by an older mematlas, cut "
            "short in its first second, or on a machine whose clock tells no time"
        )
    start = _seconds(arguments.start, whole) or 0.0
    end = _seconds(arguments.end, whole)
    if start >= (whole if end is None else end):
        raise UsageError(f"--from must come before --to and the end of the run, {whole:.3g} s")
    window = make_window(recording, start, end, find_process(recording, arguments.pid))
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


def _write_html(path: str, report: Report, whole: Recording | None) -> None:
    """Write the page; what outlived what is told of the whole run alone."""
    from mematlas.report.analyse.leaks import find_leaks
    from mematlas.report.analyse.spans import make_spans
    from mematlas.report.analyse.table import StackTable
    from mematlas.report.html import render_html

    paths = StackTable.of(report.stacks).paths
    leaks = find_leaks(whole, paths) if whole else None
    spans = make_spans(whole, paths) if whole else None
    write_page(path, render_html(report, leaks, spans))


def write_page(path: str, page: str) -> None:
    """Write a page and tell how large it is."""
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    print(f"mematlas: {path}: {len(page):,} bytes", file=sys.stderr)


def load(path: str) -> Recording:
    """Read a recording and resolve what the run had no time to resolve."""
    from mematlas.recording import read
    from mematlas.recording.frames import resolve_missing

    gc.disable()  # a million live objects and no cycles: collecting would double the time
    recording = read(path)
    recording.notes += resolve_missing(recording)
    return recording


def find_process(recording: Recording, pid: int | None) -> int | None:
    """Index of the last image of a process; None for all."""
    if pid is None:
        return None
    found = [each.index for each in recording.processes if each.pid == pid]
    if not found:
        known = ", ".join(sorted({str(each.pid) for each in recording.processes})[:20])
        raise UsageError(f"PID {pid} is not in the recording; these are: {known or 'none'}")
    return found[-1]
