"""Record who owns the memory that a running program allocates from now on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive
from mematlas.cli.recording_options import add_recording_options, as_words, settings_of
from mematlas.errors import MematlasError, TargetError, UsageError

if TYPE_CHECKING:
    import argparse

    from mematlas.tracing import TraceSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `mematlas attach` takes."""
    parser.add_argument("pid", type=positive, metavar="PID", help="the process to trace")
    add_recording_options(parser)
    parser.add_argument(
        "--duration",
        type=duration,
        metavar="S",
        help="detach after so long; default at Ctrl-C, `mematlas detach`, or the program's end",
    )
    parser.add_argument(
        "--live", action="store_true", help="show the report meanwhile; leaving it detaches"
    )


def run(arguments: argparse.Namespace) -> int:
    """Attach, follow, detach, and sum up what was allocated meanwhile."""
    from mematlas.cli.run import sum_up
    from mematlas.tracing.attach import attach

    if arguments.pid == os.getpid():
        raise UsageError("mematlas cannot attach to itself; use mematlas.trace() in your program")
    settings = settings_of(arguments, fault_period=0)
    path = arguments.output or f"mematlas-{_name(arguments.pid)}.{arguments.pid}.atlas"
    if arguments.live:
        return _attach_live(arguments, settings, path)
    try:
        writer = attach(
            arguments.pid,
            settings,
            path,
            duration_s=arguments.duration,
            on_attached=lambda: _say_begun(arguments.pid, path, arguments.duration),
        )
    except ProcessLookupError:
        raise TargetError(f"process {arguments.pid} ended before it could be attached to") from None
    except OSError as error:
        raise MematlasError(f"{path}: {error.strerror or error}") from None
    sum_up(writer, path)
    return 0


def _attach_live(arguments: argparse.Namespace, settings: TraceSettings, path: str) -> int:
    from mematlas.cli.follow import check_terminal, watch

    check_terminal()
    options = as_words(settings, path)
    options += ["--duration", f"{arguments.duration}s"] if arguments.duration else []
    return watch(["attach", str(arguments.pid), *options], path, attached=True)


def _name(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "gone"
    return "".join(each if each.isalnum() or each in "-_." else "_" for each in name)


def _say_begun(pid: int, path: str, duration_s: float | None) -> None:
    until = f"for {duration_s:g} s" if duration_s else "until Ctrl-C or `mematlas detach`"
    print(f"mematlas: attached to {pid}, recording to {path} {until}", file=sys.stderr)
