"""Ask the recordings of a fleet: which lines hold the memory of all hosts, and which grew from version to version.

A lake is a folder, or s3://BUCKET/PREFIX, with the lines of recordings as Parquet files, which any other tool reads too.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mematlas.cli.arguments import add_json, duration, percent, positive, size
from mematlas.cli.recording_options import add_label, parse_labels
from mematlas.errors import UsageError
from mematlas.lake.model import LEVELS, METRICS, Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from mematlas.lake.query import Lake
    from mematlas.lake.storage import Storage

EXAMPLES = (
    "lake add web-*.atlas --to /srv/lake --label service=web --label version=v1.5",
    "lake regress /srv/lake --from v1.4 --to v1.5",
)
DEFAULT_TOP = 20
_SIDES = "VERSION|NAME=VALUE,..."
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_AGO = re.compile(r"(\d{1,5})d")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas lake`."""
    parts = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _declare_add(parts)
    part = _part(parts, "show", "list the days, services and versions of a lake")
    part.add_argument(
        "--files", action="store_true", help="list the Parquet files, for other tools"
    )
    part = _part(parts, "top", "list the lines with most memory in all hosts together")
    _declare_question(part)
    part = _part(parts, "trend", "show the memory of a host over the days, by line")
    _declare_question(part)
    part.add_argument(
        "--match", metavar="TEXT", help="lines whose function or file has TEXT in its name"
    )
    part = _part(parts, "diff", "show what differs between two groups of recordings")
    _declare_sides(part)
    _declare_question(part)
    _declare_regress(parts)
    part = _part(parts, "compact", "merge small files, and delete those that were replaced")
    part.add_argument(
        "--grace",
        metavar="TIME",
        type=duration,
        default=3600.0,
        help="keep replaced files for readers that began before (default 1h)",
    )
    part = _part(parts, "expire", "remove old days")
    part.add_argument(
        "--keep", metavar="DAYS", type=positive, help="remove days older than DAYS days"
    )
    part.add_argument(
        "--keep-lines",
        metavar="DAYS",
        type=positive,
        help="remove the rows of single recordings that are older; sums by host and day remain",
    )


def _part(parts: Any, name: str, text: str) -> argparse.ArgumentParser:
    """Declare an action on a lake that there is."""
    part = _bare_part(parts, name, text)
    part.add_argument("lake", metavar="LAKE", help="a folder, or s3://BUCKET/PREFIX")
    add_json(part, f"lake-{name}")
    part.add_argument(  # the parser of `lake` has the option, too, before ACTION
        "--no-pager",
        action="store_true",
        default=argparse.SUPPRESS,
        help="print long output to the terminal as a whole",
    )
    return part


def _bare_part(parts: Any, name: str, text: str) -> argparse.ArgumentParser:
    examples = "\n".join(f"  mematlas {each}" for each in _EXAMPLES[name])
    part: argparse.ArgumentParser = parts.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"examples:\n{examples}",
    )
    return part


_EXAMPLES = {
    "add": (
        "lake add web-*.atlas --to /srv/lake --label service=web --label version=v1.5",
        "lake add app.atlas --to s3://profiles/lake --label host=build-7",
    ),
    "show": ("lake show /srv/lake", "lake show /srv/lake --files --json"),
    "top": (
        "lake top /srv/lake --service web --since 7d",
        "lake top /srv/lake --by resident --level file --label region=eu",
    ),
    "trend": (
        "lake trend /srv/lake --service web",
        "lake trend /srv/lake --match cache.py --since 2026-11-01",
    ),
    "diff": (
        "lake diff /srv/lake --from v1.4 --to v1.5",
        "lake diff /srv/lake --from host=web-1 --to host=web-2 --since 1d",
    ),
    "regress": (
        "lake regress /srv/lake --from v1.4 --to v1.5",
        "lake regress /srv/lake --from day=2026-11-01 --to day=2026-11-08 --fail-on growth",
    ),
    "compact": ("lake compact /srv/lake", "lake compact /srv/lake --grace 10m"),
    "expire": (
        "lake expire /srv/lake --keep 400",
        "lake expire /srv/lake --keep 400 --keep-lines 30",
    ),
}


def _declare_add(parts: Any) -> None:
    part = _bare_part(parts, "add", "add recordings; one that is in the lake is not added twice")
    part.add_argument(
        "files",
        metavar="RECORDING",
        nargs="+",
        help="a recording, of `mematlas run` or `mematlas attach`",
    )
    part.add_argument(
        "--to",
        metavar="LAKE",
        required=True,
        help="a folder, which is made, or s3://BUCKET/PREFIX",
    )
    add_label(
        part,
        "label the recordings, besides their own labels; service, version, host and build replace"
        " what the recording says; repeatable",
    )
    part.add_argument(
        "--strip",
        metavar="FOLDER",
        action="append",
        default=[],
        help="cut FOLDER off the names of files, so that a program in /srv/v1.4 and in /srv/v1.5 has the"
        " same lines; * stands for one name, as in '/srv/*'; repeatable",
    )
    add_json(part, "lake-add")


