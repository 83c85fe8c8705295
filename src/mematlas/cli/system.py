"""Explain the memory of the machine: use, huge pages, fragmentation, pressure, cgroups, swap."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, add_root, duration, positive
from mematlas.observe import TOPICS

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("system", "system pressure --duration 5s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas system`."""
    parser.add_argument(
        "topic", nargs="?", choices=TOPICS, default="memory", help="what to explain"
    )
    parser.add_argument(
        "--pid",
        metavar="PID",
        type=positive,
        help="numa, thp: this process only; cgroup: the cgroup of this process",
    )
    parser.add_argument(
        "--duration", metavar="TIME", type=duration, help="pressure: show rates over this time"
    )
    add_json(parser, "system")
    add_root(parser, "proc/ and sys/")


def run(arguments: argparse.Namespace) -> int:
    """Read the machine and print one topic."""
    from mematlas import observe

    topic = observe.system(
        arguments.topic, pid=arguments.pid, duration_s=arguments.duration, root=arguments.root
    )
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("system", topic))
        return 0
    from rich.console import Console

    from mematlas.observe.machine.text import render_topic

    render_topic(topic, console=Console())
    return 0
