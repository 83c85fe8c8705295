"""Options that `mematlas run` and `mematlas attach` share: how a recording is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.cli.arguments import interval, positive, size
from mematlas.errors import UsageError
from mematlas.tracing.settings import (
    DISK_BYTES,
    INTERVAL_S,
    KEEP_S,
    LEAST_DISK_BYTES,
    SAMPLE_BYTES,
    TraceSettings,
    checked_labels,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from mematlas.tracing.settings import GraphMoment


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the recording to FILE (default mematlas-NAME.PID.atlas)",
    )
    parser.add_argument(
        "--exact", action="store_true", help="record every allocation, instead of a sample"
    )
    parser.add_argument(
        "--sample-bytes",
        type=size,
        default=SAMPLE_BYTES,
        metavar="SIZE",
        help="mean number of bytes between two samples (default 512K)",
    )
    parser.add_argument(
        "--interval",
        type=interval,
        default=INTERVAL_S,
        metavar="TIME",
        help="time between two snapshots of residency (default 1s)",
    )
    parser.add_argument(
        "--idle",
        type=interval,
        default=0.0,
        metavar="TIME",
        help="report memory that is idle for TIME, repeatedly",
    )
    parser.add_argument(
        "--seed", type=positive, metavar="N", default=0, help="make the sampling repeatable"
    )
    parser.add_argument(
        "--keep",
        type=interval,
        metavar="TIME",
        help="record for ever: a folder that keeps the last TIME, older details thinned (such as 24h, 7d)",
    )
    parser.add_argument(
        "--disk",
        type=size,
        metavar="SIZE",
        help="with --keep: take at most SIZE of the disk, the oldest goes first (default 1G)",
    )
    parser.add_argument(
        "--when",
        metavar="CONDITION",
        default="",
        help="keep a look at all processes when it becomes true: 'rss > 2G or growth > 100M/10m or psi.some > 20%%'",
    )
    add_label(parser, "label the recording, for the rows of `mematlas export`; repeatable")


_GRAPHS: dict[str, tuple[GraphMoment, ...]] = {
    "--graph": ("peak", "exit"),
    "--graph=peak": ("peak",),
    "--graph=exit": ("exit",),
}
"""Options with a value of their own: argparse would take the program's name for an optional one."""


def add_graph(parser: argparse.ArgumentParser) -> None:
    """Declare --graph."""
    helps = (
        "record what keeps each block alive, at the peak and at the exit, for `heap`; implies --exact",
        "the same at the peak alone",
        "the same at the exit alone: for leaks",
    )
    for (name, moments), text in zip(_GRAPHS.items(), helps, strict=True):
        parser.add_argument(
            name, dest="graph", action="store_const", const=moments, default=(), help=text
        )


def add_label(parser: argparse.ArgumentParser, text: str) -> None:
    """Declare --label with its help."""
    parser.add_argument("--label", metavar="NAME=VALUE", action="append", default=[], help=text)


def parse_labels(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Parse labels NAME=VALUE and return them by name; of one name the last holds.

    Raises:
        UsageError: one is malformed.
    """
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{text!r} is no label; write NAME=VALUE")
        found[name] = value
    return checked_labels(found)


def settings_of(arguments: argparse.Namespace, fault_period: int) -> TraceSettings:
    """Return the settings that the options make; UsageError if one of them is invalid."""
    if arguments.sample_bytes < 1:
        raise UsageError(
            "--sample-bytes must be at least 1; use --exact to record every allocation"
        )
    if arguments.disk and arguments.disk < LEAST_DISK_BYTES:
        raise UsageError("--disk must be at least 4M")
    keep_s = arguments.keep or (KEEP_S if arguments.disk else 0.0)
    if arguments.when:
        from mematlas.tracing.conditions import Conditions

        Conditions(arguments.when)
    graphs = getattr(arguments, "graph", ())  # `run` has it alone
    if graphs and keep_s:
        raise UsageError("--graph does not go with --keep: a graph is of one recording as a whole")
    return TraceSettings(
        exact=arguments.exact or bool(graphs),
        sample_bytes=arguments.sample_bytes,
        interval_s=arguments.interval,
        fault_period=fault_period,
        seed=arguments.seed,
        idle_s=arguments.idle,
        labels=parse_labels(arguments.label),
        keep_s=keep_s,
        disk_bytes=arguments.disk or DISK_BYTES,
        when=arguments.when,
        graphs=graphs,
    )


def to_options(settings: TraceSettings, path: str) -> list[str]:
    """Return the options that make these settings, for the mematlas that `--follow` starts."""
    words = ["-o", path, "--sample-bytes", str(settings.sample_bytes)]
    words += ["--interval", f"{settings.interval_s}s"] + ["--exact"] * settings.exact
    words += ["--idle", f"{settings.idle_s}s"] if settings.idle_s else []
    words += ["--seed", str(settings.seed)] if settings.seed else []
    if settings.rolls:
        words += ["--keep", f"{settings.keep_s}s", "--disk", str(settings.disk_bytes)]
    words += ["--when", settings.when] if settings.when else []
    words += [name for name, moments in _GRAPHS.items() if settings.graphs == moments]
    return [*words, *(f"--label={name}={value}" for name, value in settings.labels)]
