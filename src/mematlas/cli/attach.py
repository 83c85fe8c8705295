"""Trace a running process, native or Python, and record what owns the memory it allocates from now on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive
from mematlas.cli.recording_options import add_recording_options, settings_of, to_options
from mematlas.errors import AccessError, MematlasError, TargetError, UsageError
from mematlas.present.printable import clean

if TYPE_CHECKING:
    import argparse

    from mematlas.tracing import TraceSettings

EXAMPLES = ("attach 4242 --duration 1m -o service.atlas", "attach 4242 --follow")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas attach`."""
    parser.add_argument("pid", type=positive, metavar="PID", help="the process to trace")
    add_recording_options(parser)
    parser.add_argument(
        "--duration",
        type=duration,
        metavar="TIME",
        help="detach after this time; default on Ctrl-C, `mematlas detach`, or exit of the process",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="show the report in the terminal while tracing; leaving it detaches",
    )


def run(arguments: argparse.Namespace) -> int:
    """Attach, record, detach, and print a summary."""
    from mematlas.cli.run import print_summary
    from mematlas.tracing.attach import attach

    if arguments.pid == os.getpid():
        raise UsageError("mematlas cannot attach to itself; use mematlas.trace() in your program")
    settings = settings_of(arguments, fault_period=0)
    path = arguments.output or f"mematlas-{_name(arguments.pid)}.{arguments.pid}.atlas"
    if arguments.follow:
        return _attach_and_follow(arguments, settings, path)
    try:
        writer = attach(
            arguments.pid,
            settings,
            path,
            duration_s=arguments.duration,
            on_attached=lambda: _print_begun(arguments.pid, path, arguments.duration),
        )
    except ProcessLookupError:
        raise TargetError(f"process {arguments.pid} ended before it could be traced") from None
    except PermissionError as error:
        raise AccessError(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise MematlasError(f"{path}: {error.strerror or error}") from None
    print_summary(writer, path)
    return 0


def _attach_and_follow(arguments: argparse.Namespace, settings: TraceSettings, path: str) -> int:
    from mematlas.cli.follow import check_terminal, follow

    check_terminal()
    options = to_options(settings, path)
    options += ["--duration", f"{arguments.duration}s"] if arguments.duration else []
    return follow(["attach", str(arguments.pid), *options], path, attached=True)


def _name(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "gone"
    return "".join(each if each.isalnum() or each in "-_." else "_" for each in name)


def _print_begun(pid: int, path: str, duration_s: float | None) -> None:
    until = f"for {duration_s:g} s" if duration_s else "until Ctrl-C or `mematlas detach`"
    print(f"mematlas: attached to {pid}, recording to {clean(path)} {until}", file=sys.stderr)
