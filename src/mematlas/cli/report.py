"""Report on a recording: the account of its resident memory, and the lines of code that own it."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import (
    add_json,
    add_output,
    add_recording,
    add_wrappers,
    output_format,
    percent,
    positive,
    run_time,
)
from mematlas.cli.markdown import add_markdown, settle_markdown, write_markdown
from mematlas.cli.recordings import open_recording, parse_time, split_time
from mematlas.errors import UsageError
from mematlas.present.output_file import writing
from mematlas.report.model.report import END, METRICS, PEAK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.api.recording import Recording

DEFAULT_LINES = 20
DEFAULT_STACKS = 1000  # in JSON: all of them can be gigabytes, each with its frames
_NO_EDITOR = frozenset(("javascript", "data", "vbscript", "blob", "file", "about"))
EXAMPLES = (
    "report app.atlas --tree --by-package",
    "report app.atlas -o report.html --open",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas report`."""
    add_recording(parser)
    parser.add_argument(
        "--by",
        choices=METRICS,
        help="rank by this metric (default resident; of several processes pss, which counts shared pages once)",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        help=f"list the first N lines, or stacks in JSON (default {DEFAULT_LINES}; JSON {DEFAULT_STACKS})",
    )
    parser.add_argument(
        "--at",
        metavar="MOMENT",
        default=PEAK,
        help="show the account of this moment: peak, end, a mark of the program, or a time such as 14:30,"
        " 2026-11-30T14:30 or 10m-ago (default peak)",
    )
    parser.add_argument("--pid", metavar="PID", type=positive, help="report on this process only")
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=run_time,
        help="show what was allocated from this time of the run on: 12s, 1.5m, 25%%, a mark, or 14:30",
    )
    parser.add_argument(
        "--until",
        metavar="TIME",
        type=run_time,
        help="... and still live at this time (default the end of the run)",
    )
    parser.add_argument(
        "--tree", action="store_true", help="show a call tree, from the roots to the leaves"
    )
    parser.add_argument(
        "--inverted",
        action="store_true",
        help="with --tree: from the functions that allocate to their callers",
    )
    parser.add_argument(
        "--by-package",
        action="store_true",
        help="sum lines, or fold the tree, by Python package or library",
    )
    parser.add_argument(
        "--depth", metavar="N", type=positive, help="with --tree: show N levels (default all)"
    )
    parser.add_argument(
        "--threshold",
        metavar="PERCENT",
        type=percent,
        help="with --tree: show nodes with at least PERCENT of the total (default 1)",
    )
    add_output(
        parser, "write an HTML page with flame graph and timeline, or JSON if FILE ends in .json"
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="open the HTML page in the browser; without -o a page in a temporary folder",
    )
    parser.add_argument(
        "--editor",
        metavar="URL",
        type=editor_url,
        help="with an HTML page: open lines by this URL, such as 'zed://file/{file}:{line}'"
        " (default VS Code; a setting of the page)",
    )
    add_wrappers(parser)
    add_markdown(parser)
    add_json(parser, "report")


def editor_url(text: str) -> str:
    """Parse the URL of an editor, for `type=` of an argument. Schemes that browsers run are refused."""
    scheme = re.match(r"([a-z][a-z0-9+.-]*):", text, re.IGNORECASE)
    if "{file}" not in text or scheme is None or scheme[1].lower() in _NO_EDITOR:
        message = (
            f"{text!r} is not the URL of an editor; write it as vscode://file/{{file}}:{{line}}"
        )
        raise argparse.ArgumentTypeError(message)
    return text


def run(arguments: argparse.Namespace) -> int:
    """Read the recording, and print or write the report."""
    recording = _open(arguments)
    _check_markdown(arguments)
    if arguments.tree or arguments.by_package:
        return _run_tree(arguments, recording)
    if arguments.inverted or arguments.depth or arguments.threshold is not None:
        raise UsageError("--inverted, --depth and --threshold need --tree")
    if arguments.since or arguments.until:
        return _run_window(arguments, recording)
    _write_files(arguments, recording)
    if arguments.json:
        sys.stdout.writelines(_render_json(recording, arguments))
    _print(recording, arguments)
    return 0


def _open(arguments: argparse.Namespace) -> Recording:
    """Open the recording, as it was at the time of --at: its end is the moment then."""
    at_s = parse_time(arguments.at)
    if at_s is not None or split_time(arguments.file)[1] is not None:
        arguments.at = END if at_s is not None or arguments.at == PEAK else arguments.at
    return open_recording(arguments.file, arguments.skip, arguments.keep, at_s=at_s)


def _write_files(arguments: argparse.Namespace, recording: Recording) -> None:
    """Write the pages and JSON files of --output, and open the page with --open."""
    from mematlas.api.views import html_page
    from mematlas.cli.browser import add_page, open_page

    if arguments.open:
        add_page(arguments)
    for path in arguments.output:
        if output_format(path, "html", "json") == "html":
            page = html_page(
                recording, pid=arguments.pid, at=arguments.at, editor=arguments.editor or ""
            )
            write_text(path, [page])
        else:
            write_text(path, _render_json(recording, arguments))
    if arguments.open:
        open_page(arguments.output)


