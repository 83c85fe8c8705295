"""HTML page of `mematlas report`. Text and tables are rendered here, charts by assets/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.present.html import bundle
from mematlas.present.html.markup import (
    brand,
    contents,
    flame_section,
    page,
    safe,
    scrolling_table,
    section,
    sized,
    switch,
    tag,
)
from mematlas.present.printable import clean, shorten
from mematlas.report import bad_frees as bad_free_words
from mematlas.report import endings, frame_names, quantities, run_facts, titles
from mematlas.report import leaks as leak_words
from mematlas.report.analyse.short_paths import short_path
from mematlas.report.answer import answer_spans
from mematlas.report.html import memory_sections
from mematlas.report.html.frames import located, stack
from mematlas.report.html.heap_section import heap_section
from mematlas.report.html.payload import roots_of
from mematlas.report.html.report_payload import report_payload
from mematlas.report.model.leaks import LIKELY
from mematlas.report.model.report import END, PEAK
from mematlas.report.process_list import Helpers, process_rows
from mematlas.units import format_bytes, format_duration, format_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.heap import HeapView
    from mematlas.report.model.leaks import Leak, Leaks, RssGrowth
    from mematlas.report.model.report import (
        Account,
        BadFree,
        ObjectType,
        ProcessSummary,
        Report,
    )
    from mematlas.report.model.spans import Spans

_NAMES_SHOWN = 200  # in the details of one part
_STACKS_SHOWN = 50
_TYPES_SHOWN = 15


def render_html(
    report: Report,
    ranked: list[LineStats],
    leaks: Leaks | None = None,
    spans: Spans | None = None,
    editor: str = "",
    heaps: Sequence[HeapView] = (),
) -> str:
    """Return the whole page, with leaks, time windows and heap graphs if given.

    `ranked` are the lines by the main metric. `editor` is the URL that opens a line in an editor.
    """
    directory = frame_names.directory_of(report, ranked)
    found_leaks = _leaks(leaks, directory) if leaks else ""
    is_leaking = bool(leaks and leak_words.told_bytes(leaks))
    body = "\n".join(
        filter(
            None,
            (
                _head(report, ranked, directory, leaks),
                contents(),
                _account_section(report, directory),
                _bad_frees(report, directory),
                found_leaks if is_leaking else "",
                _TIMELINE.format(help=_PARTS if spans else "") if report.series else "",
                flame_section("width is bytes; callers above, callees below", _roots(report), _KEYS)
                if report.stacks
                else "",
                heap_section(heaps, directory),
                _lines_section(ranked, directory),
                _own_peaks(report, directory),
                memory_sections.first_touch(report.page_faults, directory),
                memory_sections.slack(report, ranked, directory),
                memory_sections.heaps(report),
                memory_sections.cold(report, ranked, directory),
                _objects(report, directory),
                _imports(report),
                "" if is_leaking else found_leaks,
                _processes(report),
                _facts(report, editor),
            ),
        )
    )
    title = f"{shorten(' '.join(report.command), 80)} · mematlas"
    packed = report_payload(report, ranked, directory, spans)
    return page(title, body, packed, "application/octet-stream", bundle.REPORT)


def _head(report: Report, ranked: list[LineStats], directory: str, leaks: Leaks | None) -> str:
    spans = "".join(
        _answer_span(text, role) for text, role in answer_spans(report, ranked, directory, leaks)
    )
    details = [run_facts.sampling(report.sampling), run_facts.start_time(report.started)]
    seconds = run_facts.duration_s(report)
    details.insert(1, "duration unknown" if seconds is None else f"ran {format_duration(seconds)}")
    details[2:2] = filter(None, [run_facts.process_count(report)])
    cut = "" if report.complete else tag("p", safe(titles.CUT_SHORT), class_="warning")
    return (
        f"<header>{brand()}"
        + tag("p", safe(shorten(" ".join(report.command), 400)), class_="command")
        + tag("h1", spans)
        + tag("p", " <i>·</i> ".join(safe(fact) for fact in details), class_="soft")
        + cut
        + "</header>"
    )


def _answer_span(text: str, role: str) -> str:
    if role == "code":
        return tag("a", safe(text), class_=role, href="#section=lines")
    return tag("span", safe(text), class_=role) if role else safe(text)


def _account_section(report: Report, directory: str) -> str:
    if not run_facts.is_known(report.account):
        return section(
            "account", "Account", "", "<p>Unknown: the program's pages could not be read.</p>"
        )
    titles_of = {PEAK: "at the peak", END: "at the end"}
    title_of = titles_of.get(report.at, f"at the mark {clean(report.at)}")
    accounts = [("peak", safe(title_of), report.account)]
    if run_facts.is_known(report.last) and report.last != report.account:
        accounts.append(("last", "at the end", report.last))
    inner = ""
    if len(accounts) > 1:
        inner += switch(
            "account-time", "Time of the account", [(key, title) for key, title, _ in accounts]
        )
    for key, _, account in accounts:
        when = run_facts.account_time(account, detached=run_facts.was_detached(report))
        when += run_facts.account_sum(account)
        inner += _account(account, key, when, directory)
    return section("account", "Account", "all resident bytes by owner", inner)


def _account(account: Account, key: str, when: str, directory: str) -> str:
    rows = "".join(
        _part(account, kind, size, directory) for kind, size in run_facts.part_totals(account)
    )
    total = (
        f'<div class="part total"><span></span><span>{"PSS" if account.counted_once else "resident set"}</span>'
        f"<b>{sized(account.total_bytes)}</b><span>100 %</span></div>"
    )
    bar = tag("div", "", class_="bar", role="group", aria_label="Shares of resident memory")
    return tag(
        "div",
        f'<p class="soft">{safe(when)}</p>{bar}'
        f'<div class="columns"><div class="parts">{rows}{total}</div>{_largest(account, directory)}</div>',
        class_="account",
        data_account=key,
        data_total=account.total_bytes,
    )


def _part(account: Account, kind: str, size: int, directory: str) -> str:
    parts = sorted(
        (part for part in account.parts if part.kind == kind),
        key=lambda part: -part.resident_bytes,
    )
    error = sum(part.error_bytes**2 for part in parts) ** 0.5
    row = (
        f'<span class="swatch" data-kind="{kind}"></span><span>{titles.PART_TITLES[kind]}</span>'
        f"<b>{sized(size)}</b><span>{format_percent(size, account.total_bytes)}</span>"
    )
    phrase = tag("p", safe(titles.PART_MEANINGS[kind].capitalize() + _error(error)), class_="soft")
    table = "".join(
        f'<tr><td class="path">{_part_name(part.name, kind, directory)}</td>'
        f"<td>{sized(part.resident_bytes)}</td><td>{safe(_error(part.error_bytes))[2:]}</td></tr>"
        for part in parts[:_NAMES_SHOWN]
    )
    if len(parts) > _NAMES_SHOWN:
        rest = sum(part.resident_bytes for part in parts[_NAMES_SHOWN:])
        table += (
            f"<tr><td>{len(parts) - _NAMES_SHOWN} more</td><td>{sized(rest)}</td><td></td></tr>"
        )
    if table:
        phrase += f'<div class="scroll"><table class="names">{table}</table></div>'
    return tag(
        "details",
        f'<summary class="part">{row}</summary><div class="inside">{phrase}</div>',
        data_kind=kind,
        data_bytes=size,
    )


def _largest(account: Account, directory: str) -> str:
    """List the largest named parts other than live allocations."""
    parts = [part for part in account.parts if part.name and part.kind != "live"]
    parts.sort(key=lambda part: -part.resident_bytes)
    rows = "".join(
        f'<tr><td><span class="swatch" data-kind="{part.kind}"></span>'
        f'<span class="path">{_part_name(part.name, part.kind, directory, 60)}</span></td>'
        f"<td>{sized(part.resident_bytes)}</td></tr>"
        for part in parts[:8]
        if part.resident_bytes > 0
    )
    if not rows:
        return ""
    return f'<table class="largest"><caption>Largest other than live allocations</caption>{rows}</table>'


def _part_name(name: str, kind: str, directory: str, width: int = 120) -> str:
    if not name:
        return "<i>no name</i>"
    if kind == "cow":
        return safe(f"with {name}")
    if kind == "live":
        return safe(titles.KIND_TITLES.get(name, name))
    short = shorten(short_path(name, directory), width)
    return tag("span", safe(short), title=shorten(clean(name), 1000))


def _error(error: float) -> str:
    return f", ± {format_bytes(error)}" if error else ""


def _lines_section(ranked: list[LineStats], directory: str) -> str:
    if not ranked:
        return section("lines", "Lines", "", "<p>Unknown: no allocation was recorded.</p>")
    rows = "".join(
        f"<tr><td>{located(line.frame, directory)}</td>"
        + "".join(f"<td>{sized(line.bytes[key])}</td>" for key in ("resident", "live", "peak"))
        + "</tr>"
        for line in ranked[:20]
    )
    table = (
        '<noscript><div class="scroll"><table><thead><tr><th>line</th><th>resident</th><th>live</th>'
        f"<th>peak</th></tr></thead><tbody>{rows}</tbody></table></div></noscript>"
    )
    return section("lines", "Lines", "the code that owns the memory", _LINES + table)


def _roots(report: Report) -> str:
    """Return the switch between joined processes and one root a process; "" for one process."""
    if not roots_of(report):
        return ""
    return switch("roots", "Processes", (("joined", "processes joined"), ("apart", "by process")))


def _own_peaks(report: Report, directory: str) -> str:
    if not report.own_peaks:
        return ""
    rows = "".join(
        f'<tr><td class="made">{located(each.frame, directory)} '
        f'<span class="soft">{safe(run_facts.own_peak(report, each))}</span></td>'
        f"<td>{len(each.processes):,}</td><td>{sized(each.live_bytes)}</td></tr>"
        for each in report.own_peaks[: 2 * _TYPES_SHOWN]
    )
    inner = scrolling_table("types", ("line", "processes", "live"), rows)
    about = "live in processes at their own peaks, and not in the account"
    return section("other-times", "Other times", about, inner)


def _objects(report: Report, directory: str) -> str:
    if not report.objects:
        return ""
    shown, hidden = report.objects[:_TYPES_SHOWN], report.objects[_TYPES_SHOWN : 10 * _TYPES_SHOWN]
    inner = _types_table(shown, directory)
    if hidden:
        rest = _types_table(hidden, directory)
        inner += (
            f'<details class="more"><summary>{len(hidden)} more types</summary>{rest}</details>'
        )
    about = "live at the end, by type; own bytes only"
    return section("objects", "Python objects", about, inner)


def _imports(report: Report) -> str:
    if not report.imports:
        return ""
    rows = "".join(
        f'<tr><td class="path">import {safe(shorten(clean(each.name), 120))}</td>'
        f"<td>{sized(each.live_bytes)}</td><td>{sized(each.resident_bytes)}</td></tr>"
        for each in report.imports[: 2 * _TYPES_SHOWN]
    )
    inner = scrolling_table("types", ("module", "live", "resident"), rows)
    about = "memory of a module's import, with all that it imported in turn"
    return section("imports", "Imports", about, inner)


def _types_table(types: Sequence[ObjectType], directory: str) -> str:
    rows = "".join(
        f'<tr><td class="path">{safe(shorten(clean(each.name), 120))}</td>'
        f'<td class="made">{located(each.frame, directory)} '
        f'<span class="soft">{format_percent(each.frame_bytes, each.live_bytes)}</span></td>'
        f"<td>{each.live_count:,}</td><td>{sized(each.live_bytes)}"
        + (f"<small>± {format_bytes(each.error_bytes)}</small>" if each.error_bytes else "")
        + "</td></tr>"
        for each in types
    )
    return scrolling_table("types", ("type", "main line", "objects", "bytes"), rows)


def _leaks(leaks: Leaks, directory: str) -> str:
    shown = sum(leaks.sum_of(each).leaks for each in LIKELY)
    likely = list(leaks.leaks[: min(shown, _STACKS_SHOWN)])
    others = list(leaks.leaks[shown : shown + _STACKS_SHOWN])
    phrase = "; ".join(
        f'<b class="warning">{safe(text)}</b>' if warning else safe(text)
        for text, warning in leak_words.outline(leaks)
    )
    inner = f"<p>{phrase}.</p>"
    if unseen := leak_words.resolution(leaks):
        inner += tag("p", safe(unseen + "."), class_="soft")
    if likely:
        inner += f'<ul class="stacks">{_leak_items(likely, directory)}</ul>'
    if leaks.growth:
        inner += f'<ul class="stacks">{_growth_items(leaks.growth)}</ul>'
    if others:
        title = f"Caches, buffers, start-up, and what has too few samples ({len(leaks.leaks) - shown:,})"
        items = _leak_items(others, directory)
        inner += f'<details class="more"><summary>{title}</summary><ul class="stacks">{items}</ul></details>'
    return section("leaks", "Leaks", "live memory at the end, by owner and callers", inner)


def _growth_items(growth: Sequence[RssGrowth]) -> str:
    return "".join(
        f'<li><b class="count growing">{sized(each.bytes)}</b>'
        f"<div><p>{safe(leak_words.growth_name(each))}</p>"
        f'<p class="story">{safe(_growth_details(each))}</p></div></li>'
        for each in growth
    )


def _growth_details(growth: RssGrowth) -> str:
    details = ["growth no live allocation explains", leak_words.growth_evidence(growth)]
    return " · ".join(filter(None, [*details, _error(growth.error_bytes)[2:]]))


def _leak_items(leaks: list[Leak], directory: str) -> str:
    return "".join(
        f'<li><b class="count {leak.verdict}">{sized(leak.live_bytes)}</b>'
        f"<div>{stack(leak.frames, directory, code=True)}"
        f'<p class="story">{safe(_leak_details(leak))}</p></div></li>'
        for leak in leaks
    )


def _leak_details(leak: Leak) -> str:
    stacks = f"{leak.stacks:,} stacks" if leak.stacks > 1 else ""
    details = [str(leak.verdict), leak.evidence, leak_words.blocks(leak), stacks]
    return " · ".join(filter(None, [*details, _error(leak.error_bytes)[2:]]))


def _bad_frees(report: Report, directory: str) -> str:
    if not report.bad_frees:
        return ""
    items = "".join(
        f'<li><b class="count">{quantities.count(bad.count, "time")}</b>'
        f"<div>{stack(bad.frames, directory)}"
        f'<p class="story">{safe(_bad_free(bad, directory))}</p></div></li>'
        for bad in sorted(report.bad_frees, key=lambda bad: -bad.count)[:200]
    )
    return section(
        "badfrees", "Bad frees", bad_free_words.ABOUT, f'<ul class="stacks">{items}</ul>'
    )


def _bad_free(bad: BadFree, directory: str) -> str:
    story = bad_free_words.story(bad, directory)
    return ": ".join(filter(None, (str(bad.reason or ""), story)))


def _processes(report: Report) -> str:
    if len(report.processes) < 2:
        return ""
    rows = "".join(
        _helpers_row(line, depth) if isinstance(line, Helpers) else _process_row(line, depth)
        for line, depth in process_rows(report)
    )
    heads = ("command", "pid", "highest RSS", "started", "ended", "how")
    return section("processes", "Processes", "", scrolling_table("processes", heads, rows))


def _process_row(line: ProcessSummary, depth: int) -> str:
    return (
        f'<tr><td class="process" data-depth="{min(depth, 12)}"><b>'
        f"{safe(shorten(clean(line.command), 200))}</b>"
        + (f'<div class="warning">{safe(line.note)}</div>' if line.note else "")
        + f"</td><td>{line.pid}</td>"
        f"<td>{sized(line.peak_rss_bytes) if line.peak_rss_bytes > 0 else 'unknown'}</td>"
        f"<td>{format_duration(line.start_s)}</td>"
        f"<td>{'unknown' if line.end_s is None else format_duration(line.end_s)}</td>"
        f"<td>{safe(endings.ending(line))}</td></tr>"
    )


def _helpers_row(helpers: Helpers, depth: int) -> str:
    """Render short-lived processes as one row that can be opened."""
    rows = "".join(_process_row(each, 0) for each in helpers.processes)
    return (
        f'<tr><td class="process" data-depth="{min(depth, 12)}" colspan="6">'
        f'<details class="more"><summary>{safe(helpers.describe())}</summary>'
        f'<table class="processes"><tbody>{rows}</tbody></table></details></td></tr>'
    )


def _facts(report: Report, editor: str) -> str:
    pairs: list[tuple[str, object]] = [
        ("command", shorten(clean(" ".join(report.command)), 2000)),
        ("started", report.started),
        ("sampling", run_facts.sampling(report.sampling)),
        ("snapshots", f"every {format_duration(report.sampling.interval_s)}"),
        ("recording", "complete" if report.complete else "not complete"),
        *((key.replace("_", " "), value) for key, value in sorted(report.machine.items())),
    ]
    facts = "".join(f"<dt>{safe(key)}</dt><dd>{_fact(key, value)}</dd>" for key, value in pairs)
    notes = "".join(f"<li>{safe(shorten(clean(note), 600))}</li>" for note in report.notes if note)
    if notes:
        notes = f"<h3>Notes</h3><ul>{notes}</ul>"
    setting = (
        '<p class="setting"><label hidden>Links to lines open in '
        f"{tag('select', '', id='editor', data_editor=editor)}</label></p>"
    )
    return section("facts", "The run", "", f"{notes}<dl>{facts}</dl>{setting}")


def _fact(key: str, value: object) -> str:
    if value is None or value == "":
        return "unknown"
    if key.endswith("bytes") and isinstance(value, int):
        return sized(value)
    return safe(value)


_TIMELINE = section(
    "timeline",
    "Timeline",
    "",
    '<div class="tools"><div class="legend" id="timeline-legend"></div>{help}'
    '<label class="pick" hidden>Process <select id="timeline-process"></select></label></div>'
    '<canvas id="timeline-canvas" tabindex="0" role="img" aria-label="Memory over time"></canvas>'
    '<div id="window" aria-live="polite" hidden></div>',
)
_PARTS = '<span class="soft hint">drag or use Shift and arrows to select a time window</span>'

_KEYS = (
    '<span class="swatch" data-frame="python"></span>Python '
    '<span class="swatch" data-frame="native"></span>native '
    '<span class="swatch" data-frame="inlined"></span>inlined '
    '<span class="swatch" data-frame="pale"></span>pale: libraries; grey: runtime'
)

_LINES = (
    '<div class="tools" hidden id="lines-tools"><div class="find"><input id="lines-search" '
    'type="search" placeholder="Filter lines" aria-label="Filter lines" autocomplete="off" '
    'spellcheck="false"><output id="lines-count"></output></div></div>'
    '<div class="scroll"><table id="lines-table" hidden></table></div>'
    '<button type="button" id="lines-more" class="quiet" hidden>Show more</button>'
)
