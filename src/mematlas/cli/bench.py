"""Measure what memory costs on this machine: page sizes, sharing, faults, allocators, nodes.

`mematlas bench all --quick` takes less than a minute. `mematlas bench compare BEFORE AFTER` compares two
results, or two folders of results of several runs, and `mematlas bench show FILE` prints a result again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.cli.arguments import add_output, duration, output_format, percent, size
from mematlas.errors import TargetError, UsageError
from mematlas.present.output_file import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from mematlas.bench import BenchSettings
    from mematlas.bench.model import Result
    from mematlas.linux.hugepages import PageKind

_INTERRUPTED = 130
_REDRAWN = 0.2  # seconds between updates of the progress bar, which disturb the measurement
_SCHEMA = "mematlas/bench/1"
EXAMPLES = (
    "bench tlb alloc --duration 30s -o result.json -o result.html",
    "bench compare before/ after/ --fail-over 5%",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas bench`."""
    from mematlas.bench.catalogue import BENCHMARKS

    listed = "\n".join(f"  {each.name:<10} {each.summary}" for each in BENCHMARKS)
    parser.epilog = f"benchmarks:\n{listed}\n  {'all':<10} all of them"
    parser.add_argument(
        "what",
        nargs="+",
        metavar="NAME",
        help="benchmarks to run; or compare BEFORE AFTER (files, or folders of runs); or show FILE",
    )
    parser.add_argument("--quick", action="store_true", help="measure fewer sizes in less time")
    parser.add_argument(
        "--duration",
        metavar="TIME",
        type=duration,
        help="measure each benchmark for about this time (default 10s; with --quick 4s)",
    )
    parser.add_argument(
        "--size", metavar="SIZE", type=size, help="memory to measure in; alloc: size of an object"
    )
    parser.add_argument(
        "--threads",
        type=_numbers,
        metavar="N,...",
        help="thread counts to measure with (default 1 and all)",
    )
    parser.add_argument(
        "--pages", type=_kinds, metavar="KIND,...", help="4K, 64K (or other mTHP), thp, 2M, 1G"
    )
    parser.add_argument(
        "--reserve",
        action="store_true",
        help="as root: reserve the huge pages that the run needs, and release them afterwards",
    )
    add_output(parser, "write the result as JSON, or as a page with charts if FILE ends in .html")
    parser.add_argument("--json", action="store_true", help=f"print JSON ({_SCHEMA})")
    parser.add_argument(
        "--details",
        action="store_true",
        help="print median, 95 %% interval, best and spread of each figure, and the kernels that were chosen",
    )
    parser.add_argument(
        "--retune",
        action="store_true",
        help="measure anew which kernels are the fastest here, instead of reading the cache",
    )
    parser.add_argument(
        "--all", action="store_true", help="compare: list unchanged figures as well"
    )
    parser.add_argument(
        "--fail-over",
        metavar="PERCENT",
        type=percent,
        help="compare folders: exit with 1 if a figure got slower by more than PERCENT, beyond noise",
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, compare or print results."""
    first, *rest = arguments.what
    if first == "compare":
        return _compare(rest, arguments)
    if first == "show":
        if len(rest) != 1:
            raise UsageError("name one result: mematlas bench show FILE")
        return _write(_load(rest[0]), arguments)
    return _measure(arguments)


def _measure(arguments: argparse.Namespace) -> int:
    from mematlas import bench

    names = list(bench.NAMES) if "all" in arguments.what else list(dict.fromkeys(arguments.what))
    settings = bench.BenchSettings(
        quick=arguments.quick,
        seconds=arguments.duration or (4.0 if arguments.quick else 10.0),
        size=arguments.size,
        threads=arguments.threads,
        pages=arguments.pages,
    )
    for path in map(Path, arguments.output):
        if not path.absolute().parent.is_dir():  # an error before minutes of measuring
            raise TargetError(f"{path.parent}: no such directory")
    if arguments.retune:
        from mematlas.bench import kernel_cache

        kernel_cache.measure_anew()
    with (
        _reserved(names, settings) if arguments.reserve else nullcontext(),
        _progress() as progress,
    ):
        result = bench.run(names, settings, progress)
    _write(result, arguments)
    return 0 if result.complete else _INTERRUPTED


def _reserved(names: list[str], settings: BenchSettings) -> AbstractContextManager[None]:
    from mematlas.bench import pages_needed
    from mematlas.cli.temporary_hugepages import temporary_hugepages

    return temporary_hugepages(pages_needed(names, settings))


def _write(result: Result, arguments: argparse.Namespace) -> int:
    """Write the result to the files named by -o, and print it."""
    for path in arguments.output:
        with writing(path) as part:
            part.write_text(_render(result, output_format(path, "json", "html")), encoding="utf-8")
    if arguments.json:
        sys.stdout.write(_render(result, "json"))
        return 0
    from rich.console import Console

    from mematlas.bench.explain.explanations import explain
    from mematlas.bench.text import render_details, render_kernels, render_result

    console = Console()
    render_result(result, explain(result), console=console)
    if arguments.details:
        render_details(result, console=console)
        render_kernels(result, console=console)
    return 0


def _render(result: Result, form: str) -> str:
    if form == "html":
        from mematlas.bench.explain.explanations import explain
        from mematlas.bench.html import render_bench

        return render_bench(result, explain(result))
    from mematlas.bench.model import to_json
    from mematlas.present import json_writer

    return json_writer.render("bench", to_json(result))


def _compare(paths: list[str], arguments: argparse.Namespace) -> int:
    from mematlas.bench.compare import RUNS_NEEDED, ChangeVerdict, compare

    if len(paths) != 2:
        raise UsageError("name two results, or folders: mematlas bench compare BEFORE AFTER")
    found = compare(_load_all(paths[0]), _load_all(paths[1]))
    if arguments.fail_over is not None and not found.proves:
        text = (
            f"--fail-over: compare folders with results of {RUNS_NEEDED} runs or more on each side"
        )
        raise UsageError(f"{text}; fewer runs prove no change")
    if arguments.json:
        from mematlas.present import json_writer

        sys.stdout.write(json_writer.render("bench-compare", found))
    else:
        from rich.console import Console

        from mematlas.bench.text import render_comparison

        render_comparison(found, everything=arguments.all, console=Console())
    if arguments.fail_over is None:
        return 0
    slower = [each.ratio for each in found.changes if each.verdict is ChangeVerdict.SLOWER]
    return int(any(max(each, 1 / each) - 1 > arguments.fail_over / 100 for each in slower))


def _load_all(path: str) -> list[Result]:
    """Load a result, or all results of a folder."""
    if not Path(path).is_dir():
        return [_load(path)]
    found = [_load(str(each)) for each in sorted(Path(path).glob("*.json"))]
    if not found:
        raise TargetError(f"{path}: no results (*.json) in this folder")
    return found


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
            raise ValueError  # noqa: TRY301 - the same error as for any other file
        return Result.from_json(found["data"])
    except (KeyError, TypeError, ValueError):
        text = f"{path}: not a result of `mematlas bench -o FILE`"
        raise UsageError(text) from None


def _progress() -> AbstractContextManager[Callable[[str, float], None]]:
    """Show a bar with the remaining time on stderr, if stderr is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext(lambda _name, _share: None)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bar() -> Iterator[Callable[[str, float], None]]:
        columns = (TextColumn("{task.description:<10}"), BarColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        # No refresh thread: it would disturb the measurement.
        with Progress(*columns, console=console, transient=True, auto_refresh=False) as shown:
            task = shown.add_task("", total=1.0)

            drawn = 0.0

            def update(name: str, share: float) -> None:
                nonlocal drawn
                now = time.monotonic()
                if now - drawn >= _REDRAWN:
                    drawn = now
                    shown.update(task, description=name, completed=share, refresh=True)

            yield update

    return bar()


def _numbers(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.isdigit() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers such as 1,2,4")
    return tuple(dict.fromkeys(map(int, words)))


def _kinds(text: str) -> tuple[PageKind, ...]:
    from mematlas.bench.region import parse_kinds

    try:
        return parse_kinds(word for word in text.split(",") if word)
    except UsageError as error:  # argparse hides the message of a ValueError
        raise argparse.ArgumentTypeError(str(error)) from None
