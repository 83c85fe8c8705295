"""Show what holds the memory of a running process: its live blocks, by the root that keeps them alive.

The memory is copied while the process runs, which is then stopped for milliseconds, for what it wrote
meanwhile. Nothing of it is called. A core file is read as well. Blocks of glibc's malloc are
found without symbols or a recording. A recording of `run --graph` adds the line that allocated each block.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Literal

from mematlas.cli.arguments import add_json, positive
from mematlas.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from rich.console import Console

    from mematlas.heap.model.answers import Summary
    from mematlas.heap.model.heap import Heap

DEFAULT_TOP = 12
EXAMPLES = ("heap 4242 --why Order", "heap app.atlas --why cache.py:31")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas heap`."""
    parser.add_argument(
        "target",
        metavar="PID|CORE|FILE",
        help="a process, a core file, a recording of `run --graph`, or a look saved with -o",
    )
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--why",
        metavar="TYPE|LINE|ADDRESS",
        help="show the shortest paths from the roots to the blocks of a type, to one (0x...), or, of a recording,"
        " to those that a function or line (file:line) allocated",
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
    parser.add_argument(
        "--at",
        metavar="MOMENT",
        choices=("peak", "end"),
        help="of a recording, the graph at the peak of RSS or at the end (default peak, if it has that)",
    )
    parser.add_argument(
        "--pid",
        metavar="PID",
        type=positive,
        help="of a recording, the process (default the one with most live bytes)",
    )
    add_json(parser, "heap")


def run(arguments: argparse.Namespace) -> int:
    """Read the heap and print the answer."""
    heap = _read_heap(arguments)
    if heap is None:
        return _run_saved(arguments)
    from mematlas._core import BlockState
    from mematlas.heap.analyse.summary import summarise

    summary = cache(lambda top: summarise(heap, top=top))
    if arguments.output or arguments.export:
        _write_files(arguments, heap, summary(arguments.top))
    _answer(arguments, heap, summary)
    if arguments.fail_on == "lost":
        return int(heap.count(BlockState.LOST, BlockState.LOST_CYCLE)[0] > 0)
    return 0


def _read_heap(arguments: argparse.Namespace) -> Heap | None:
    """Read the heap of a process, a core file or a recording; None: the target is a saved look."""
    from mematlas.recording.reader import is_recording

    path = arguments.target
    if is_recording(path):
        return _read_recorded(path, arguments.at, arguments.pid)
    if arguments.at or arguments.pid:
        raise UsageError("--at and --pid choose a graph of a recording: give one of `run --graph`")
    from mematlas.heap.read.heap import read_heap

    if path.isdigit():
        from mematlas.heap.read.capture import capture

        stop_s = arguments.stop / 1000 if arguments.stop else None
        return read_heap(capture(int(path), stop_s=stop_s, no_stop=arguments.no_stop))
    from mematlas.heap.read.core import read_core
    from mematlas.heap.read.core_headers import is_core

    return read_heap(read_core(path)) if is_core(path) else None


def _read_recorded(path: str, moment: Literal["peak", "end"] | None, pid: int | None) -> Heap:
    from mematlas.cli.recordings import open_recording

    return open_recording(path).heap(pid=pid, at=moment)


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
        from mematlas.heap.text.answers import render_waste

        waste = heap.content.waste(arguments.top)
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
