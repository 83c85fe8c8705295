"""Watch the memory of all processes: sorted, filtered, grouped, and one process in detail.

With --once, or if standard output is not a terminal, one snapshot is printed. --record FILE appends
every snapshot to FILE; without a terminal, until Ctrl-C or --count. --replay FILE plays a recording.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, duration, positive
from mematlas.errors import MematlasError, UsageError

if TYPE_CHECKING:
    import argparse

    from mematlas.cli.top_feed import LiveFeed, ReplayFeed
    from mematlas.observe.top.analyse import ListOptions
    from mematlas.observe.top.model import MachineSnapshot

SORTS = ("pss", "uss", "rss", "swap", "thp", "faults", "major", "growth", "pid", "command")
GROUPS = ("user", "cgroup", "program")
INTERVAL_S = 2.0
EXAMPLES = (
    "top --sort growth --filter 'user:www-data'",
    "top --record monday.top --interval 10s --count 8640",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas top`."""
    parser.add_argument(
        "--sort", choices=SORTS, default="pss", help="order by this, largest first (default pss)"
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--tree", action="store_true", help="list children below their parents")
    shape.add_argument(
        "--group", choices=GROUPS, help="sum up processes by user, cgroup or program"
    )
    parser.add_argument(
        "--filter",
        metavar="WORDS",
        default="",
        help="list only processes that match: words of the command, user:NAME, pss>100M",
    )
    parser.add_argument(
        "--interval", metavar="TIME", type=duration, help="time between two snapshots (default 2s)"
    )
    parser.add_argument("--record", metavar="FILE", help="append every snapshot to FILE")
    parser.add_argument("--replay", metavar="FILE", help="play a recording made with --record")
    parser.add_argument(
        "--at", metavar="MOMENT", type=duration, help="with --replay: start at this offset"
    )
    parser.add_argument(
        "--count",
        metavar="N",
        type=positive,
        help="with --record: exit after N snapshots, without the terminal UI",
    )
    parser.add_argument("--once", action="store_true", help="print one snapshot and exit")
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        default=20,
        help="with --once: list the first N lines (default 20)",
    )
    add_json(parser, "top", "; one snapshot")
    parser.add_argument(
        "--theme",
        choices=("auto", "dark", "light"),
        default="auto",
        help="colours of the terminal UI (default auto)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a snapshot, record, or start the terminal UI."""
    _check(arguments)
    if arguments.once or arguments.json:
        return _print(arguments)
    if arguments.count or (arguments.record and not sys.stdout.isatty()):
        return _record(arguments)
    if not (sys.stdout.isatty() and sys.stdin.isatty()):
        return _print(arguments)
    return _show(arguments)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.record and arguments.replay:
        raise UsageError("--record and --replay cannot be combined")
    if arguments.interval is not None and arguments.interval < 0.1:
        raise UsageError("--interval must be at least 100ms")
    if arguments.count and not arguments.record:
        raise UsageError("--count needs --record FILE")
    if arguments.at is not None and not arguments.replay:
        raise UsageError("--at needs --replay FILE")


def _feed(arguments: argparse.Namespace) -> LiveFeed | ReplayFeed:
    from mematlas.cli.top_feed import LiveFeed, ReplayFeed, describe_machine
    from mematlas.observe.top.read import TopSampler
    from mematlas.observe.top.snapshots import SnapshotReader, SnapshotWriter

    if arguments.replay:
        return ReplayFeed(SnapshotReader(arguments.replay))
    recorder = SnapshotWriter(arguments.record, describe_machine()) if arguments.record else None
    return LiveFeed(TopSampler(), recorder)


def _choice(arguments: argparse.Namespace) -> ListOptions:
    from mematlas.observe.top.analyse import ListOptions

    shape = "tree" if arguments.tree else arguments.group or "list"
    return ListOptions(sort=arguments.sort, shape=shape, text=arguments.filter)


def _print(arguments: argparse.Namespace) -> int:
    """Print one snapshot; rates need two, one interval apart."""
    from mematlas.observe.top.rates import memory_pressure, process_rates

    before, after = _read_one(arguments)
    if arguments.json:
        from mematlas.observe.top.text import to_json
        from mematlas.present import json_writer

        rates, pressure = process_rates(before, after), memory_pressure(before, after)
        sys.stdout.write(json_writer.render("top", to_json(after, rates, pressure)))
        return 0
    from rich.console import Console

    from mematlas.linux.users import user_name
    from mematlas.observe.top.analyse import build_lines
    from mematlas.observe.top.text import render_snapshot

    entries = build_lines(before, after, _choice(arguments), user_name)
    shown = entries[: arguments.top]
    render_snapshot(before, after, shown, _choice(arguments), console=Console())
    return 0


def _read_one(arguments: argparse.Namespace) -> tuple[MachineSnapshot | None, MachineSnapshot]:
    feed = _feed(arguments)
    try:
        if arguments.replay:
            return _recorded(feed, arguments.at)
        before = None
        if arguments.interval:
            before = feed.next(None)
            time.sleep(arguments.interval)
        after = feed.next(None)
        assert after is not None
        return before, after
    finally:
        feed.close()


def _recorded(
    feed: LiveFeed | ReplayFeed, at_s: float | None
) -> tuple[MachineSnapshot | None, MachineSnapshot]:
    """Return the last snapshot up to an offset, or the last of all, and the one before."""
    before = after = feed.next(())
    assert after is not None
    until = float("inf") if at_s is None else after.time_s + at_s
    before = None
    while (found := feed.next(())) is not None and found.time_s <= until:
        before, after = after, found
    return before, after


def _record(arguments: argparse.Namespace) -> int:
    """Record without a terminal UI until --count or Ctrl-C."""
    feed, interval = _feed(arguments), arguments.interval or INTERVAL_S
    print(f"mematlas: recording to {arguments.record} every {interval:g} s", file=sys.stderr)
    due, taken = time.monotonic(), 0
    try:
        while arguments.count is None or taken < arguments.count:
            time.sleep(max(0.0, due - time.monotonic()))
            feed.next(())
            taken += 1
            due = max(due + interval, time.monotonic())
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        feed.close()
    spent = time.process_time()
    print(f"mematlas: {taken} snapshots in {spent:.2f} s of CPU time", file=sys.stderr)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    try:
        from mematlas.observe.top.tui.app import TopApp
    except ImportError as error:
        raise MematlasError(
            f"top needs Textual ({error.name} is missing): pip install 'mematlas[top]';"
            " --once works without it"
        ) from None
    from mematlas.cli.top_feed import LiveInspector

    if not sys.stderr.isatty():  # Textual draws on stderr, which may be a log file
        sys.__stderr__ = Path("/dev/tty").open("w", encoding="utf-8")  # type: ignore[misc]
    feed = _feed(arguments)
    inspector = None if arguments.replay else LiveInspector()
    dark = arguments.theme == "dark" or (arguments.theme == "auto" and not is_light())
    interval = arguments.interval or INTERVAL_S
    app = TopApp(feed, inspector, _choice(arguments), interval_s=interval, dark=dark)
    app.run()
    if app.failure:
        raise MematlasError(app.failure)
    return app.return_code or 0


def is_light() -> bool:
    """Return whether the terminal is light, by COLORFGBG: "0;15" is black on white."""
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return background in {"7", "15"}
