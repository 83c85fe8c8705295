"""A report as the output of a notebook cell: the answer, the account as a bar, the first lines.

Nothing is loaded and no script runs. Colours are those of the notebook, with translucent fills, so that light and dark
themes both fit.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mematlas.present.html.markup import safe
from mematlas.present.printable import clean, shorten
from mematlas.report import frame_names, run_facts, titles
from mematlas.report.answer import answer_spans
from mematlas.units import format_bytes, format_estimate, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.report.analyse.lines import LineStats
    from mematlas.report.model.leaks import Leaks
    from mematlas.report.model.report import Report

_MOST_LINES = 10
_MOST_NAME = 120
_MOST_NOTES = 5
_STYLE = """
.mematlas-cell{font-size:13px;line-height:1.5;max-width:60em;color:inherit}
.mematlas-cell p{margin:.4em 0}
.mematlas-cell code{font-size:.95em;background:rgba(127,140,138,.16);color:inherit;padding:0 .25em;border-radius:3px}
.mematlas-cell .bar{display:flex;height:14px;border-radius:3px;overflow:hidden;background:rgba(127,140,138,.16)}
.mematlas-cell .bar i{display:block;height:100%}
.mematlas-cell .key{display:inline-block;margin-right:1.2em;white-space:nowrap}
.mematlas-cell .key i{display:inline-block;width:.75em;height:.75em;border-radius:2px;margin-right:.4em}
.mematlas-cell table{border-collapse:collapse;margin:.6em 0;background:none;width:100%;table-layout:auto}
.mematlas-cell th,.mematlas-cell td{text-align:left;padding:.2em .7em .2em 0;border:0;
border-bottom:1px solid rgba(127,140,138,.28);background:none;color:inherit;vertical-align:top}
.mematlas-cell td.n,.mematlas-cell th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.mematlas-cell td.n i{display:block;height:3px;margin-left:auto;border-radius:2px;background:#1f9c91}
.mematlas-cell .where{overflow-wrap:anywhere}
.mematlas-cell .soft{opacity:.72}
.mematlas-cell .warn{font-weight:600}
""".strip()
_COLOURS = {
    "live": "#1f9c91",
    "cow": "#3f9d6b",
    "slack": "#7cc4bc",
    "before": "#7d9cc6",
    "stack": "#8b9a98",
    "file": "#a9b5b3",
    "copy": "#93a3b5",
    "shared": "#8d9ca1",
    "anon": "#c2a23a",
    "tracer": "#c7cfcd",
    "unexplained": "#d98a4e",
}


def render_cell(
    report: Report, ranked: list[LineStats], leaks: Leaks | None = None, top: int = _MOST_LINES
) -> str:
    """Return the report as HTML to be put in a page; `ranked` are its lines by the main metric."""
    directory = frame_names.directory_of(report, ranked)
    pieces = [f"<style>{_STYLE}</style>", *_body(report, ranked, directory, leaks, top)]
    return f'<div class="mematlas-cell">{"".join(pieces)}</div>'


def _body(
    report: Report, ranked: list[LineStats], directory: str, leaks: Leaks | None, top: int
) -> Iterator[str]:
    marks = {"code": "code", "figure": "b", "warning": 'span class="warn"'}
    spans = [
        f"<{marks[role]}>{safe(clean(text))}</{marks[role].split()[0]}>"
        if role in marks
        else safe(clean(text))
        for text, role in answer_spans(report, ranked, directory, leaks)
    ]
    yield f"<p>{''.join(spans)}</p>"
    if not report.complete:
        yield f'<p class="warn">{safe(titles.CUT_SHORT)}</p>'
    yield from _account(report)
    yield from _lines(report, ranked, directory, top)
    yield f'<p class="soft">{safe(run_facts.sampling(report.sampling))}</p>'
    for note in [note for note in report.notes if note][:_MOST_NOTES]:
        yield f'<p class="soft">{safe(shorten(clean(note), 400))}</p>'


def _account(report: Report) -> Iterator[str]:
    account = report.account
    if not run_facts.is_known(account):
        return
    totals = [(kind, size) for kind, size in run_facts.part_totals(account) if size > 0]
    whole = sum(size for _, size in totals)
    yield '<div class="bar" role="img" aria-label="parts of the resident memory">'
    for kind, size in totals:
        width = 100 * size / whole
        yield f'<i style="width:{width:.2f}%;background:{_COLOURS.get(kind, "#999")}"></i>'
    yield "</div><p>"
    for kind, size in totals:
        share = format_percent(size, account.total_bytes, digits=0)
        yield (
            f'<span class="key"><i style="background:{_COLOURS.get(kind, "#999")}"></i>'
            f"{safe(titles.PART_TITLES[kind])} {format_bytes(size)} "
            f'<span class="soft">{share}</span></span>'
        )
    yield "</p>"


def _lines(report: Report, ranked: list[LineStats], directory: str, top: int) -> Iterator[str]:
    by = report.main_metric
    if why := report.why_unknown(by):
        yield f'<p class="soft">{safe(titles.METRIC_TITLES[by])}: unknown, since {safe(why)}</p>'
        return
    shown = [line for line in ranked if line.bytes[by] > 0]
    if not shown:
        return
    most = shown[0].bytes[by]
    yield f'<table><thead><tr><th class="n">{safe(titles.METRIC_TITLES[by].lower())}</th>'
    yield '<th class="n">blocks</th><th>line</th></tr></thead><tbody>'
    for line in shown[:top]:
        error = round(math.sqrt(line.variance_of(by)))
        size = format_estimate(line.bytes[by], error)
        blocks = f"{line.live_count:,}" if line.live_count > 0 else ""
        yield f'<tr><td class="n">{size}<i style="width:{100 * line.bytes[by] / most:.1f}%"></i></td>'
        yield f'<td class="n">{blocks}</td><td class="where">{_place(line, directory)}</td></tr>'
    yield "</tbody></table>"
    if len(shown) > top:
        yield f'<p class="soft">{len(shown) - top:,} more lines</p>'


def _place(line: LineStats, directory: str) -> str:
    if line.frame is None:
        return "unknown stack"
    function = shorten(frame_names.function_name(line.frame), _MOST_NAME)
    place = shorten(frame_names.location(line.frame, directory), _MOST_NAME)
    return f"<code>{safe(function)}</code> {safe(place)}"