def _check_markdown(arguments: argparse.Namespace) -> None:
    """Raise UsageError for what has no Markdown."""
    has_none = bool(arguments.tree or arguments.by_package or arguments.since or arguments.until)
    settle_markdown(arguments, has_none=has_none)
    if has_none and (arguments.markdown or arguments.step_summary):
        raise UsageError(
            "--markdown and --step-summary take neither --tree nor --by-package nor --since nor --until"
        )


def _print(recording: Recording, arguments: argparse.Namespace) -> None:
    """Print the report as text or Markdown, unless other output was asked for."""
    other = arguments.json or arguments.output
    if other and not (arguments.markdown or arguments.step_summary):
        return
    from rich.console import Console

    from mematlas.report import markdown
    from mematlas.report.analyse.lines import lines
    from mematlas.report.text.report import render_report

    report = recording.report(pid=arguments.pid, at=arguments.at)
    top = arguments.top or DEFAULT_LINES
    by = arguments.by or report.main_metric
    ranked = lines(report.stacks, by)
    leaks = None if arguments.pid else recording.leaks()  # which are of all processes together
    written = markdown.render_report(report, ranked, by=by, top=top, leaks=leaks)
    if not (write_markdown(arguments, written) or other):
        from mematlas.api.views import heap_views

        heaps = () if arguments.pid else heap_views(recording, top=top)
        render_report(report, ranked, top=top, by=by, console=Console(), leaks=leaks, heaps=heaps)


def _run_tree(arguments: argparse.Namespace, recording: Recording) -> int:
    """Print a call tree, or the lines by package."""
    if arguments.output or arguments.open or arguments.since or arguments.until:
        raise UsageError(
            "--tree and --by-package take none of --output, --open, --since and --until"
        )
    from rich.console import Console

    from mematlas.report import json_writer
    from mematlas.report.analyse.call_tree import make_call_tree
    from mematlas.report.analyse.lines import lines
    from mematlas.report.analyse.packages import sum_packages
    from mematlas.report.frame_names import directory_of
    from mematlas.report.text.call_tree import TreeLimits, render_call_tree, render_packages

    report = recording.report(pid=arguments.pid, at=arguments.at)
    by = arguments.by or report.main_metric
    ranked = lines(report.stacks, by)
    directory = directory_of(report, ranked)
    limits = TreeLimits(
        arguments.depth, 0.01 if arguments.threshold is None else arguments.threshold / 100
    )
    why = report.why_unknown(by)
    if not arguments.tree:
        packages = sum_packages(ranked, by, directory)
        if arguments.json:
            sys.stdout.writelines(json_writer.render_packages(packages, by, known=why is None))
        else:
            render_packages(
                packages,
                by,
                top=arguments.top or DEFAULT_LINES,
                directory=directory,
                console=Console(),
                why_unknown=why,
            )
        return 0
    tree = make_call_tree(
        report.stacks,
        by,
        inverted=arguments.inverted,
        by_package=arguments.by_package,
        directory=directory,
    )
    if arguments.json:
        sys.stdout.writelines(
            json_writer.render_call_tree(tree, limits.depth, limits.least, known=why is None)
        )
    else:
        render_call_tree(tree, limits, directory, Console(), why)
    return 0


def _render_json(recording: Recording, arguments: argparse.Namespace) -> Iterator[str]:
    from mematlas.report import json_writer

    report = recording.report(pid=arguments.pid, at=arguments.at)
    top = arguments.top or DEFAULT_STACKS
    return json_writer.render_report(report, by=arguments.by or report.main_metric, top=top)


def _run_window(arguments: argparse.Namespace, recording: Recording) -> int:
    """Print what was allocated within a part of the run and outlived it."""
    writes = arguments.output or arguments.open
    if writes or arguments.by not in {None, "resident"} or arguments.at not in {PEAK, END}:
        raise UsageError(
            "--since and --until take no --output, --open, --by or --at: they rank by bytes still live"
        )
    whole = recording.window_end_s
    start = _seconds(arguments.since, whole, recording) or 0.0
    end = _seconds(arguments.until, whole, recording)
    window = recording.window(start, end, pid=arguments.pid)
    if arguments.json:
        from mematlas.report import json_writer

        sys.stdout.writelines(
            json_writer.render_window(window, top=arguments.top or DEFAULT_STACKS)
        )
        return 0
    from rich.console import Console

    from mematlas.report.analyse.lines import lines
    from mematlas.report.text import render_window

    ranked = lines(window.stacks, "live")
    render_window(window, ranked, top=arguments.top or DEFAULT_LINES, console=Console())
    return 0


def _seconds(
    time: tuple[float, str] | str | None, whole: float, recording: Recording
) -> float | None:
    if time is None:
        return None
    if isinstance(time, str):
        if time not in recording.marks and (at_s := parse_time(time)) is not None:
            return max(at_s - recording.started_s, 0.0)
        if time not in recording.marks:
            known = ", ".join(list(recording.marks)[:10]) or "none"
            raise UsageError(
                f"{time!r} is no time such as 12s or 25%, and no mark of the program; it set {known}"
            )
        return recording.marks[time]
    number, unit = time
    return number * whole if unit == "%" else number


def write_text(path: str, pieces: Iterator[str] | list[str]) -> None:
    """Write a file and print its size on stderr."""
    with writing(path) as part, part.open("wb") as file:
        size = sum(file.write(piece.encode()) for piece in pieces)
    print(f"mematlas: {path}: {size:,} bytes", file=sys.stderr)
