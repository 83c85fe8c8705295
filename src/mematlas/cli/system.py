"""Explain the machine's memory: where it went, huge pages, fragmentation, pressure, cgroups, swap."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, positive

if TYPE_CHECKING:
    import argparse

    from mematlas.linux.machine import Machine

TOPICS = (
    "memory", "thp", "fragmentation", "numa", "pressure", "slab", "cgroup", "swap", "ksm",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "topic", nargs="?", choices=TOPICS, default="memory", help="what to explain"
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


def _with_processes(machine: Machine, arguments: argparse.Namespace) -> Machine:
    """Add what a topic asks of processes; no other topic pays for it."""
    from dataclasses import replace

    from mematlas.observe.machine import read

    root, pid = arguments.root, arguments.pid
    if arguments.topic == "numa":
        placed, refused = read.read_nodes(root, pid)
        return replace(machine, placed=placed, refused=refused)
    if arguments.topic == "thp":
        huge, refused = read.read_huge(root, pid)
        folios = _folios(pid) if pid is not None and root == "/" else None
        return replace(machine, huge=huge, refused=refused, folios=folios)
    if arguments.topic == "cgroup" and pid is not None:
        return replace(machine, bounds=read.read_bounds(pid, root))
    return machine


def _folios(pid: int) -> dict[int, int] | None:
    """Count a process's memory in large folios by order; None where frames are hidden."""
    from mematlas.linux import pagemap, smaps
    from mematlas.observe.page_states.analyse import sum_pages

    mappings, _ = smaps.read(pid, fields=False)
    found = pagemap.read(pid, [(each.start, each.end) for each in mappings])
    folios = sum_pages(found).folios
    return (
        None
        if folios is None
        else {order: count * found.page_size for order, count in folios.items()}
    )


def run(arguments: argparse.Namespace) -> int:
    """Read the machine and print one topic."""
    from mematlas.linux import machine
    from mematlas.observe.machine.topics import TOPICS as MAKERS
    from mematlas.observe.machine.topics import pressure

    facts = machine.read(arguments.root, arguments.pid)
    if arguments.topic == "pressure" and arguments.interval:
        import time

        began = time.monotonic()
        time.sleep(arguments.interval)
        later = machine.read(arguments.root, arguments.pid)
        topic = pressure(facts, later, time.monotonic() - began)
    else:
        topic = MAKERS[arguments.topic](_with_processes(facts, arguments))
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("system", topic))
        return 0
    from rich.console import Console

    from mematlas.observe.machine.text import render_topic

    render_topic(topic, console=Console())
    return 0
