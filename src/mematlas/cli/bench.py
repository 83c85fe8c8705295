"""Measure what memory costs on this machine: page sizes, sharing, faults, allocators, nodes.

`mematlas bench all --quick` takes less than a minute. `mematlas bench compare A.json B.json` tells what
changed between two results, `mematlas bench show A.json` shows one again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import duration, size
from mematlas.errors import TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mematlas.bench import BenchSettings
    from mematlas.bench.model import Result
    from mematlas.linux.hugepages import PageKind

_INTERRUPTED = 130
_REDRAWN = 0.2  # seconds between pictures of the progress bar: drawing disturbs too
_SCHEMA = "mematlas/bench/1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    from mematlas.bench.catalogue import BENCHMARKS

    listed = "\n".join(f"  {each.name:<10} {each.summary}" for each in BENCHMARKS)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"benchmarks:\n{listed}\n  {'all':<10} all of them"
    parser.add_argument(
        "what", nargs="+", metavar="NAME", help="benchmarks; or: compare FILE FILE; or: show FILE"
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes, less time: a first look")
    parser.add_argument(
        "--time",
        metavar="TIME",
        type=duration,
        help="for each benchmark, about (default 10s, quick 4s)",
    )
    parser.add_argument("--size", type=size, help="memory to measure in (alloc: of an object)")
    parser.add_argument(
        "--threads", type=_numbers, metavar="N,...", help="numbers of threads (default: 1 and all)"
    )
    parser.add_argument(
        "--pages", type=_kinds, metavar="KIND,...", help="4K, 64K (or other mTHP), thp, 2M, 1G"
    )
    parser.add_argument(
        "--reserve",
        action="store_true",
        help="as root: lend the run huge pages the machine does not give now, and take them back",
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="keep the result, as JSON")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page with charts")
    parser.add_argument("--json", action="store_true", help=f"print JSON ({_SCHEMA})")
    parser.add_argument(
        "--details",
        action="store_true",
        help="also median, 95 %% interval, best, spread of each figure",
    )
    parser.add_argument("--all", action="store_true", help="compare: list unchanged figures too")
    parser.add_argument(
        "--fail-if-slower", action="store_true", help="compare: exit code 1 if a figure got slower"
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, compare or show."""
    first, *rest = arguments.what
    if first == "compare":
        return _compare(rest, arguments)
    if first == "show":
        if len(rest) != 1:
            raise UsageError("give one file: mematlas bench show FILE")
        return _give(_load(rest[0]), arguments)
    return _measure(arguments)


def _measure(arguments: argparse.Namespace) -> int:
    from mematlas import bench

    names = list(bench.NAMES) if "all" in arguments.what else list(dict.fromkeys(arguments.what))
    settings = bench.BenchSettings(
        quick=arguments.quick,
        seconds=arguments.time or (4.0 if arguments.quick else 10.0),
        size=arguments.size,
        threads=arguments.threads,
        pages=arguments.pages,
    )
    for path in (arguments.output, arguments.html):
        if path is not None and not path.absolute().parent.is_dir():
            raise TargetError(f"{path.parent}: no such folder")  # before minutes of measuring
    with _lent(names, settings) if arguments.reserve else nullcontext(), _progress() as progress:
        result = bench.run(names, settings, progress)
    _give(result, arguments)
    return 0 if result.complete else _INTERRUPTED


def _lent(names: list[str], settings: BenchSettings) -> AbstractContextManager[None]:
    from mematlas.bench import pages_needed
    from mematlas.cli.temporary_hugepages import huge_pages_lent

    return huge_pages_lent(pages_needed(names, settings))


def _give(result: Result, arguments: argparse.Namespace) -> int:
    from mematlas.bench.model import to_json
    from mematlas.present import json_writer

    written = json_writer.render("bench", to_json(result))
    if arguments.output:
        arguments.output.write_text(written)
    if arguments.html:
        from mematlas.bench.html import render_bench

        arguments.html.write_text(render_bench(result), encoding="utf-8")
    if arguments.json:
        sys.stdout.write(written)
        return 0
    from rich.console import Console

    from mematlas.bench.text import render_details, render_result

    console = Console()
    render_result(result, console=console)
    if arguments.details:
        render_details(result, console=console)
    return 0


def _compare(paths: list[str], arguments: argparse.Namespace) -> int:
    from mematlas.bench.compare import ChangeVerdict, compare

    if len(paths) != 2:
        raise UsageError("give two files: mematlas bench compare BEFORE AFTER")
    found = compare(_load(paths[0]), _load(paths[1]))
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("bench-compare", found))
    else:
        from rich.console import Console

        from mematlas.bench.text import render_comparison

        render_comparison(found, everything=arguments.all, console=Console())
    return int(arguments.fail_if_slower and found.count(ChangeVerdict.SLOWER) > 0)


def _load(path: str) -> Result:
    from mematlas.bench.model import Result

    try:
        found = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise TargetError(f"{path}: no such file") from None
    except (ValueError, UnicodeDecodeError):
        found = None
    try:
        if found["schema"] != _SCHEMA:
            raise ValueError  # noqa: TRY301 - the same answer as for any other file
        return Result.from_json(found["data"])
    except (KeyError, TypeError, ValueError):
        text = f"{path}: not a result of `mematlas bench --output FILE`"
        raise UsageError(text) from None


def _progress() -> AbstractContextManager[Callable[[str, float], None]]:
    """Show a bar with the time left on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext(lambda _name, _share: None)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bar() -> Iterator[Callable[[str, float], None]]:
        columns = (TextColumn("{task.description:<10}"), BarColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        # Redrawn only when told: a thread that draws would disturb what is measured.
        with Progress(*columns, console=console, transient=True, auto_refresh=False) as shown:
            task = shown.add_task("", total=1.0)

            drawn = 0.0

            def tell(name: str, share: float) -> None:
                nonlocal drawn
                now = time.monotonic()
                if now - drawn >= _REDRAWN:
                    drawn = now
                    shown.update(task, description=name, completed=share, refresh=True)

            yield tell

    return bar()


def _numbers(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isdigit() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 1,2,4")
    return tuple(dict.fromkeys(map(int, words)))


def _kinds(text: str) -> tuple[PageKind, ...]:
    from mematlas.bench.region import parse_kinds

    return parse_kinds(word for word in text.split(",") if word)
