"""HTML page of `mematlas bench`: explanations, charts with confidence intervals, and every figure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from mematlas.bench import tables as layout
from mematlas.bench.model import NOISY, Better
from mematlas.present.html import bundle
from mematlas.present.html.markup import brand, json_payload, page, safe, scrolling_table
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mematlas.bench.explain.terms import Explanation
    from mematlas.bench.model import Figure, Fingerprint, Label, Result, Section
    from mematlas.bench.tables import TableBlock


def render_bench(result: Result, explanations: Mapping[str, Iterable[Explanation]]) -> str:
    """Render the page, which needs no network."""
    charts: list[dict[str, Any]] = []
    sections = "\n".join(_section(section, result.machine, charts) for section in result.sections)
    body = "\n".join((_head(result), _advice(result, explanations), sections, _machine(result)))
    return page(
        f"Memory of {result.machine.cpu} · mematlas bench",
        body,
        json_payload(json.dumps(charts, separators=(",", ":"))),
        "application/json",
        bundle.BENCH,
    )


def _head(result: Result) -> str:
    machine = result.machine
    figures = [each for section in result.sections for each in section.figures]
    noisy = sum(each.noisy for each in figures)
    facts = [
        f"{machine.usable_cpus} CPUs",
        format_bytes(machine.memory),
        f"kernel {machine.kernel}",
        "virtual machine" if machine.hypervisor else "no hypervisor detected",
        result.started,
    ]
    warnings = []
    if noisy:
        warnings.append(
            f"{noisy} of {len(figures)} figures are noisy, marked ~: the medians of their runs differ by "
            f"more than {NOISY:.0%}. Measure on a quieter machine, or with more time, before you rely on them."
        )
    if not result.complete:
        warnings.append(
            "The run was interrupted: figures that were not measured by then are missing."
        )
    return (
        f"<header>{brand('mematlas bench')}"
        f'<h1>What memory costs on <span class="figure">{safe(machine.cpu)}</span></h1>'
        f'<p class="soft">{" <i>·</i> ".join(map(safe, facts))}</p>'
        + "".join(f'<p class="warning">{safe(text)}</p>' for text in warnings)
        + "</header>"
    )


def _advice(result: Result, explanations: Mapping[str, Iterable[Explanation]]) -> str:
    told = [each for section in result.sections for each in explanations[section.name]]
    items = "".join(map(_item, (each for each in told if each.decided)))
    open_questions = "".join(map(_item, (each for each in told if not each.decided)))
    parts = []
    if items:
        parts.append(
            '<h2 id="advice-title">What to do'
            '<span class="about">a ring instead of a dot marks noisy figures</span></h2>'
            f'<ul class="advice">{items}</ul>'
        )
    if open_questions:
        title = "" if items else ' id="advice-title"'
        parts.append(
            f"<h2{title}>Cannot tell"
            '<span class="about">measure on a quieter machine, or with a longer --duration</span></h2>'
            f'<ul class="advice">{open_questions}</ul>'
        )
    if not parts:
        return ""
    return f'<section id="advice" aria-labelledby="advice-title">{"".join(parts)}</section>'


def _item(explanation: Explanation) -> str:
    advice = explanation.advice
    do = f'<span class="do">{_code(advice[0].upper() + advice[1:])}.</span>' if advice else ""
    kind = "" if explanation.sure else " class=unsure"
    return f"<li{kind}>{_code(explanation.text)}.{do}</li>"


def _code(text: str) -> str:
    """Escape text and mark words in backquotes as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", safe(text))


def _section(section: Section, machine: Fingerprint, charts: list[dict[str, Any]]) -> str:
    blocks = "".join(_block(section, block, machine, charts) for block in layout.blocks(section))
    asides = [
        *(why if why.startswith(f"{name}:") else f"{name}: {why}" for name, why in section.unavailable.items()),
        *section.notes,
        *(f"{kind}: {proof}" for kind, proof in section.proofs.items()),
    ]  # fmt: skip
    listed = "".join(f"<li>{safe(text)}</li>" for text in asides)
    title = layout.TITLES.get(section.name, section.name)
    return (
        f'<section id="{safe(section.name)}" aria-labelledby="{safe(section.name)}-title">'
        f'<h2 id="{safe(section.name)}-title">{safe(title)}'
        f'<span class="about">{safe(section.name)}, measured for {format_duration(section.seconds)}'
        f'</span></h2><div class="blocks">{blocks}</div><ul class="asides">{listed}</ul></section>'
    )


def _block(
    section: Section, block: TableBlock, machine: Fingerprint, charts: list[dict[str, Any]]
) -> str:
    table = layout.grid(section, block)
    names = layout.columns(table)
    title = f'{safe(block.title)}<span class="about">{safe(block.unit)}</span>'
    values = _values(block, table, names)
    if not (block.chart and len(table) > 1):
        return f'<div class="block"><h3>{title}</h3>{values}</div>'
    chart = _chart(block, table, names, layout.marks(block, machine))
    charts.append(chart)
    keys = "".join(
        f'<span data-line="{number % 7}">{safe(line["name"])}</span>'
        for number, line in enumerate(chart["lines"])
    )
    keys = f'<div class="keys-of">{keys}</div>' if len(names) > 1 else ""
    label = f"{block.title} in {block.unit}; the table below has the same figures"
    return (
        f'<div class="block"><h3>{title}</h3>{keys}'
        f'<canvas class="chart" data-chart="{len(charts) - 1}" tabindex="0" role="img" '
        f'aria-label="{safe(label)}"></canvas>'
        f'<details class="values"><summary>All figures</summary>{values}</details></div>'
    )


