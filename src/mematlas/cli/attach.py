"""Trace a running process, native or Python, and record what owns the memory it allocates from now on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive
from mematlas.cli.listening import add_listening, check_listening, published
from mematlas.cli.recording_options import add_recording_options, settings_of, to_options
from mematlas.errors import AccessError, MematlasError, TargetError, UsageError
from mematlas.present.printable import clean

if TYPE_CHECKING:
    import argparse

    from mematlas.recording import Writer
    from mematlas.tracing import TraceSettings
    from mematlas.tracing.attach import StopSignals
    from mematlas.tracing.entries import Entries
    from mematlas.tracing.members import Members

EXAMPLES = (
    "attach 4242 --duration 1m -o service.atlas",
    "attach --cgroup /system.slice/postgresql.service --duration 1m",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas attach`."""
    parser.add_argument("pid", type=positive, nargs="?", metavar="PID", help="the process to trace")
    parser.add_argument(
        "--tree",
        type=positive,
        metavar="PID",
        help="trace a process and all its descendants, also those to come, in one recording",
    )
    parser.add_argument(
        "--cgroup",
        metavar="PATH",
        help="trace all processes of a control group and of the groups below it, also those to come",
    )
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
    add_listening(parser, "--serve", default=None)


def run(arguments: argparse.Namespace) -> int:
    """Attach, record, detach, and print a summary."""
    if sum(each is not None for each in (arguments.pid, arguments.tree, arguments.cgroup)) != 1:
        raise UsageError("name one of PID, --tree PID and --cgroup PATH")
    if os.getpid() in {arguments.pid, arguments.tree}:
        raise UsageError("mematlas cannot attach to itself; use mematlas.trace() in your program")
    check_listening(arguments)
    path = arguments.output or _default_path(arguments)
    with published(arguments, path):
        return _run(arguments, path)


def _run(arguments: argparse.Namespace, path: str) -> int:
    from mematlas.cli.run import finish, print_summary
    from mematlas.report.analyse.owner_patterns import patterns
    from mematlas.tracing.attach import StopSignals

    settings = settings_of(arguments, fault_period=0)
    asked = patterns()  # an error in the user's file is told before a process is touched
    if arguments.follow:
        return _attach_and_follow(arguments, settings, path)
    with StopSignals() as stop:
        writer = _record(arguments, settings, path, stop)
        print_summary(finish(writer, path), path, asked)
    return 0


def _record(
    arguments: argparse.Namespace, settings: TraceSettings, path: str, stop: StopSignals
) -> Writer:
    try:
        return _attach(arguments, settings, path, stop)
    except ProcessLookupError:
        raise TargetError(f"process {arguments.pid} ended before it could be traced") from None
    except PermissionError as error:
        raise AccessError(f"{path}: {error.strerror}") from None
    except OSError as error:
        raise MematlasError(f"{path}: {error.strerror or error}") from None


def _attach(
    arguments: argparse.Namespace, settings: TraceSettings, path: str, stop: StopSignals
) -> Writer:
    from mematlas.cli.run import print_look
    from mematlas.tracing.attach import attach
    from mematlas.tracing.attach_group import attach_group
    from mematlas.tracing.members import ProcessTree, find_cgroup

    duration_s: float | None = arguments.duration
    if arguments.pid is not None:
        return attach(
            arguments.pid,
            settings,
            path,
            stop,
            duration_s=duration_s,
            on_attached=lambda: _print_begun(str(arguments.pid), path, duration_s),
            on_look=print_look,
        )
    members: Members
    if arguments.tree is not None:
        if not Path(f"/proc/{arguments.tree}").exists():
            raise TargetError(f"there is no process {arguments.tree}")
        members = ProcessTree(arguments.tree)
    else:
        members = find_cgroup(arguments.cgroup)
    return attach_group(
        members,
        settings,
        path,
        stop,
        duration_s=duration_s,
        on_attached=lambda entries: _print_group_begun(entries, path, duration_s),
        on_look=print_look,
    )


def _attach_and_follow(arguments: argparse.Namespace, settings: TraceSettings, path: str) -> int:
    from mematlas.cli.follow import check_terminal, follow

    check_terminal()
    options = to_options(settings, path)
    options += ["--duration", f"{arguments.duration}s"] if arguments.duration else []
    which = [str(arguments.pid)]
    if arguments.tree is not None:
        which = ["--tree", str(arguments.tree)]
    elif arguments.cgroup is not None:
        which = ["--cgroup", arguments.cgroup]
    return follow(["attach", *which, *options], path, attached=True)


def _default_path(arguments: argparse.Namespace) -> str:
    if arguments.cgroup is not None:
        return f"mematlas-{_as_file_name(Path(arguments.cgroup).name)}.atlas"
    pid = arguments.pid or arguments.tree
    return f"mematlas-{_name(pid)}.{pid}.atlas"


def _name(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "gone"
    return _as_file_name(name)


def _as_file_name(name: str) -> str:
    return "".join(each if each.isalnum() or each in "-_." else "_" for each in name)


def _print_group_begun(entries: Entries, path: str, duration_s: float | None) -> None:
    for note in entries.describe():
        print(f"mematlas: {note}", file=sys.stderr)
    count = len(entries.entered)
    noun = "process" if count == 1 else "processes"
    _print_begun(f"{count} {noun} of {clean(entries.members.name)}", path, duration_s)


def _print_begun(target: str, path: str, duration_s: float | None) -> None:
    until = f"for {duration_s:g} s" if duration_s else "until Ctrl-C or `mematlas detach`"
    print(f"mematlas: attached to {target}, recording to {clean(path)} {until}", file=sys.stderr)
