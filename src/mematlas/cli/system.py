"""Explain the machine's memory: where it went, huge pages, fragmentation, pressure, cgroups, swap."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive

if TYPE_CHECKING:
    import argparse

TOPICS = (
    "memory", "thp", "fragmentation", "numa", "pressure", "slab", "cgroup", "swap", "ksm",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "topic", nargs="?", choices=TOPICS, default="memory", help="what to explain"
    )
    parser.add_argument("--pid", type=positive, help="cgroup: of this process (default: our own)")
    parser.add_argument(
        "--interval", metavar="TIME", type=duration, help="pressure: rates over this time"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/system/1)")
    parser.add_argument(
        "--root", default="/", help="read a captured tree with proc/ and sys/ in it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the machine and print one topic."""
    from mematlas.analysis.machine import TOPICS as MAKERS
    from mematlas.analysis.machine import pressure
    from mematlas.sources import machine

    facts = machine.read(arguments.root, arguments.pid)
    if arguments.topic == "pressure" and arguments.interval:
        import time

        began = time.monotonic()
        time.sleep(arguments.interval)
        later = machine.read(arguments.root, arguments.pid)
        topic = pressure(facts, later, time.monotonic() - began)
    else:
        topic = MAKERS[arguments.topic](facts)
    if arguments.json:
        from mematlas.views import facts_json

        sys.stdout.write(facts_json.render("system", topic))
        return 0
    from rich.console import Console

    from mematlas.views.text.system import render_topic

    render_topic(topic, console=Console())
    return 0
