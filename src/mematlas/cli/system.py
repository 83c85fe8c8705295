"""Explain the memory of the machine: use, huge pages, fragmentation, pressure, cgroups, swap."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, add_root, duration, positive
from mematlas.errors import UsageError
from mematlas.observe import TOPICS

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("system pressure --duration 5s", "system cgroup --container 3f29b1c0a7de")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas system`."""
    parser.add_argument(
        "topic", nargs="?", choices=TOPICS, default="memory", help="what to explain"
    )
    parser.add_argument(
        "cgroup",
        nargs="?",
        metavar="PATH",
        help="cgroup: this memory cgroup; default that of this process",
    )
    parser.add_argument(
        "--container", metavar="ID", help="cgroup: the group of this container, by ID or name"
    )
    parser.add_argument(
        "--files",
        metavar="DIR",
        action="append",
        default=[],
        help="cgroup: count the cached files below this directory too; may be repeated",
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

    _check(arguments)
    topic = observe.system(
        arguments.topic,
        pid=arguments.pid,
        cgroup=arguments.cgroup,
        container=arguments.container,
        files=arguments.files,
        duration_s=arguments.duration,
        root=arguments.root,
    )
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("system", topic))
        return 0
    from rich.console import Console

    from mematlas.observe.machine.text import render_topic

    render_topic(topic, console=Console())
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raise UsageError for a group without the topic cgroup, or for more than one."""
    chosen = [each for each in (arguments.cgroup, arguments.container) if each is not None]
    if (chosen or arguments.files) and arguments.topic != "cgroup":
        raise UsageError("PATH, --container and --files go with `system cgroup`")
    if len(chosen) + (arguments.topic == "cgroup" and arguments.pid is not None) > 1:
        raise UsageError("give one of PATH, --pid and --container")
