"""Show what holds the memory of a running process: its live blocks, by the root that keeps them alive.

The memory is copied while the process runs, which is then stopped for milliseconds, for what it wrote
meanwhile. Nothing of it is called. A core file is read as well. Blocks of glibc's malloc are
found without symbols or a recording.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_json, positive
from mematlas.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from rich.console import Console

    from mematlas.heap.model.answers import Summary
    from mematlas.heap.model.heap import Heap
    from mematlas.heap.model.image import Image

DEFAULT_TOP = 12
EXAMPLES = ("heap 4242 --why Order", "heap 4242 --diff before.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas heap`."""
    parser.add_argument(
        "target", metavar="PID|CORE|FILE", help="a process, a core file, or a look saved with -o"
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--why",
        metavar="TYPE|ADDRESS",
        help="show the shortest paths from the roots to the blocks of a type, or to one (0x...)",
    )
    asked.add_argument(
        "--unreachable", action="store_true", help="list blocks that nothing points to: leaks"
    )
    asked.add_argument(
        "--waste",
        action="store_true",
        help="list what a Python program could save: equal strings, empty containers, room, instance dicts",
    )
    asked.add_argument("--diff", metavar="FILE", help="show what grew since the look saved in FILE")
    parser.add_argument(
        "--fail-on",
        choices=("lost",),
        help="exit with 1 if there are blocks that nothing points to",
    )
    parser.add_argument(
        "--top",
        metavar="N",
        type=positive,
        default=DEFAULT_TOP,
        help=f"list the first N rows (default {DEFAULT_TOP})",
    )
    pause = parser.add_mutually_exclusive_group()
    pause.add_argument(
        "--stop",
        metavar="MS",
        type=positive,
        help="allow a pause of the process of MS milliseconds (default 500); it is usually a few",
    )
    pause.add_argument(
        "--no-stop",
        action="store_true",
        help="do not stop the process: what it changes meanwhile may be torn",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="save the look as JSON, for --diff")
    parser.add_argument(
        "--export",
        metavar="FILE",
        help="write blocks and dominators to FILE: .parquet, .arrow, or .dot for the tree",
    )
    add_json(parser, "heap")


def run(arguments: argparse.Namespace) -> int:
    """Read the heap and print the answer."""
    image = _read_image(arguments)
    if image is None:
        return _run_saved(arguments)
    from mematlas._core import BlockState
    from mematlas.heap.analyse.summary import summarise
    from mematlas.heap.read.heap import read_heap

    heap = read_heap(image)
    summary = cache(lambda top: summarise(heap, top=top))
    if arguments.output or arguments.export:
        _write_files(arguments, heap, summary(arguments.top))
    _answer(arguments, heap, summary)
    if arguments.fail_on == "lost":
        return int(heap.count(BlockState.LOST, BlockState.LOST_CYCLE)[0] > 0)
    return 0


def _read_image(arguments: argparse.Namespace) -> Image | None:
    """Copy a process or read a core file; None: the target is a saved look."""
    if arguments.target.isdigit():
        from mematlas.heap.read.capture import capture

        stop_s = arguments.stop / 1000 if arguments.stop else None
        return capture(int(arguments.target), stop_s=stop_s, no_stop=arguments.no_stop)
    from mematlas.heap.read.core import read_core
    from mematlas.heap.read.core_headers import is_core

    return read_core(arguments.target) if is_core(arguments.target) else None


def _run_saved(arguments: argparse.Namespace) -> int:
    """Show a saved look, or compare two."""
    from mematlas.heap.read.saved import read_summary

    if (
        arguments.why
        or arguments.unreachable
        or arguments.waste
        or arguments.export
        or arguments.output
    ):
        raise UsageError("a saved look has no blocks: give a PID")
    summary = read_summary(arguments.target)
    if arguments.diff:
        _print_difference(arguments, read_summary(arguments.diff), summary)
    else:
        _print_summary(arguments, summary)
    return int(arguments.fail_on == "lost" and summary.totals.lost_blocks > 0)


def _write_files(arguments: argparse.Namespace, heap: Heap, summary: Summary) -> None:
    from mematlas.heap.export import write_export
    from mematlas.present import json_writer
    from mematlas.present.output_file import writing

    if arguments.output:
        with writing(arguments.output) as part:
            part.write_text(json_writer.render("heap", summary), "utf-8")
    if arguments.export:
        write_export(arguments.export, heap, summary)


def _answer(arguments: argparse.Namespace, heap: Heap, summary: Callable[[int], Summary]) -> None:
    """Print the answer to the question. `summary`: the look with so many rows."""
    if arguments.why:
        from mematlas.heap.analyse.paths import find_why
        from mematlas.heap.text.answers import render_why

        why = find_why(heap, arguments.why, top=arguments.top)
        if not _print_json(arguments, "heap-why", why):
            render_why(why, console=_console())
    elif arguments.unreachable:
        from mematlas.heap.analyse.lost import find_lost
        from mematlas.heap.text.answers import render_lost

        lost = find_lost(heap)
        if not _print_json(arguments, "heap-lost", lost):
            render_lost(lost, top=arguments.top, console=_console())
    elif arguments.waste:
        from mematlas.heap.analyse.waste import find_waste
        from mematlas.heap.text.answers import render_waste

        waste = find_waste(heap, top=arguments.top)
        if not _print_json(arguments, "heap-waste", waste):
            render_waste(waste, top=arguments.top, console=_console())
    elif arguments.diff:
        from mematlas.heap.read.saved import read_summary

        _print_difference(arguments, read_summary(arguments.diff), summary(DEFAULT_TOP))
    else:
        _print_summary(arguments, summary(arguments.top))


def _print_summary(arguments: argparse.Namespace, summary: Summary) -> None:
    from mematlas.heap.text.tree import render_summary

    if not _print_json(arguments, "heap", summary):
        render_summary(summary, top=arguments.top, console=_console())


def _print_difference(arguments: argparse.Namespace, before: Summary, after: Summary) -> None:
    from mematlas.heap.analyse.difference import compare
    from mematlas.heap.text.answers import render_difference

    difference = compare(before, after)
    if not _print_json(arguments, "heap-diff", difference):
        render_difference(difference, top=arguments.top, console=_console())


def _print_json(arguments: argparse.Namespace, schema: str, model: object) -> bool:
    from mematlas.present import json_writer

    if arguments.json:
        sys.stdout.write(json_writer.render(schema, model))
    return bool(arguments.json)


def _console() -> Console:
    from rich.console import Console

    return Console()
