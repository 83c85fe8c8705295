"""Report on a recording: the account of its resident memory, and the lines of code that own it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import (
    add_json,
    add_output,
    add_recording,
    add_wrappers,
    output_format,
    positive,
    run_time,
)
from mematlas.cli.recordings import open_recording
from mematlas.errors import UsageError
from mematlas.present.output_file import writing
from mematlas.report.model.report import METRICS, PEAK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from mematlas.api.recording import Recording

DEFAULT_LINES = 20
DEFAULT_STACKS = 1000  # in JSON: all of them can be gigabytes, each with its frames
EXAMPLES = ("report app.atlas --by live --top 10", "report app.atlas -o report.html")


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
        help="show the account of this moment: peak, end, or a mark of the program (default peak)",
    )
    parser.add_argument("--pid", metavar="PID", type=positive, help="report on this process only")
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=run_time,
        help="show what was allocated from this time of the run on: 12s, 1.5m, 25%%, or a mark",
    )
    parser.add_argument(
        "--until",
        metavar="TIME",
        type=run_time,
        help="... and still live at this time (default the end of the run)",
    )
    add_output(
        parser, "write an HTML page with flame graph and timeline, or JSON if FILE ends in .json"
    )
    add_wrappers(parser)
    add_json(parser, "report")


def run(arguments: argparse.Namespace) -> int:
    """Read the recording, and print or write the report."""
    recording = open_recording(arguments.file, arguments.skip, arguments.keep)
    if arguments.since or arguments.until:
        return _run_window(arguments, recording)
    for path in arguments.output:
        if output_format(path, "html", "json") == "html":
            write_text(path, [recording.to("html", pid=arguments.pid, at=arguments.at).decode()])
        else:
            write_text(path, _render_json(recording, arguments))
    if arguments.json:
        sys.stdout.writelines(_render_json(recording, arguments))
    elif not arguments.output:
        from rich.console import Console

        from mematlas.report.analyse.lines import lines
        from mematlas.report.text.report import render_report

        report = recording.report(pid=arguments.pid, at=arguments.at)
        top = arguments.top or DEFAULT_LINES
        by = arguments.by or report.main_metric
        ranked = lines(report.stacks, by)
        render_report(report, ranked, top=top, by=by, console=Console())
    return 0


def _render_json(recording: Recording, arguments: argparse.Namespace) -> Iterator[str]:
    from mematlas.report import json_writer

    report = recording.report(pid=arguments.pid, at=arguments.at)
    top = arguments.top or DEFAULT_STACKS
    return json_writer.render_report(report, by=arguments.by or report.main_metric, top=top)


def _run_window(arguments: argparse.Namespace, recording: Recording) -> int:
    """Print what was allocated within a part of the run and outlived it."""
    if arguments.output or arguments.by not in {None, "resident"} or arguments.at != PEAK:
        raise UsageError(
            "--since and --until take no --output, --by or --at: they rank by bytes still live"
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
    with writing(path) as part, part.open("w", encoding="utf-8") as file:
        size = sum(map(file.write, pieces))
    print(f"mematlas: {path}: {size:,} bytes", file=sys.stderr)
