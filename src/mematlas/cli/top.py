"""Watch the memory of all processes live: sorted, filtered, grouped, and looked into one by one.

Without a terminal on standard output, or with --once, one snapshot is printed; --record FILE
appends every snapshot to FILE (without a terminal: until Ctrl-C, or --count), --replay FILE plays it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive
from mematlas.errors import MematlasError, UsageError

if TYPE_CHECKING:
    import argparse

    from mematlas.cli.top_feed import LiveFeed, ReplayFeed
    from mematlas.observe.top.analyse import ListOptions
    from mematlas.observe.top.model import MachineSnapshot

SORTS = ("pss", "uss", "rss", "swap", "thp", "faults", "major", "growth", "pid", "command")
SHAPES = ("list", "tree", "user", "cgroup", "program")
INTERVAL_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--sort", choices=SORTS, default="pss", help="largest first (default pss)")
    parser.add_argument("--by", choices=SHAPES, default="list", help="tree or groups")
    parser.add_argument(
        "--filter",
        metavar="WORDS",
        default="",
        help="words of the command, user:NAME, pss>100M, ...",
    )
    parser.add_argument(
        "--interval", metavar="TIME", type=duration, help="between two snapshots (default 2s)"
    )
    parser.add_argument("--record", metavar="FILE", help="append every snapshot to FILE")
    parser.add_argument("--replay", metavar="FILE", help="play what --record wrote")
    parser.add_argument(
        "--at", metavar="TIME", type=duration, help="with --replay: so long after its start"
    )
    parser.add_argument(
        "--count", metavar="N", type=positive, help="end after N snapshots, without the terminal UI"
    )
    parser.add_argument("--once", action="store_true", help="print one snapshot and end")
    parser.add_argument(
        "--top", metavar="N", type=positive, default=20, help="with --once: how many lines"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one snapshot as JSON (mematlas/top/1)"
    )
    parser.add_argument(
        "--theme", choices=("auto", "dark", "light"), default="auto", help="colours of the UI"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print, record, or show in the terminal."""
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
        raise UsageError("--record and --replay exclude each other")
    if arguments.interval is not None and arguments.interval < 0.1:
        raise UsageError("the shortest interval is 100ms")
    if arguments.count and not arguments.record:
        raise UsageError("--count goes with --record FILE")
    if arguments.at is not None and not arguments.replay:
        raise UsageError("--at goes with --replay FILE")


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

    return ListOptions(sort=arguments.sort, shape=arguments.by, text=arguments.filter)


def _print(arguments: argparse.Namespace) -> int:
    """Print one snapshot; rates need two, an interval apart."""
    from mematlas.observe.top.rates import memory_pressure, process_rates

    before, after = _read_one(arguments)
    if arguments.json:
        from mematlas.observe.top.text import to_json
        from mematlas.present import json_writer

        rates, pressure = process_rates(before, after), memory_pressure(before, after)
        sys.stdout.write(json_writer.render("top", to_json(after, rates, pressure)))
        return 0
    from rich.console import Console

    from mematlas.observe.address_space.text import user_name
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
    """Find the last snapshot, or the last one up to a time after the first."""
    before = after = feed.next(())
    assert after is not None
    until = float("inf") if at_s is None else after.time_s + at_s
    before = None
    while (found := feed.next(())) is not None and found.time_s <= until:
        before, after = after, found
    return before, after


def _record(arguments: argparse.Namespace) -> int:
    """Record without a user interface, until the count is full or Ctrl-C comes."""
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
    print(f"mematlas: {taken} snapshots; it took {spent:.2f} s of CPU", file=sys.stderr)
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

    if not sys.stderr.isatty():  # where Textual draws; a log must not get the pictures
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
    """Tell whether the terminal is light by COLORFGBG, which some terminals set: "0;15" is black on white."""
    background = os.environ.get("COLORFGBG", "").rpartition(";")[2]
    return background in {"7", "15"}
