"""`mematlas top --once` for the terminal and as JSON."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.text import Text

from mematlas.observe.top.rates import memory_parts, memory_pressure
from mematlas.present import drawing
from mematlas.present.drawing import bar
from mematlas.present.printable import clean
from mematlas.present.tables import amount, line, note, show, title, write
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from mematlas.observe.top.analyse import ListOptions
    from mematlas.observe.top.model import (
        Key,
        MachineSnapshot,
        MemoryPressure,
        ProcessRates,
        TopLine,
    )


def render_snapshot(
    before: MachineSnapshot | None,
    after: MachineSnapshot,
    lines: list[TopLine],
    options: ListOptions,
    *,
    console: Console,
) -> None:
    """Render the machine's memory, its memory pressure, and the lines."""
    shown_time = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(after.time_s))
    write(console, Text().append(shown_time, "bold").append(f"  {_counted(after)}", "dim"))
    _memory(after, console)
    _pressure(memory_pressure(before, after), console)
    title(console, f"By {options.sort}", "" if options.shape == "list" else f"by {options.shape}")
    _lines(lines, grouped=options.shape not in {"list", "tree"}, console=console)
    unread = sum(1 for each in after.processes if each.row.pss is None and not each.row.note)
    denied = sum(each.row.note.startswith("denied") for each in after.processes)
    if unread:
        note(console, f"… sizes not read yet: {_count(unread)}")
    if denied:
        note(
            console,
            f"? access denied: {_count(denied)}; run as root (CAP_SYS_PTRACE)",
        )


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def _counted(snapshot: MachineSnapshot) -> str:
    walks, cpu = snapshot.cost.page_walks, snapshot.cost.cpu_s * 1e3
    return f"{len(snapshot.processes)} processes · read in {cpu:.0f} ms of CPU, {walks} page walks"


def _memory(snapshot: MachineSnapshot, console: Console) -> None:
    total = snapshot.meminfo.get("MemTotal", 0)
    rows = (
        [f"  {name}", amount(size), Text(bar(size / total if total else 0, 30, console), "cyan")]
        for name, size in memory_parts(snapshot.meminfo)
        if size
    )
    available = amount(snapshot.meminfo.get("MemAvailable"))
    title(console, "Memory", f"{format_bytes(total)} in total, {available} available")
    show(console, ("=", ">", "="), rows)


def _pressure(pressure: MemoryPressure, console: Console) -> None:
    if pressure.some is None:
        line(console, "  waiting", "unknown: this kernel has no PSI")
    else:
        line(
            console,
            "  waiting",
            f"some tasks waited for memory during {pressure.some:.1f} % of the time",
        )
    if pressure.reclaimed is not None:
        taken, into, out = map(
            format_bytes, _or_zero(pressure.reclaimed, pressure.swap_in, pressure.swap_out)
        )
        line(console, "  reclaim", f"{taken}/s; swapped in {into}/s, out {out}/s")


def _or_zero(*values: float | None) -> list[float]:
    return [value or 0.0 for value in values]


def _lines(lines: list[TopLine], *, grouped: bool, console: Console) -> None:
    wide = drawing.is_wide(console, 110)
    rows = []
    for each in lines:
        first = str(each.processes if grouped else each.pid)
        cells = [first, *(_size(each, name) for name in ("pss", "uss", "rss", "swap"))]
        if wide:
            cells += [_size(each, "thp"), _growth(each.growth)]
        cells.append(_rate(each))
        rows.append([*cells, "  " * each.depth + clean(each.name)])
    more = (">THP", ">growth/s") if wide else ()
    first = ">procs" if grouped else ">PID"
    headings = (
        first,
        ">PSS",
        ">USS",
        ">RSS",
        ">swap",
        *more,
        ">faults/s",
        "<group" if grouped else "~command",
    )
    show(console, headings, rows)


def _size(each: TopLine, name: str) -> str:
    value = getattr(each, name)
    return "…" if value is None and not each.note else amount(value)


def _growth(value: float | None) -> str:
    if value is None:
        return ""
    return f"{'+' if value > 0 else '-'}{format_bytes(abs(value))}" if abs(value) >= 1024 else "-"


def _rate(each: TopLine) -> str:
    return "" if each.minor is None else f"{each.minor + (each.major or 0):,.0f}"


def to_json(
    snapshot: MachineSnapshot, rates: dict[Key, ProcessRates], pressure: MemoryPressure
) -> dict[str, Any]:
    """Return one snapshot with its rates for JSON. null: unknown, or only one snapshot."""
    return {
        "time_s": snapshot.time_s,
        "cost": snapshot.cost,
        "kernel_threads": snapshot.kernel_threads,
        "meminfo": snapshot.meminfo,
        "vmstat": snapshot.vmstat,
        "stalls": snapshot.stalls,
        "pressure": pressure,
        "processes": [
            {
                "started_ticks": process.started,
                "age_s": None
                if process.read_at is None
                else round(snapshot.clock_s - process.read_at, 3),
                "rates": rates.get(process.key),
                "process": process.row,
            }
            for process in snapshot.processes
        ],
    }
