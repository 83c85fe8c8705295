"""Answers of a lake for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.lake.growth import LEAST_HOSTS, LEAST_LINES
from mematlas.present import drawing
from mematlas.present.printable import NAME, clean, shorten
from mematlas.present.tables import note, show, title, write
from mematlas.units import format_bytes, format_change, format_percent

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.lake.model import (
        Addition,
        CodeLine,
        GrownLine,
        LakeDiff,
        LakeSummary,
        Maintenance,
        Regression,
        Side,
        Top,
        Trend,
    )

_BAR = 10
_SPARK = 30
_MOST_VERSIONS = 4
_WIDE = 100  # columns


def code_text(code: CodeLine) -> str:
    """Format a line, a function or a file: `function file:line`."""
    where = code.file or ""
    if code.line is not None:
        where += f":{code.line}"
    if code.function is None:
        return shorten(clean(where), NAME) or "unknown file"
    name = shorten(clean(code.function), NAME) or "unknown function"
    return f"{name} {shorten(clean(where), NAME)}".rstrip()


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _amount(size: float, by: str) -> str:
    return f"{format_bytes(size)}/s" if by == "allocated" else format_bytes(size)


def render_addition(result: Addition, *, console: Console) -> None:
    """Render what was added, and why the others were not."""
    for each in result.recordings:
        name = clean(each.file)
        if each.outcome == "failed":
            write(console, Text().append("failed ", "red").append(f"{name}: {clean(each.note)}"))
        elif each.outcome == "known":
            write(console, Text().append("known  ", "dim").append(f"{name}: run {each.run}"))
        elif each.note:
            write(console, Text().append("note   ", "yellow").append(f"{name}: {each.note}"))
    words = [f"{_plural(result.added, 'recording')} added"]
    words += [f"{result.known:,} in the lake before"] if result.known else []
    words += [f"{result.failed:,} failed"] if result.failed else []
    write(console, Text(f"{clean(result.lake)}: {', '.join(words)}"))


def render_summary(found: LakeSummary, *, console: Console) -> None:
    """Render the days, services and versions of a lake."""
    rows = []
    for each in found.partitions:
        names = [clean(version) if version else "unknown" for version in each.versions]
        more = len(names) - _MOST_VERSIONS
        listed = ", ".join(names[:_MOST_VERSIONS]) + (f" and {more} more" if more > 0 else "")
        kept = "yes" if each.with_lines else "expired"
        count = (f"{each.recordings:,}", f"{each.hosts:,}")
        rows.append([each.day, clean(each.service), *count, kept, listed])
    heads = ("=day", "=service", ">recordings", ">hosts", "=single", "~versions")
    show(console, heads, rows)
    title(console, clean(found.lake), f"commit {found.commit}")
    size = f"{_plural(found.files, 'file')}, {format_bytes(found.bytes)}"
    write(console, Text(f"{_plural(found.recordings, 'recording')} in {size}"))
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(found.rows.items()))
    write(console, Text(f"rows: {counts or 'none'}", "dim"))


def render_top(found: Top, *, console: Console) -> None:
    """Render the lines with most memory."""
    rows: list[list[object]] = [
        [
            _amount(each.fleet_bytes, found.by),
            format_percent(each.fleet_bytes, found.fleet_bytes),
            Text(drawing.bar(each.fleet_bytes / (found.fleet_bytes or 1), _BAR, console), "cyan"),
            f"{each.hosts:,}",
            _amount(each.mean_bytes, found.by),
            _amount(each.largest_bytes, found.by),
            code_text(each.code),
        ]
        for each in found.rows
    ]
    heads = [">fleet", ">%", "=", ">hosts", ">mean", ">largest", f"~{found.level}"]
    if not drawing.is_wide(console, _WIDE):
        heads, rows = _without(heads, rows, {2})
    show(console, heads, rows)
    title(console, f"{_amount(found.fleet_bytes, found.by)} {found.by}", clean(found.selection))
    words = f"the means of {_plural(found.hosts, 'host')}, from {_plural(found.recordings, 'recording')}, added up"
    write(console, Text(words))


def _without(
    heads: list[str], rows: list[list[object]], columns: set[int]
) -> tuple[list[str], list[list[object]]]:
    """Return a table without some columns, which leaves names their room on a narrow screen."""
    kept = [at for at in range(len(heads)) if at not in columns]
    return [heads[at] for at in kept], [[row[at] for at in kept] for row in rows]


def render_trend(found: Trend, *, console: Console) -> None:
    """Render the mean of a host by day, as a sparkline of each line with its own scale."""
    rows = []
    for each in found.rows:
        values = each.mean_bytes
        known = [value for value in values if value is not None]
        last, first = values[-1], values[0]
        change = "?" if each.change_bytes is None else format_change(each.change_bytes)
        graph = drawing.spark(list(values[-_SPARK:]), max(known, default=0.0) * 1.001, console)
        rows.append(
            [
                "?" if first is None else _amount(first, found.by),
                "?" if last is None else _amount(last, found.by),
                change,
                Text(graph, "cyan"),
                "all lines" if each.code is None else code_text(each.code),
            ]
        )
    show(console, (">first", ">last", ">change", "=days", f"~{found.level}"), rows)
    days = found.days[0] if len(found.days) == 1 else f"{found.days[0]} to {found.days[-1]}"
    title(console, f"{found.by} of a host, {days}", clean(found.selection))
    few, many = min(found.hosts), max(found.hosts)
    hosts = _plural(many, "host") if few == many else f"{few:,} to {many:,} hosts"
    count = _plural(len(found.days), "day")
    write(console, Text(f"{count} with recordings, {hosts} a day; each graph has its own scale"))
    if len(found.days) > _SPARK:
        note(console, f"the graphs show the last {_SPARK} days; --json has all")


def render_diff(found: LakeDiff, *, console: Console) -> None:
    """Render what changed most."""
    rows = [
        [
            _amount(each.before_bytes, found.by),
            _amount(each.after_bytes, found.by),
            format_change(each.change_bytes),
            code_text(each.code),
        ]
        for each in found.rows
    ]
    show(console, (">from", ">to", ">change", f"~{found.level}"), rows)
    _sides(found.by, found.before, found.after, console)
    note(console, "a mean of hosts; `mematlas lake regress` tests what is more than chance")


def _sides(by: str, before: Side, after: Side, console: Console) -> None:
    title(console, f"{by} of a host")
    for word, side in (("from", before), ("to", after)):
        counts = f"{_plural(side.hosts, 'host')}, {_plural(side.recordings, 'recording')}"
        words = f"{_amount(side.mean_bytes, by)}  {clean(side.selection)}: {counts}"
        write(console, Text().append(f"{word:<5}", "dim").append(words))


def render_regression(found: Regression, *, top: int, console: Console) -> None:
    """Render the lines that grew, and the test."""
    rows = [_grown_row(each, found.by) for each in found.rows[:top]]
    if rows:
        heads = [">from", ">to", ">grew", "=95 %", ">spread", ">hosts", ">q", f"~{found.level}"]
        if not drawing.is_wide(console, _WIDE):
            heads, rows = _without(heads, rows, {3, 4})
        show(console, heads, rows)
    _sides(found.by, found.before, found.after, console)
    count = _plural(len(found.rows), found.level) if found.rows else f"no {found.level}"
    shown = f"; {top} shown" if len(found.rows) > top else ""
    whole = f"{count} of {found.tested:,} tested grew{shown}"
    write(console, Text(whole, "bold"))
    for sentence in _test_sentences(found):
        write(console, drawing.hanging(Text(), Text(sentence, "dim"), 0, console))


def _grown_row(each: GrownLine, by: str) -> list[object]:
    signed = "{:+.1%}".format
    known = each.growth is not None and each.low is not None and each.high is not None
    return [
        _amount(each.before_bytes, by),
        _amount(each.after_bytes, by),
        Text(signed(each.growth) if known else "new", "bold"),
        f"{signed(each.low)} to {signed(each.high)}" if known else "",
        f"{each.host_spread:.2f}",
        f"{each.hosts:,}",
        f"{each.q_value:.0e}" if each.q_value < 0.001 else f"{each.q_value:.3f}",
        code_text(each.code),
    ]


def _test_sentences(found: Regression) -> list[str]:
    """Return what the test was, and what it could not see."""
    if found.test == "paired":
        words = f"paired t test within {_plural(found.hosts, 'host')} that are on both sides"
    else:
        words = f"Welch's t test of two groups, {_plural(found.hosts, 'host')} in all"
    rate = f"{found.false_discovery_rate:.1%}".replace(".0%", "%")
    test = (
        f"Test: {words}, of the logarithm of a host's mean; false discoveries at most {rate} of the"
        " listed lines (Benjamini-Hochberg). Spread is the standard deviation between hosts."
    )
    lines = [test]
    if found.service_growth is None:
        lines.append(
            f"Hosts have fewer than {LEAST_LINES} lines: a change of load is not taken off."
        )
    else:
        lines.append(
            f"The median line of a host changed by {found.service_growth:+.1%}; growth is beyond that."
        )
    if found.detectable is not None:
        lines.append(f"A growth of {found.detectable:.1%} would be found 4 times out of 5.")
    if found.untested or found.small:
        lines.append(
            f"Not tested: {found.untested:,} on fewer than {LEAST_HOSTS} hosts, {found.small:,} below"
            f" {format_bytes(found.least_bytes)}."
        )
    return lines


def render_maintenance(found: Maintenance, *, console: Console) -> None:
    """Render what was merged, removed and deleted."""
    sizes = f"{format_bytes(found.bytes_before)} to {format_bytes(found.bytes_after)}"
    files = f"{found.files_before:,} files to {found.files_after:,}"
    write(console, Text(f"{clean(found.lake)}: {files}, {sizes}"))
    if found.rows_expired:
        days = _plural(len(found.expired_days), "whole day")
        write(console, Text(f"{found.rows_expired:,} rows removed, {days}"))
        note(console, "`mematlas lake compact` deletes the files, an hour after their removal")
    if found.deleted:
        write(console, Text(f"{_plural(found.deleted, 'file')} deleted that no reader needs"))