def _values(block: TableBlock, table: dict[Label, dict[Label, Figure]], names: list[Label]) -> str:
    heads = [
        layout.ROW_TITLES.get(block.rows, block.rows),
        *(layout.label_text(block.columns, name) if name != "" else "median" for name in names),
    ]
    rows = "".join(
        f"<tr><td>{safe(layout.label_text(block.rows, row))}</td>"
        + "".join(_cell(cells.get(name), list(cells.values())) for name in names)
        + "</tr>"
        for row, cells in table.items()
    )
    return scrolling_table("figures", map(safe, heads), rows)


def _cell(figure: Figure | None, row: list[Figure]) -> str:
    """Render a value with a bar that compares it with the others of its row."""
    if figure is None:
        return '<td class="none">-</td>'
    bar, kind = "", ["noisy"] if figure.noisy else []
    if len(row) > 1:
        medians = [each.median for each in row]
        best = min(medians) if figure.better is Better.LOWER else max(medians)
        if figure.median == best:
            kind.append("best")
        width = 100 * figure.median / (max(medians) or 1)
        bar = (
            '<svg class="cell-bar" viewBox="0 0 100 3" preserveAspectRatio="none" aria-hidden="true">'
            f'<rect class="rest" width="100" height="3"/><rect width="{width:.1f}" height="3"/></svg>'
        )
    names = f' class="{" ".join(kind)}"' if kind else ""
    return f'<td{names} title="{safe(details(figure))}"><b>{layout.number(figure.median)}</b>{bar}</td>'


def details(figure: Figure) -> str:
    """Format all statistics of a figure in one line."""
    low, high = figure.interval
    spread = "too few samples" if figure.spread is None else f"{100 * figure.spread:.1f} %"
    disturbed = f", {figure.disturbed} more disturbed" if figure.disturbed else ""
    return (
        f"median {layout.number(figure.median)} {figure.unit}, 95 % between {layout.number(low)} and "
        f"{layout.number(high)}, best {layout.number(figure.best)}; spread of runs {spread}; "
        f"{len(figure.samples)} samples{disturbed}"
    )


def _chart(
    block: TableBlock,
    table: dict[Label, dict[Label, Figure]],
    names: list[Label],
    marks: list[tuple[float, str]],
) -> dict[str, Any]:
    xs = sorted(float(row) for row in table)
    return {
        "unit": block.unit,
        "logX": block.log_x,
        "logY": block.log_y,
        "x": [{"value": x, "text": layout.label_text(block.rows, round(x))} for x in xs],
        "marks": [{"value": x, "text": text} for x, text in marks if xs[0] <= x <= xs[-1]],
        "lines": [
            {
                "name": layout.label_text(block.columns, name) if name != "" else block.title,
                "points": [
                    _point(float(row), cells[name])
                    for row, cells in sorted(table.items(), key=lambda each: float(each[0]))
                    if name in cells
                ],
            }
            for name in names
        ],
    }


def _point(x: float, figure: Figure) -> dict[str, Any]:
    low, high = figure.interval
    mark = " ~" if figure.noisy else ""
    return {
        "x": x,
        "median": figure.median,
        "low": low,
        "high": high,
        "noisy": figure.noisy,
        "text": f"{layout.number(figure.median)} {figure.unit}{mark}  "
        f"({layout.number(low)} to {layout.number(high)})",
    }


def _machine(result: Result) -> str:
    machine = result.machine
    caches = ", ".join(
        f"L{cache.level} {cache.kind} {format_bytes(cache.size)}"
        + (f" for {cache.shared_by} CPUs" if cache.shared_by > 1 else "")
        for cache in machine.caches
    )
    pools = ", ".join(f"{size}: {count}" for size, count in machine.hugetlb.items())
    facts = {
        "CPU": f"{machine.cpu} ({machine.architecture}), {machine.usable_cpus} of {machine.cpus} CPUs",
        "caches": caches or "unknown: the kernel does not tell",
        "memory": f"{format_bytes(machine.memory)} on {machine.nodes} node{'s' if machine.nodes > 1 else ''}, base page "
        f"{format_bytes(machine.page_size)}",
        "kernel": machine.kernel,
        "huge pages": f"transparent: {machine.thp}, defrag {machine.thp_defrag}; hugetlb pool: {pools}",
        "hypervisor": machine.hypervisor or "none detected",
        "CPU frequency": machine.governor or "unknown: no cpufreq governor",
        "load before": f"{machine.load:.2f}",
        "mematlas": result.version,
        "settings": ", ".join(
            f"{name} {_setting(value)}"
            for name, value in result.settings.items()
            if value not in (None, False)
        ),
    }
    listed = "".join(f"<dt>{safe(key)}</dt><dd>{safe(value)}</dd>" for key, value in facts.items())
    return (
        '<section id="facts" aria-labelledby="facts-title"><h2 id="facts-title">The machine</h2>'
        f"<dl>{listed}</dl></section>"
    )


def _setting(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