def _declare_question(part: argparse.ArgumentParser) -> None:
    part.add_argument(
        "--by", choices=METRICS, default="live", help="the metric (default live, in bytes)"
    )
    part.add_argument(
        "--level", choices=LEVELS, default="function", help="what rows are (default function)"
    )
    part.add_argument(
        "--top",
        metavar="N",
        type=positive,
        default=DEFAULT_TOP,
        help=f"list the first N rows (default {DEFAULT_TOP})",
    )
    for name in ("service", "host", "version", "build"):
        part.add_argument(f"--{name}", metavar="NAME", help=f"only recordings of this {name}")
    part.add_argument(
        "--since", metavar="DAY", type=_day, help="from this day on: 2026-11-03, or 7d ago"
    )
    part.add_argument("--until", metavar="DAY", type=_day, help="up to this day")
    add_label(
        part,
        "only recordings with this label, by their own rows: slower than the sums by host and day;"
        " repeatable",
    )
    part.add_argument(
        "--engine",
        metavar="NAME",
        default="duckdb",
        help="duckdb (default), polars, chdb, spark, spark://HOST:PORT, spark:MASTER, or a URL of"
        " ibis.connect()",
    )


def _declare_sides(part: argparse.ArgumentParser) -> None:
    part.add_argument(
        "--from",
        dest="before",
        metavar=_SIDES,
        required=True,
        help="recordings to compare with: a version, or service=, host=, build=, version=, day=",
    )
    part.add_argument(
        "--to", dest="after", metavar=_SIDES, required=True, help="recordings to compare"
    )


def _declare_regress(parts: Any) -> None:
    part = _part(parts, "regress", "list the lines that grew across hosts, tested against chance")
    _declare_sides(part)
    _declare_question(part)
    part.add_argument(
        "--false-discovery",
        metavar="PERCENT",
        type=percent,
        default=5.0,
        help="share of the listed lines that may be false, as a mean (default 5)",
    )
    part.add_argument(
        "--over",
        metavar="PERCENT",
        type=percent,
        default=1.0,
        help="lines that grew by more than this (default 1)",
    )
    part.add_argument(
        "--least",
        metavar="SIZE",
        type=size,
        default=64 << 10,
        help="test lines with at least SIZE on a host, as a mean of both sides (default 64K)",
    )
    part.add_argument(
        "--test",
        choices=("paired", "welch"),
        help="paired: hosts that are on both sides; welch: two groups of hosts (default: by the"
        " number of hosts)",
    )
    part.add_argument("--fail-on", choices=("growth",), help="exit with 1 if a line grew")


def _day(text: str) -> str:
    """Parse a day: 2026-11-03, or 7d for that many days ago."""
    if ago := _AGO.fullmatch(text):
        return f"{datetime.now(UTC) - timedelta(days=int(ago[1])):%Y-%m-%d}"
    if _DAY.fullmatch(text):
        try:
            return datetime.fromisoformat(text).strftime("%Y-%m-%d")
        except ValueError:
            pass
    message = f"{text!r} is no day; write it as 2026-11-03, or as 7d"
    raise argparse.ArgumentTypeError(message)


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "add": _add,
        "show": _show,
        "top": _top,
        "trend": _trend,
        "diff": _diff,
        "regress": _regress,
        "compact": _compact,
        "expire": _expire,
    }
    return actions[arguments.action](arguments)


def _store(name: str) -> Storage:
    from importlib import import_module

    from mematlas.errors import UnsupportedError
    from mematlas.lake.engines import INSTALL
    from mematlas.lake.storage import open_storage

    try:
        import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise UnsupportedError(f"a lake needs pyarrow: {INSTALL}") from None
    return open_storage(name)


def _add(arguments: argparse.Namespace) -> int:
    from mematlas.lake.add import add

    result = add(
        _store(arguments.to), arguments.files, parse_labels(arguments.label), arguments.strip
    )
    _print(arguments, result, "render_addition")
    return int(result.failed > 0)


def _show(arguments: argparse.Namespace) -> int:
    from mematlas.lake.maintain import summarise

    store = _store(arguments.lake)
    if arguments.files:
        from mematlas.lake.log import read_state

        files = sorted(read_state(store).files)
        urls = [store.url(each) for each in files]
        if not _print_json(arguments, urls):
            print(*urls, sep="\n")
        return 0
    _print(arguments, summarise(store), "render_summary")
    return 0


