"""HTML page of `mematlas diff`: changes of parts, lines and stacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mematlas.present.html import bundle
from mematlas.present.html.markup import (
    brand,
    contents,
    flame_section,
    page,
    safe,
    section,
    sized,
    switch,
    tag,
)
from mematlas.present.printable import shorten
from mematlas.recording.ownership import owning_frame
from mematlas.report import frame_names, run_facts, timeline, titles
from mematlas.report.analyse.table import StackTable
from mematlas.report.html.payload import pack
from mematlas.report.html.trie import TrieBuilder, TrieSource
from mematlas.report.model.report import METRICS
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.report.html.payload import FrameTable
    from mematlas.report.model.diff import Diff, StackChange

_LINES, _SHOWN = 300, 25
_POINTS = 800


def render_diff_html(diff: Diff) -> str:
    """Return the whole page."""
    directory = frame_names.shared_directory([each.frames for each in diff.lines])
    body = "\n".join(
        filter(
            None,
            (
                _head(diff, directory),
                contents(),
                _account(diff),
                _TIMELINE if any(report.series for report in diff.reports) else "",
                _stacks() if any(report.stacks for report in diff.reports) else "",
                _lines(diff, directory),
                _notes(diff),
            ),
        )
    )
    before, after = (shorten(command, 60) for command in diff.commands)
    title = f"{before} → {after} · mematlas diff"
    return page(title, body, _payload(diff, directory), "application/octet-stream", bundle.DIFF)


def _head(diff: Diff, directory: str) -> str:
    runs = "".join(
        f'<p class="command run"><b>{mark}</b><span>{safe(shorten(command, 400))}</span></p>'
        for mark, command in zip("AB", diff.commands, strict=True)
    )
    return f"<header>{brand()}{runs}{tag('h1', _answer(diff, directory))}</header>"


def _answer(diff: Diff, directory: str) -> str:
    """Return the headline: what is compared, of which moment, by how much, and where most of it is."""
    total = diff.total
    words = safe(titles.DIFF_TITLES[diff.by])
    before, after = (safe(each.words) for each in diff.moments)
    when = before if before == after else f"A {before}, B {after}"
    phrase = f"{words} {_figure(total.before)} → {_figure(total.after)}, {_signed(total)}"
    if total.error_bytes:
        phrase += f" ± {format_bytes(total.error_bytes)}"
    phrase = f"{phrase[0].upper()}{phrase[1:]} ({when})."
    if diff.unlike:
        return f"{phrase} Not the same moment: {safe(diff.unlike)}."
    largest = next((each for each in diff.lines if each.certain), None)
    if largest is None:
        return f"{phrase} No line changed beyond chance."
    frame = owning_frame(largest.frames)
    where = "unknown stacks"
    if frame is not None:
        where = f"{frame_names.function_name(frame)} {frame_names.location(frame, directory)}"
    return f"{phrase} Most at {tag('span', safe(where), class_='code')}, {_signed(largest)}."


def _figure(size: int) -> str:
    return tag("span", format_bytes(size), class_="figure")


def _signed(change: StackChange) -> str:
    role = _role(change.bytes, certain=change.certain)
    return f'<span class="{role}" title="{change.bytes:,} bytes">{_sign(change.bytes)}</span>'


def _role(size: int, *, certain: bool = True) -> str:
    """Return the CSS class of a change; changes within chance look like none."""
    if not size or not certain:
        return "chance"
    return "builder" if size > 0 else "shrunk"


def _sign(size: int) -> str:
    if size == 0:
        return "no change"
    return f"+{format_bytes(size)}" if size > 0 else f"&minus;{format_bytes(-size)}"


def _account(diff: Diff) -> str:
    accounts = [report.account for report in diff.reports]
    if not all(run_facts.is_known(account) for account in accounts):
        return ""
    before, after = (dict(run_facts.part_totals(account)) for account in accounts)
    changes = [
        (titles.PART_TITLES[kind], kind, before.get(kind, 0), after.get(kind, 0))
        for kind in titles.PART_TITLES
        if kind in before or kind in after
    ]
    changes.append(("resident set", "", accounts[0].rss_bytes, accounts[1].rss_bytes))
    widest = max(1, *(abs(new - old) for _, kind, old, new in changes if kind))
    rows = "".join(_account_row(*each, widest) for each in changes)
    table = (
        '<div class="scroll"><table><thead><tr><th></th><th class="c-before">A</th>'
        f'<th class="c-after">B</th><th>change</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )
    times = " → ".join(safe(each.words) for each in diff.moments)
    return section(
        "account", "Account", "all resident bytes", f'<p class="soft">{times}</p>{table}'
    )


def _account_row(title: str, kind: str, before: int, after: int, widest: int) -> str:
    swatch = f'<span class="swatch" data-kind="{kind}"></span> ' if kind else ""
    change = after - before
    role = _role(change)
    return (
        f"<tr><td>{swatch}{title}</td>"
        f'<td class="c-before">{sized(before)}</td><td class="c-after">{sized(after)}</td>'
        f'<td><span class="{role}" title="{change:,} bytes">{_sign(change)}</span>'
        f"{_swing(change, widest, role) if kind else ''}</td></tr>"
    )


def _swing(change: int, widest: int, role: str) -> str:
    """Draw a change left or right of zero. Widths are attributes: the policy forbids inline styles."""
    width = min(60, max(1, round(60 * abs(change) / widest))) if change else 0
    side = "builder" if change > 0 else "shrunk"
    if not width:
        return ""
    x = 60 if side == "builder" else 60 - width
    return (
        f'<svg class="swing {role}" viewBox="0 0 120 5" width="120" height="5" aria-hidden="true">'
        f'<rect x="{x}" width="{width}" height="5" rx="2"/><rect class="middle" x="59.5" width="1" height="5"/></svg>'
    )


def _lines(diff: Diff, directory: str) -> str:
    if not diff.lines:
        return section("lines", "Lines", "", "<p>No line changed.</p>")
    sure = [each for each in diff.lines if each.certain]
    chance = [each for each in diff.lines if not each.certain]
    shown, hidden = sure[:_SHOWN], sure[_SHOWN:_LINES]
    widest = abs(diff.lines[0].bytes)
    inner = _table(shown, widest, directory) if shown else "<p>No line changed beyond chance.</p>"
    inner += _folded(f"{len(hidden):,} more lines", hidden, widest, directory, len(sure) - _LINES)
    together = _sign(sum(each.bytes for each in chance))
    summary = f"{len(chance):,} lines changed within chance, together {together}"
    listed = chance[:_LINES]
    inner += _folded(summary, listed, widest, directory, len(chance) - _LINES)
    if diff.rest.bytes:
        inner += (
            f'<p class="soft">In no line (allocator slack, stacks, mappings of the kernel): '
            f"{_sign(diff.rest.bytes)}</p>"
        )
    about = f"{titles.METRIC_TITLES[diff.by]}, by the code that owns the memory"
    return section("lines", "Lines", about, inner)


def _folded(
    summary: str, changes: Sequence[StackChange], widest: int, directory: str, left: int
) -> str:
    """Return changes behind a summary to open; nothing without changes."""
    if not changes:
        return ""
    rest = f'<p class="soft">and {left:,} more, each smaller</p>' if left > 0 else ""
    return (
        f'<details class="more"><summary>{summary}</summary>'
        f"{_table(changes, widest, directory)}{rest}</details>"
    )


def _table(changes: Sequence[StackChange], widest: int, directory: str) -> str:
    rows = "".join(_line(each, widest, directory) for each in changes)
    return (
        '<div class="scroll"><table class="changes"><thead><tr><th>line</th><th class="c-before">A</th>'
        f'<th class="c-after">B</th><th>change</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _line(change: StackChange, widest: int, directory: str) -> str:
    frame = owning_frame(change.frames)
    if frame is None:
        where = "<i>unknown stack</i>"
    else:
        name = safe(shorten(frame_names.function_name(frame), 160))
        location = safe(shorten(frame_names.location(frame, directory), 120))
        where = (
            f'<button type="button" class="line" title="Find in the flame graph">{name}</button> '
        )
        where += f'<span class="path">{location}</span>'
    aside = [f"± {format_bytes(change.error_bytes)}"] if change.error_bytes else []
    aside += [] if change.certain else ["within chance"]
    role = _role(change.bytes, certain=change.certain)
    small = f"<small>{', '.join(aside)}</small>" if aside else ""
    return (
        f'<tr><td class="where">{where}</td><td class="c-before">{sized(change.before)}</td>'
        f'<td class="c-after">{sized(change.after)}</td>'
        f"<td>{_signed(change)}{small}{_swing(change.bytes, widest, role)}</td></tr>"
    )


def _notes(diff: Diff) -> str:
    notes = [*diff.notes]
    if diff.ignore_lines:
        notes.append("lines are ignored: frames match by function")
    if not notes:
        return ""
    return section(
        "notes", "Notes", "", f"<ul>{''.join(f'<li>{safe(note)}</li>' for note in notes)}</ul>"
    )


def _payload(diff: Diff, directory: str) -> str:
    def head(_: FrameTable) -> dict[str, Any]:
        return {
            "by": METRICS.index(diff.by),
            "sampled": any(report.sampling.mode != "exact" for report in diff.reports),
            "timelines": _timelines(diff),
        }

    # Rows of the first half are bytes before, those of the second half bytes after.
    sources = [
        TrieSource(StackTable.of(report.stacks), {}, side * len(METRICS))
        for side, report in enumerate(diff.reports)
    ]
    builder = TrieBuilder(sources, 2 * len(METRICS), same=diff.same)
    return pack(builder, head, directory, diff.reports[1])


def _timelines(diff: Diff) -> list[dict[str, Any]]:
    """Return the RSS of both runs, each from its start."""
    columns = [timeline.summed(report, "rss_bytes") for report in diff.reports]
    if not all(columns):
        return []
    origins = [points[0][0] for points in columns]
    moved = [
        [(time - origin, value) for time, value in points]
        for points, origin in zip(columns, origins, strict=True)
    ]
    end = max(points[-1][0] for points in moved)
    drawn = [_drawn(points, end) for points in moved]
    top = timeline.highest(moved[1])
    return [
        {
            "name": "both runs",
            "start": 0.0,
            "end": end,
            "before": drawn[0],
            "after": drawn[1],
            "peak": None if top is None else {"bytes": round(top[0]), "time": top[1]},
            "marks": [],
        }
    ]


def _drawn(points: timeline.Points, end: float) -> list[int | None]:
    own = timeline.buckets(points, _POINTS, (0.0, end))
    last = int(points[-1][0] / (end or 1.0) * (_POINTS - 1))
    return [
        None if value is None or index > last else round(value) for index, value in enumerate(own)
    ]


def _stacks() -> str:
    widths = switch("width", "Width", [("changed", "change"), ("after", "B"), ("before", "A")])
    keys = (
        '<span class="swatch" data-change="builder"></span>builder '
        '<span class="swatch" data-change="shrunk"></span>shrunk '
        '<span class="swatch" data-change="same"></span>unchanged; full colour: appeared or disappeared'
    )
    return flame_section("of both runs; callers above, callees below", widths, keys)


_TIMELINE = section(
    "timeline",
    "Timeline",
    "RSS of both runs, each from its start",
    '<div class="tools"><div class="legend" id="timeline-legend"></div></div>'
    '<canvas id="timeline-canvas" tabindex="0" role="img" aria-label="Memory over time"></canvas>',
)
