"""Sections of the report page on memory beside allocations: first touch, slack, heaps, cold memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mematlas.present.html.markup import safe, scrolling_table, section, sized, tag
from mematlas.present.printable import clean, shorten
from mematlas.report import quantities
from mematlas.report.analyse.fault_lines import fault_lines
from mematlas.report.analyse.short_paths import short_path
from mematlas.report.html.frames import located
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mematlas.recording.model import Frame
    from mematlas.report.analyse.fault_lines import FaultLine
    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.report import PageFaults, Report

_Item = TypeVar("_Item")
_LINES_SHOWN = 15
_MOST_LINES = 150
_OWNERS_SHOWN = 4
_LITTLE = 1 << 20  # bytes of free memory below which no section is shown


def first_touch(found: PageFaults | None, directory: str) -> str:
    """Render which lines made memory resident, and whose; empty if page faults were not sampled."""
    if found is None:
        return ""
    about = "the lines that used memory first, and whose memory"
    if not found.sites:
        why = "; ".join(found.refused)
        phrase = tag("p", safe(f"Unknown: {why}."))
        return section("touch", "First touch", about, phrase) if why else ""
    ranked = fault_lines(found.sites)[:_MOST_LINES]
    inner = tag("p", safe(quantities.page_faults(found) + "."), class_="soft")
    inner += _folding(ranked, _LINES_SHOWN, "line", lambda few: _touch_table(few, directory))
    for why in found.refused:
        inner += tag("p", safe(f"Not in all processes: {why}."), class_="warning")
    return section("touch", "First touch", about, inner)


def _touch_table(lines: Sequence[FaultLine], directory: str) -> str:
    rows = (
        (
            located(line.frame, directory),
            _touched_memory(line, directory),
            f"{line.faults:,}",
            f"{line.major_faults:,}",
            sized(line.bytes),
        )
        for line in lines
    )
    return _table(("line", "in whose memory", "faults", "major", "made resident"), rows)


def _touched_memory(line: FaultLine, directory: str) -> str:
    owners = line.ranked_owners()
    items = [
        _owner(owner, line.frame, directory)
        + (f' <span class="soft">{format_bytes(size)}</span>' if len(owners) > 1 else "")
        for owner, size, _ in owners[:_OWNERS_SHOWN]
    ]
    if len(owners) > _OWNERS_SHOWN:
        items.append(quantities.count(len(owners) - _OWNERS_SHOWN, "more owner"))
    return "<br>".join(items)


def _owner(owner: Frame | str, faulting: Frame | None, directory: str) -> str:
    if isinstance(owner, str):
        return safe(shorten(short_path(clean(owner), directory), 80))
    return "its own" if owner == faulting else located(owner, directory)


def slack(report: Report, ranked: Sequence[LineStats], directory: str) -> str:
    """Render where free memory is held and by which lines; empty if little or unknown."""
    parts = report.slack or ()
    free = sum(each.held_free_bytes for each in parts)
    fragmented = sum(each.fragmented_bytes for each in parts)
    if free + fragmented < max(_LITTLE, report.account.rss_bytes // 50):
        return ""
    inner = (
        f"<p>{sized(free)} on pages without a live byte, {sized(fragmented)} on pages that live "
        "blocks keep resident.</p>"
    )
    inner += _table(
        ("allocator", "on free pages", "on pages with live blocks"),
        (
            (safe(each.name), sized(each.held_free_bytes), sized(each.fragmented_bytes))
            for each in parts[:_LINES_SHOWN]
        ),
    )
    keeping = _largest(ranked, "fragmented")
    if keeping:
        inner += "<h3>Lines whose live blocks keep free memory resident</h3>" + _folding(
            keeping,
            5,
            "line",
            lambda few: _table(
                ("line", "live blocks", "free bytes kept"),
                (
                    (
                        located(line.frame, directory),
                        f"{line.live_count:,}",
                        sized(line.bytes["fragmented"]),
                    )
                    for line in few
                ),
            ),
        )
    return section("slack", "Slack", "free memory held by allocators, at the account's time", inner)


def heaps(report: Report) -> str:
    """Render glibc's heaps at the end, and what malloc_trim would return; empty if little was free."""
    found = report.heaps or ()
    if sum(each.free for each in found) < _LITTLE:
        return ""
    trimmable = sum(each.trimmable for each in found)
    inner = f"<p><code>malloc_trim(0)</code> would have returned {sized(trimmable)}.</p>"
    named = sorted(found, key=lambda each: -each.free)
    inner += _folding(
        named,
        8,
        "heap",
        lambda few: _table(
            ("heap", "in use", "free", "of it on top", "malloc_trim returns"),
            (
                (
                    "main heap" if each.main else f"arena {each.start:#x}",
                    *map(sized, (each.in_use, each.free, each.top, each.trimmable)),
                )
                for each in few
            ),
        ),
    )
    return section("heaps", "glibc heap", "at the end, from its chunk headers", inner)


def cold(report: Report, ranked: Sequence[LineStats], directory: str) -> str:
    """Render memory that was not used for long, and its owners; empty without a scan."""
    if report.idle is None:
        return ""
    inner = tag("p", safe(quantities.idle(report.idle) + "."))
    lines = _largest(ranked, "idle")
    if lines:
        inner += _folding(
            lines,
            _LINES_SHOWN,
            "line",
            lambda few: _table(
                ("line", "live", "resident", "idle"),
                (
                    (
                        located(line.frame, directory),
                        *(sized(line.bytes[name]) for name in ("live", "resident", "idle")),
                    )
                    for line in few
                ),
            ),
        )
    return section("cold", "Cold memory", "resident, but not used for long", inner)


def _largest(ranked: Sequence[LineStats], metric: str) -> list[LineStats]:
    some = [line for line in ranked if line.bytes[metric] > 0]
    return sorted(some, key=lambda line: -line.bytes[metric])[:_MOST_LINES]


def _folding(
    items: Sequence[_Item], shown: int, noun: str, table: Callable[[Sequence[_Item]], str]
) -> str:
    """Render the first items, and the others in a fold that says how many there are."""
    inner = table(items[:shown])
    if len(items) > shown:
        more = quantities.count(len(items) - shown, f"more {noun}")
        inner += f'<details class="more"><summary>{more}</summary>{table(items[shown:])}</details>'
    return inner


def _table(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; cells are HTML."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return scrolling_table("memory", heads, body)
