"""Terminal view of `mematlas bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.bench import kernels
from mematlas.bench import tables as layout
from mematlas.bench.compare import RUNS_NEEDED, ChangeVerdict
from mematlas.bench.model import NOISY
from mematlas.present import drawing, plot
from mematlas.present.tables import line, note, show, title, write
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from mematlas.bench.compare import Comparison, FigureChange
    from mematlas.bench.explain.terms import Explanation
    from mematlas.bench.model import Figure, Fingerprint, Label, Result, Section
    from mematlas.bench.tables import TableBlock

_NOISE = "~"


def render_result(
    result: Result, explanations: Mapping[str, Sequence[Explanation]], *, console: Console
) -> None:
    """Print the machine, then the explanations and figures of each benchmark."""
    _machine(result.machine, console)
    for section in result.sections:
        render_section(section, explanations[section.name], result.machine, console=console)
    if any(each.noisy for section in result.sections for each in section.figures):
        write(console, Text(""))
        note(
            console,
            f"figures with {_NOISE} are noisy: the medians of their runs differ by more than "
            f"{NOISY:.0%}. Close other programs, or measure for longer (--duration).",
        )
    if any(not each.decided for told in explanations.values() for each in told):
        note(
            console,
            "lines with ? have no answer: the samples prove neither a difference nor none. Measure for longer "
            "(--duration), or while fewer programs run",
        )
    if not result.complete:
        note(console, "interrupted: figures that were not measured by then are missing")


def _machine(machine: Fingerprint, console: Console) -> None:
    caches = ", ".join(
        f"L{cache.level}{cache.kind[0] if cache.kind != 'unified' else ''} {format_bytes(cache.size)}"
        for cache in machine.caches
        if cache.kind != "instruction"
    )
    virtual = f", virtual ({machine.hypervisor})" if machine.hypervisor else ""
    line(
        console, "machine", f"{machine.cpu}, {machine.usable_cpus} of {machine.cpus} CPUs{virtual}"
    )
    line(console, "caches", caches or "unknown: not shown by the kernel")
    line(
        console,
        "memory",
        f"{format_bytes(machine.memory)} on {machine.nodes} node{'s' if machine.nodes > 1 else ''}, "
        f"kernel {machine.kernel}, THP {machine.thp}",
    )


def render_section(
    section: Section,
    explanations: Iterable[Explanation],
    machine: Fingerprint,
    *,
    console: Console,
) -> None:
    """Print one benchmark."""
    title(
        console,
        layout.TITLES.get(section.name, section.name),
        f"{section.name}, {format_duration(section.seconds)}",
    )
    for explanation in explanations:
        mark = Text("> ", "green") if explanation.sure else Text(f"{_NOISE} ", "yellow")
        if not explanation.decided:
            mark = Text("? ", "yellow")
        advice = f" To do: {explanation.advice}." if explanation.advice else ""
        body = Text(f"{explanation.text}.").append(advice, "dim")
        write(console, drawing.hanging(mark, body, 2, console))
    for block in layout.blocks(section):
        _block(section, block, machine, console)
    for name, why in section.unavailable.items():
        # The reason for a page size begins with its name.
        note(console, why if why.startswith(f"{name}:") else f"{name}: {why}")
    for text in section.notes:
        note(console, text)
    for kind, proof in section.proofs.items():
        line(console, kind, proof, 11)


def _block(section: Section, block: TableBlock, machine: Fingerprint, console: Console) -> None:
    table = layout.grid(section, block)
    names = layout.columns(table)
    head = Text(f"\n{block.title}", "underline")
    write(console, head.append(f"  {block.unit}", "dim") if block.unit else head)
    headings = [f"={layout.ROW_TITLES.get(block.rows, block.rows)}"]
    headings += [f">{_column(block, name) or 'median'}" for name in names]
    rows = [
        [layout.label_text(block.rows, row), *(_cell(cells.get(name)) for name in names)]
        for row, cells in table.items()
    ]
    show(console, headings, rows)
    if block.chart and len(table) > 1:
        write(console, _chart(table, names, block, machine, console))


def _cell(figure: Figure | None) -> Text:
    if figure is None:
        return Text("-", "dim")
    mark = _NOISE if figure.noisy else " "
    return Text(f"{layout.number(figure.median)}{mark}", "yellow" if figure.noisy else "")


def _column(block: TableBlock, name: Label) -> str:
    """Return the heading of a column: page sizes as in --pages."""
    return str(name) if block.columns == "pages" else layout.label_text(block.columns, name)


def _chart(
    table: dict[Label, dict[Label, Figure]],
    names: list[Label],
    block: TableBlock,
    machine: Fingerprint,
    console: Console,
) -> Text:
    lines = {
        _column(block, name) or block.title: [
            (float(row), cells[name].median) for row, cells in table.items() if name in cells
        ]
        for name in names
    }
    x = plot.Axis(
        lambda value: layout.label_text(block.rows, round(value)),
        block.log_x,
        tuple(layout.marks(block, machine)),
    )
    y = plot.Axis(layout.number, block.log_y)
    return plot.draw(lines, x, y, console)


def render_details(result: Result, *, console: Console) -> None:
    """Print every figure with its confidence interval and spread."""
    title(console, "All figures", "median, its 95 % confidence interval, best, spread of runs")
    rows = []
    for section in result.sections:
        for each in section.figures:
            low, high = (layout.number(value) for value in each.interval)
            spread = "?" if each.spread is None else f"{100 * each.spread:.1f} %"
            rows.append(
                [
                    f"{section.name}: {_labels(each.labels)}",
                    f"{layout.number(each.median)}{_NOISE if each.noisy else ' '}",
                    f"{low} to {high}",
                    layout.number(each.best),
                    spread,
                    f"{len(each.samples)}" + (f"+{each.disturbed}" if each.disturbed else ""),
                    each.unit,
                ]
            )
    show(console, ("figure", ">median", ">95 %", ">best", ">spread", ">passes", "=unit"), rows)


def render_kernels(result: Result, *, console: Console) -> None:
    """Print which kernel each kind of work uses, for each class of arrays."""
    if not result.kernels:
        return
    title(console, "Kernels", "the fastest on this machine, by trials on the work itself")
    for each in result.kernels:
        when = "this run" if each.measured_here else "an earlier run"
        cost = f"{layout.number(each.costs[each.kernel])} ns an element, measured in {when}"
        write(console, Text(f"\n{kernels.work_name(each)}", "underline"))
        line(console, "arrays", kernels.arrays(each), 11)
        line(console, "chosen", f"{each.kernel}: {cost}", 11)
        line(console, "next best", kernels.next_best(each), 11)
    write(console, Text(""))
    kept = result.kernels_file
    line(console, "kept in", kept or "no file: the cache folder cannot be written", 11)


_STYLES = {
    ChangeVerdict.FASTER: "green",
    ChangeVerdict.SLOWER: "red",
    ChangeVerdict.DIFFERS: "yellow",
    ChangeVerdict.NOISY: "yellow",
    ChangeVerdict.UNCHANGED: "dim",
    ChangeVerdict.ALIKE: "dim",
}


_CHANGED = (ChangeVerdict.FASTER, ChangeVerdict.SLOWER, ChangeVerdict.DIFFERS)


def _runs(found: Comparison) -> str:
    before, after = found.runs
    return "one run each" if (before, after) == (1, 1) else f"{before} runs before, {after} after"


def render_comparison(found: Comparison, *, everything: bool, console: Console) -> None:
    """Print the changes from one result to another, the largest first."""
    counts = ", ".join(
        f"{found.count(verdict)} {verdict.value}"
        for verdict in ChangeVerdict
        if found.count(verdict)
    )
    title(console, counts or "nothing to compare", f"{found.before} -> {found.after}")
    if not found.proves:
        note(
            console,
            f"{_runs(found)}: the samples of a run do not show how runs of one machine differ, so no change is "
            f"proven. Compare two folders of {RUNS_NEEDED} results each: mematlas bench compare BEFORE/ AFTER/",
        )
    for name, (before, after) in found.machine.items():
        note(console, f"the machines differ in {name.replace('_', ' ')}: {before}, then {after}")
    if found.only_before or found.only_after:
        note(
            console,
            f"{found.only_before} figures are only in the first, {found.only_after} only in the second",
        )
    shown = [each for each in found.changes if everything or each.verdict in _CHANGED]
    shown.sort(key=lambda each: abs(each.ratio - 1), reverse=True)
    rows = [
        [
            Text(each.verdict.value, _STYLES[each.verdict]),
            _percent(each.ratio),
            f"{_percent(each.low)} to {_percent(each.high)}",
            f"{100 * each.spread:.1f} %",
            _changed(each),
        ]
        for each in shown
    ]
    if rows:
        bounds = "in %, of the runs" if found.proves else "in %, of the samples"
        show(console, ("=", ">change", f">{bounds}", ">spread", "figure"), rows)
    if not everything and len(shown) < len(found.changes):
        write(
            console, Text("No difference is proven of the other figures; --all lists them.", "dim")
        )


def _changed(each: FigureChange) -> str:
    medians = f"{layout.number(each.before)} -> {layout.number(each.after)} {each.unit}"
    return f"{each.benchmark}: {_labels(each.labels)}, {medians}"


def _percent(ratio: float) -> str:
    change = 100 * (ratio - 1)
    return f"{change:+.0f}" if abs(change) >= 9.95 else f"{change:+.1f}"


def _labels(labels: dict[str, Label]) -> str:
    return ", ".join(
        str(value) if name == "what" else layout.label_text(name, value)
        for name, value in labels.items()
    )
