"""Show what is behind the pages of a process: state, sharing, huge pages, frames, and a map."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import TargetError

if TYPE_CHECKING:
    from mematlas.linux.mappings import Mapping
    from mematlas.linux.pageflags import PageReport

_PIXELS = 512
_MOST_STRIPS = 20
_MOST_PIXELS = 4_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pid", metavar="PID", help="a process, or self")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--mapping", metavar="NAME", help="only mappings with NAME in their name")
    which.add_argument("--range", metavar="A-B", type=address_range, help="only these addresses")
    parser.add_argument("--map", metavar="OUT.png", help="write the map as a picture")
    parser.add_argument(
        "--html", metavar="OUT.html", help="write the map as a page to look around in"
    )
    parser.add_argument("--json", action="store_true", help="print JSON (mematlas/pages/1)")


def address_range(text: str) -> tuple[int, int]:
    """Read "A-B", hexadecimal as in /proc/PID/maps."""
    start, dash, end = text.partition("-")
    try:
        low, high = int(start, 16), int(end, 16)
    except ValueError:
        low, high = 1, 0
    if not dash or low >= high:
        message = f"{text!r} is not a range; write it as in /proc/PID/maps: 7f00a000-7f00c000"
        raise argparse.ArgumentTypeError(message)
    return low, high


def run(arguments: argparse.Namespace) -> int:
    """Read the pages and print what they are."""
    from mematlas.linux import cgroup_names, pagemap, smaps
    from mematlas.linux.process import open_process, parse_pid
    from mematlas.linux.status import read_command
    from mematlas.observe.page_states.analyse import analyse_pages, keep_largest_strips

    with open_process(parse_pid(arguments.pid)) as process:
        mappings = _choose(list(smaps.read_from(process, fields=False)[0]), arguments)
        found = pagemap.read_from(process, [(each.start, each.end) for each in mappings])
        command = " ".join(read_command(process))
    names = cgroup_names.read_names() if found.cgroup is not None else {}
    if arguments.map:
        _write_map(arguments.map, analyse_pages(found, mappings, width=_cells(mappings)))
    if arguments.html:
        from mematlas.observe.page_states.html import render_page_map
        from mematlas.observe.page_states.page_map import build_page_map

        page = render_page_map(build_page_map(found, mappings, command))
        Path(arguments.html).write_text(page, encoding="utf-8", errors="backslashreplace")
    if (arguments.map or arguments.html) and not arguments.json:
        return 0
    if arguments.json:
        from mematlas.present import json_writer

        report = analyse_pages(found, mappings, width=0, names=names)
        sys.stdout.write(json_writer.render("pages", report))
        return 0
    from rich.console import Console

    from mematlas.observe.page_states.text import render_pages

    console = Console()
    report = analyse_pages(found, mappings, width=console.width - 4, names=names)
    render_pages(keep_largest_strips(report, _MOST_STRIPS), console=console)
    return 0


def _choose(mappings: list[Mapping], arguments: argparse.Namespace) -> list[Mapping]:
    """Keep the mappings asked for, cut to the range."""
    from dataclasses import replace

    if arguments.mapping:
        wanted = arguments.mapping.encode("utf-8", "surrogateescape")
        mappings = [each for each in mappings if wanted in each.name]
    elif arguments.range:
        low, high = arguments.range[0] & ~4095, (arguments.range[1] + 4095) & ~4095
        mappings = [
            replace(each, start=max(each.start, low), end=min(each.end, high))
            for each in mappings
            if each.start < high and low < each.end
        ]
    if not mappings:
        raise TargetError("no mapping is like that; `mematlas show PID --mappings` lists all")
    return mappings


def _cells(mappings: list[Mapping]) -> int:
    """Pixels a mapping may have: one a page, unless that makes a picture nobody can open."""
    pages = sum(each.size for each in mappings if each.start < 1 << 63) // 4096
    largest = max(each.size for each in mappings) // 4096
    return largest if pages <= _MOST_PIXELS else _MOST_PIXELS // len(mappings)


def _write_map(path: str, report: PageReport) -> None:
    from mematlas.observe.page_states.png import render_png

    Path(path).write_bytes(render_png(report, _PIXELS))
