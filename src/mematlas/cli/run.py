"""Run a program and record which lines of code own its memory."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from importlib import util
from typing import TYPE_CHECKING

from mematlas.cli.arguments import positive
from mematlas.cli.listening import add_listening, check_listening, is_published, published
from mematlas.cli.missing_packages import NEEDS_NUMPY
from mematlas.cli.recording_options import (
    add_graph,
    add_recording_options,
    settings_of,
    to_options,
)
from mematlas.errors import MematlasError, UnsupportedError
from mematlas.present.printable import clean
from mematlas.present.progress import progress_line
from mematlas.tracing import run as trace
from mematlas.tracing.output import open_recording, write_names
from mematlas.tracing.program import check_program, find_program
from mematlas.tracing.settings import FAULT_PERIOD

if TYPE_CHECKING:
    import argparse

    from mematlas.recording import Writer
    from mematlas.recording.model import RecordingData
    from mematlas.report.analyse.owner_patterns import Patterns
    from mematlas.tracing import TraceSettings
    from mematlas.tracing.loop import RunResult

EXAMPLES = ("run --exact -o build.atlas -- make -j8", "run --serve :9464 -- gunicorn app:app")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas run`."""
    parser.usage = "mematlas run [options] [--] COMMAND ..."
    add_recording_options(parser)
    add_graph(parser)
    parser.add_argument(
        "--faults",
        type=_fault_period,
        default=FAULT_PERIOD,
        metavar="N|off",
        help=f"sample one page fault in N, to find who touches memory first (default {FAULT_PERIOD})",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="show the report in the terminal while the program runs, and its output afterwards",
    )
    add_listening(parser, "--serve", default=None)
    parser.add_argument("command", nargs="...", metavar="COMMAND", help="program and its arguments")


def _fault_period(text: str) -> int:
    return 0 if text == "off" else positive(text)


def run(arguments: argparse.Namespace) -> int:
    """Trace the command, print a summary, and return the exit status of the command."""
    check_listening(arguments)
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not is_published(arguments):
        return _run(arguments, command)
    check_program(find_program(command))
    arguments.output = arguments.output or _default_path(command)
    with published(arguments, arguments.output):
        return _run(arguments, command)


def _default_path(command: list[str]) -> str:
    return f"mematlas-{os.path.basename(command[0])}.{os.getpid()}.atlas"  # noqa: PTH119


def _run(arguments: argparse.Namespace, command: list[str]) -> int:
    from mematlas.report.analyse.owner_patterns import patterns

    settings = _settings(arguments)
    if settings.rolls:  # whose helper begins before the program
        arguments.output = arguments.output or _default_path(command)
    if arguments.follow:
        return _run_and_follow(arguments.output, settings, command)
    written: list[tuple[str, Writer]] = []

    def open_writer(path: str) -> Writer:
        written.append((path, open_recording(path, command, settings)))
        return written[0][1]

    asked = patterns()  # an error in the user's file is told before a program starts
    check_program(find_program(command))
    if arguments.output:  # an unwritable path is an error before the program starts
        open_writer(arguments.output)
    elif not os.access(".", os.W_OK):
        raise MematlasError(
            "the current directory is not writable; name the recording with -o FILE"
        )
    name = os.path.basename(command[0])  # noqa: PTH119
    outcome = trace(
        command,
        settings,
        lambda pid: written[0][1] if written else open_writer(f"mematlas-{name}.{pid}.atlas"),
        print_look,
    )
    _finish_run(outcome, written, asked)
    return outcome.status


def _finish_run(outcome: RunResult, written: list[tuple[str, Writer]], asked: Patterns) -> None:
    """Complete the recording and print its summary. The program's status counts, whatever fails here."""
    try:
        if outcome.failure:
            raise outcome.failure
        recording = finish(written[0][1], written[0][0])
    except (OSError, MematlasError) as error:
        path = written[0][0] if written else "the recording"
        _print_failure(f"{path} is cut short", error)
        return
    try:
        print_summary(recording, written[0][0], asked)
    except (OSError, MematlasError) as error:
        _print_failure(f"cannot print the summary of {written[0][0]}", error)


def print_look(line: str) -> None:
    """Print that a look was kept, and the command that opens it."""
    with suppress(OSError):
        print(f"mematlas: {clean(line)}", file=sys.stderr, flush=True)


def _settings(arguments: argparse.Namespace) -> TraceSettings:
    settings = settings_of(arguments, arguments.faults)
    if settings.graphs and util.find_spec("numpy") is None:
        raise UnsupportedError("--graph needs NumPy: pip install numpy")
    return settings


def _print_failure(what: str, error: Exception) -> None:
    why = (error.strerror or error) if isinstance(error, OSError) else error
    with suppress(OSError):
        print(f"mematlas: {clean(f'{what}: {why}')}", file=sys.stderr)


def _run_and_follow(output: str | None, settings: TraceSettings, command: list[str]) -> int:
    from mematlas.cli.follow import check_terminal, follow

    check_terminal()
    check_program(find_program(command))
    path = output or _default_path(command)
    faults = ["--faults", str(settings.fault_period or "off")]
    return follow(["run", *to_options(settings, path), *faults, "--", *command], path)


def finish(writer: Writer, path: str) -> RecordingData | None:
    """Resolve the symbols of a recording that was just written, write them, and return the recording.

    None without NumPy, which reads recordings: it ends without symbols, which `report` then resolves.
    """
    if util.find_spec("numpy") is None:
        writer.end()
        return None
    gc.disable()  # the process ends soon
    with progress_line("mematlas: resolving symbols"):
        return write_names(writer, path)


def print_summary(recording: RecordingData | None, path: str, asked: Patterns) -> None:
    """Print the summary of a recording that was just written, as finish() returned it.

    `asked`: the user's patterns, read before the program was traced.
    """
    if recording is None:
        print(f"mematlas: {clean(path)} is recorded; {NEEDS_NUMPY}", file=sys.stderr)
        return
    from rich.console import Console

    from mematlas.api.load import with_symbol_note
    from mematlas.report.analyse.leaks import find_leaks
    from mematlas.report.analyse.lines import lines
    from mematlas.report.analyse.report import make_report
    from mematlas.report.analyse.wrappers import mark_wrappers
    from mematlas.report.text.summary import render_summary

    with progress_line("mematlas: summing stacks"):
        recording.notes += mark_wrappers(recording, asked)
        # Of stacks that hold nothing any more there may be very many, so they are read only where they are told.
        only = "resident" if len(recording.processes) == 1 else None
        report = make_report(recording, only=only)
        if only and report.main_metric != only:
            report = make_report(recording, only=report.main_metric)
        report = with_symbol_note(recording, report)
        ranked = lines(report.stacks, report.main_metric)
        leaks = find_leaks(recording)
    render_summary(report, ranked, path, console=Console(stderr=True), leaks=leaks)
