"""Explain the machine's memory: where it went, huge pages, fragmentation, pressure, cgroups, swap."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from mematlas import observe

    parser.add_argument(
        "topic", nargs="?", choices=observe.TOPICS, default="memory", help="what to explain"
    )
    parser.add_argument(
        "--pid",
        type=positive,
        help="cgroup: of this process (default: our own); numa, thp: it alone",
    )
    parser.add_argument(
        "--interval", metavar="TIME", type=duration, help="pressure: rates over this time"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/system/1)")
    parser.add_argument(
        "--root", default="/", help="read a captured tree with proc/ and sys/ in it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the machine and print one topic."""
    from mematlas import observe

    topic = observe.system(
        arguments.topic, pid=arguments.pid, duration_s=arguments.interval, root=arguments.root
    )
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("system", topic))
        return 0
    from rich.console import Console

    from mematlas.observe.machine.text import render_topic

    render_topic(topic, console=Console())
    return 0
