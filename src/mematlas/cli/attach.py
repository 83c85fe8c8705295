"""Record who owns the memory that a running program allocates from now on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive, size
from mematlas.errors import MematlasError, TargetError, UsageError
from mematlas.tracing.settings import INTERVAL_S, SAMPLE_BYTES, Settings

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `mematlas attach` takes."""
    parser.add_argument("pid", type=positive, metavar="PID", help="the process to trace")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="recording to write; default mematlas-NAME.PID.atlas"
    )
    parser.add_argument(
        "--duration",
        type=duration,
        metavar="S",
        help="detach after so long; default at Ctrl-C, `mematlas detach`, or the program's end",
    )
    parser.add_argument("--exact", action="store_true", help="record every allocation")
    parser.add_argument(
        "--sample-bytes",
        type=size,
        default=SAMPLE_BYTES,
        metavar="N",
        help="mean bytes between samples, default 512K",
    )
    parser.add_argument(
        "--interval",
        type=duration,
        default=INTERVAL_S,
        metavar="S",
        help="time between residency snapshots, default 1s",
    )
    parser.add_argument(
        "--cold",
        type=duration,
        default=0.0,
        metavar="S",
        help="tell whose memory nobody used for so long, again and again",
    )
    parser.add_argument(
        "--live", action="store_true", help="show the report meanwhile; leaving it detaches"
    )
    parser.add_argument("--seed", type=positive, default=0, help="make the sampling repeatable")


def run(arguments: argparse.Namespace) -> int:
    """Attach, follow, detach, and sum up what was allocated meanwhile."""
    from mematlas.cli.run import sum_up
    from mematlas.tracing.attach import attach

    if arguments.sample_bytes < 1:
        raise UsageError("--sample-bytes must be at least 1; use --exact to record everything")
    if arguments.pid == os.getpid():
        raise UsageError("mematlas cannot attach to itself; use mematlas.trace() in your program")
    settings = Settings(
        exact=arguments.exact,
        sample_bytes=arguments.sample_bytes,
        interval_s=arguments.interval,
        fault_period=0,
        seed=arguments.seed,
        cold_s=arguments.cold,
    )
    path = arguments.output or f"mematlas-{_name(arguments.pid)}.{arguments.pid}.atlas"
    if arguments.live:
        return _attach_live(arguments, path)
    try:
        writer = attach(
            arguments.pid,
            settings,
            path,
            duration_s=arguments.duration,
            begun=lambda: _say_begun(arguments.pid, path, arguments.duration),
        )
    except ProcessLookupError:
        raise TargetError(f"process {arguments.pid} ended before it could be attached to") from None
    except OSError as error:
        raise MematlasError(f"{path}: {error.strerror or error}") from None
    sum_up(writer, path)
    return 0


def _attach_live(arguments: argparse.Namespace, path: str) -> int:
    from mematlas.cli.live import check_terminal, watch

    check_terminal()
    options = ["-o", path, "--sample-bytes", str(arguments.sample_bytes)]
    options += ["--interval", f"{arguments.interval}s"] + ["--exact"] * arguments.exact
    options += ["--duration", f"{arguments.duration}s"] if arguments.duration else []
    options += ["--cold", f"{arguments.cold}s"] if arguments.cold else []
    options += ["--seed", str(arguments.seed)] if arguments.seed else []
    pid = str(arguments.pid)
    return watch(["attach", pid, *options], path, leave_ends=True)


def _name(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "gone"
    return "".join(each if each.isalnum() or each in "-_." else "_" for each in name)


def _say_begun(pid: int, path: str, duration_s: float | None) -> None:
    until = f"for {duration_s:g} s" if duration_s else "until Ctrl-C or `mematlas detach`"
    print(f"mematlas: attached to {pid}, recording to {path} {until}", file=sys.stderr)