def _lake(arguments: argparse.Namespace) -> Lake:
    from mematlas.lake.engines import open_engine
    from mematlas.lake.log import read_state
    from mematlas.lake.query import Lake

    store = _store(arguments.lake)
    state = read_state(store)  # a lake that does not exist is found before an engine starts
    return Lake(store, state, open_engine(arguments.engine, store))


def _selection(arguments: argparse.Namespace) -> Selection:
    return Selection(
        since=arguments.since,
        until=arguments.until,
        service=arguments.service,
        host=arguments.host,
        version=arguments.version,
        build=arguments.build,
        labels=parse_labels(arguments.label),
    )


def _top(arguments: argparse.Namespace) -> int:
    from mematlas.lake.answers import top

    found = top(
        _lake(arguments),
        _selection(arguments),
        by=arguments.by,
        level=arguments.level,
        most=arguments.top,
    )
    _print(arguments, found, "render_top")
    return 0


def _trend(arguments: argparse.Namespace) -> int:
    from mematlas.lake.answers import trend

    found = trend(
        _lake(arguments),
        _selection(arguments),
        by=arguments.by,
        level=arguments.level,
        most=arguments.top,
        text=arguments.match,
    )
    _print(arguments, found, "render_trend")
    return 0


def _sides(arguments: argparse.Namespace) -> tuple[Selection, Selection]:
    """Return what --from and --to select, each narrowed by the other options."""
    common = _selection(arguments)
    before, after = (parse_side(each, common) for each in (arguments.before, arguments.after))
    if before == after:
        raise UsageError(f"--from and --to are the same recordings: {before.words()}")
    return before, after


def parse_side(text: str, common: Selection) -> Selection:
    """Parse VERSION or NAME=VALUE,... into a selection within another; UsageError if it is malformed."""
    from dataclasses import replace

    if "=" not in text:
        return replace(common, version=text)
    found: dict[str, str] = {}
    for word in text.split(","):
        name, _, value = word.partition("=")
        if name not in {"service", "host", "version", "build", "day"} or not value:
            raise UsageError(
                f"{word!r} is none of service=, host=, version=, build=, day=DAY or day=DAY..DAY"
            )
        found[name] = value
    if days := found.pop("day", None):
        first, dots, last = days.partition("..")
        try:
            found["since"] = _day(first)
            found["until"] = _day(last) if dots else found["since"]
        except argparse.ArgumentTypeError as error:
            raise UsageError(str(error)) from None
    chosen: dict[str, Any] = dict(found)
    return replace(common, **chosen)


def _diff(arguments: argparse.Namespace) -> int:
    from mematlas.lake.answers import diff

    before, after = _sides(arguments)
    found = diff(
        _lake(arguments),
        before,
        after,
        by=arguments.by,
        level=arguments.level,
        most=arguments.top,
    )
    _print(arguments, found, "render_diff")
    return 0


def _regress(arguments: argparse.Namespace) -> int:
    from mematlas.lake.answers import regress

    before, after = _sides(arguments)
    if not 0 < arguments.false_discovery < 100:
        raise UsageError("--false-discovery is above 0 and below 100")
    found = regress(
        _lake(arguments),
        before,
        after,
        by=arguments.by,
        level=arguments.level,
        rate=arguments.false_discovery / 100,
        over=arguments.over / 100,
        least_bytes=arguments.least,
        test=arguments.test,
    )
    if not _print_json(arguments, found):
        from mematlas.lake.text import render_regression

        render_regression(found, top=arguments.top, console=_console())
    return int(arguments.fail_on == "growth" and bool(found.rows))


def _compact(arguments: argparse.Namespace) -> int:
    from mematlas.lake.maintain import compact

    found = compact(_store(arguments.lake), grace_s=arguments.grace)
    _print(arguments, found, "render_maintenance")
    return 0


def _expire(arguments: argparse.Namespace) -> int:
    from mematlas.lake.maintain import expire

    if arguments.keep is None and arguments.keep_lines is None:
        raise UsageError("say what to keep: --keep DAYS, --keep-lines DAYS")
    found = expire(
        _store(arguments.lake), keep_days=arguments.keep, keep_lines_days=arguments.keep_lines
    )
    _print(arguments, found, "render_maintenance")
    return 0


def _print_json(arguments: argparse.Namespace, model: object) -> bool:
    from mematlas.present import json_writer

    if arguments.json:
        sys.stdout.write(json_writer.render(f"lake-{arguments.action}", model))
    return bool(arguments.json)


def _print(arguments: argparse.Namespace, model: object, renderer: str) -> None:
    if not _print_json(arguments, model):
        from mematlas.lake import text

        getattr(text, renderer)(model, console=_console())


def _console() -> Any:
    from rich.console import Console

    return Console()
