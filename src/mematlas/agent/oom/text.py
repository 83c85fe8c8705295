"""An OOM kill for the terminal: what ran out, who used it, which line of code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.agent.oom.model import KERNEL_LOG
from mematlas.present.printable import clean
from mematlas.present.tables import amount, note, show, title, write
from mematlas.units import format_bytes, format_estimate, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from mematlas.agent.oom.model import OomLine, OomPart, OomProcess, OomReport

_ROWS = 12


def render_report(report: OomReport, *, console: Console) -> None:
    """Render one kill."""
    for sentence in _answer(report):
        write(console, Text(clean(sentence), "bold"))
    if report.processes:
        _processes(report, console)
    if report.parts:
        where = f"Parts of {report.group}" if report.group else "Parts"
        _parts(where, report.parts, console, _ago(report.parts_age_s))
    if report.usages:
        _usages(report, console)
    if report.lines:
        _lines(report, console)
    if report.process_parts:
        _parts(
            "Memory of the killed process", report.process_parts, console, "at its last snapshot"
        )
    for text in _notes(report):
        note(console, clean(text))


def render_list(reports: Iterable[OomReport], *, console: Console) -> None:
    """Render a line for each kill."""
    rows = []
    for each in reports:
        names = clean(each.victims) or "unknown"
        held = sum(one.resident or 0 for one in each.killed) if each.killed else None
        rows.append([each.id, _moment(each.time), names, amount(held), clean(each.cause)])
    show(console, ("=report", "=time", "=killed", ">held", "~cause"), rows)


def _answer(report: OomReport) -> list[str]:
    killed, names = report.killed, report.victims or "a process"
    sentences = [f"{_moment(report.time)}: {report.cause}; the OOM killer ended {names}"]
    others = [each for each in report.processes if not each.killed and each.resident]
    if killed and killed[0].resident is not None:
        text = f"{killed[0].name} held {format_bytes(killed[0].resident)}"
        text += "" if report.source == KERNEL_LOG else " when it was last read"
        grew = killed[0].growth
        if grew and grew > 0:
            text += f", {format_bytes(grew)} more than {killed[0].growth_s or 0:.0f} s before"
        if others and (others[0].resident or 0) > killed[0].resident:
            text += (
                f"; {others[0].name} ({others[0].pid}) held {format_bytes(others[0].resident or 0)}"
            )
        sentences.append(text)
    if report.lines:
        first = report.lines[0]
        size = format_estimate(first.live_bytes, first.error)
        sentences.append(f"{_share_words(report)} {_where(first)}: {size} live")
    return sentences


def _share_words(report: OomReport) -> str:
    """Return what the first line is of the process that it belongs to: most of it, where that is sure."""
    first, killed = report.lines[0], report.killed
    of = next((each for each in killed if each.pid == first.pid), None)
    sure = first.live_bytes - 2 * first.error
    if of is not None and of is killed[0] and of.resident and 2 * sure > of.resident:
        return "most of it was allocated by"
    name = f"{of.name} ({of.pid})" if of else f"PID {first.pid}"
    return f"the line with most memory of {name} is"


def _processes(report: OomReport, console: Console) -> None:
    told = "as the kernel counted them" if report.source == KERNEL_LOG else "as last read"
    title(console, "Processes that counted", told)
    rows = [_process_row(each) for each in report.processes[:_ROWS]]
    heads = ("=", ">PID", ">resident", ">anonymous", ">file", ">shared", ">grew", "~command")
    show(console, heads, rows)
    more = len(report.processes) - _ROWS + report.left_out
    if more > 0:
        write(console, Text(f"  {more} more", "dim"))


def _process_row(each: OomProcess) -> list[object]:
    return [
        Text("killed", "red") if each.killed else "",
        each.pid,
        *(amount(size) for size in (each.resident, each.anonymous, each.file, each.shared)),
        "?" if each.growth is None else format_bytes(each.growth),
        clean(each.command or each.name),
    ]


def _parts(name: str, parts: Sequence[OomPart], console: Console, aside: str) -> None:
    title(console, name, aside)
    whole = sum(each.bytes for each in parts)
    rows = [
        [f"  {clean(each.title)}", format_bytes(each.bytes), format_percent(each.bytes, whole)]
        for each in sorted(parts, key=lambda part: -part.bytes)
    ]
    show(console, ("=", ">", ">"), rows)


def _usages(report: OomReport, console: Console) -> None:
    """Render the usage before the kill, at some moments."""
    title(console, "Usage before", "without what reclaim could free")
    last = report.usages[-1].age_s
    rows, next_s = [], float("inf")
    for each in report.usages:
        if each.age_s <= next_s or each.age_s == last:
            rows.append([f"  {each.age_s:g} s before", format_bytes(each.bytes)])
            next_s = each.age_s / 2
    show(console, ("=", ">"), rows)


def _lines(report: OomReport, console: Console) -> None:
    title(console, f"Lines of PID {report.lines[0].pid}", report.lines_note)
    rows = [
        [format_estimate(each.live_bytes, each.error), clean(_where(each))]
        for each in report.lines[:_ROWS]
    ]
    show(console, (">live", "~line"), rows)


def _notes(report: OomReport) -> list[str]:
    notes = list(report.notes)
    if not report.lines and report.lines_note:
        notes.append(report.lines_note)
    return notes


def _where(line: OomLine) -> str:
    if not line.file:
        return line.function
    number = "" if line.line is None else f":{line.line}"
    return f"{line.function} ({line.file}{number})"


def _ago(age_s: float | None) -> str:
    if not age_s:
        return "" if age_s is None else "at the kill"
    return f"{age_s:g} s before"


def _moment(time: str) -> str:
    return clean(time).replace("T", " ").replace("+00:00", " UTC")
