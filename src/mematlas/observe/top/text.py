"""`mematlas top --once` for the terminal, and one snapshot as facts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.text import Text

from mematlas.observe.top.analyse import memory_parts, memory_pressure
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
    entries: list[TopLine],
    choice: ListOptions,
    *,
    console: Console,
) -> None:
    """Write the machine's memory, how hard pressed it is, and the first processes."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(after.time_s))
    write(console, Text().append(moment, "bold").append(f"  {_counted(after)}", "dim"))
    _memory(after, console)
    _strain(memory_pressure(before, after), console)
    title(console, f"By {choice.sort}", "" if choice.shape == "list" else f"by {choice.shape}")
    _entries(entries, grouped=choice.shape not in {"list", "tree"}, console=console)
    unread = sum(1 for each in after.processes if each.row.pss is None and not each.row.note)
    denied = sum(each.row.note.startswith("denied") for each in after.processes)
    if unread:
        note(console, f"… not read, their turn had not come: {unread}")
    if denied:
        note(
            console,
            f"? closed to this user: {denied}; it takes CAP_SYS_PTRACE (root), and some refuse even that",
        )


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
    title(console, "Memory", f"{format_bytes(total)} in all, {available} available")
    show(console, ("=", ">", "="), rows)


def _strain(pressure: MemoryPressure, console: Console) -> None:
    if pressure.some is None:
        line(console, "  waiting", "not told by this kernel (PSI)")
    else:
        line(console, "  waiting", f"{pressure.some:.1f} % of the time some task waited for memory")
    if pressure.reclaimed is not None:
        taken, into, out = map(
            format_bytes, _known(pressure.reclaimed, pressure.swap_in, pressure.swap_out)
        )
        line(console, "  reclaim", f"{taken}/s; swapped in {into}/s, out {out}/s")


def _known(*values: float | None) -> list[float]:
    return [value or 0.0 for value in values]


def _entries(entries: list[TopLine], *, grouped: bool, console: Console) -> None:
    wide = console.width >= 110
    rows = []
    for entry in entries:
        first = str(entry.processes if grouped else entry.pid)
        cells = [first, *(_size(entry, name) for name in ("pss", "uss", "rss", "swap"))]
        if wide:
            cells += [_size(entry, "thp"), _growth(entry.growth)]
        cells.append(_rate(entry))
        rows.append([*cells, "  " * entry.depth + clean(entry.name)])
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


def _size(entry: TopLine, name: str) -> str:
    value = getattr(entry, name)
    return "…" if value is None and not entry.note else amount(value)


def _growth(value: float | None) -> str:
    if value is None:
        return ""
    return f"{'+' if value > 0 else '-'}{format_bytes(abs(value))}" if abs(value) >= 1024 else "-"


def _rate(entry: TopLine) -> str:
    return "" if entry.minor is None else f"{entry.minor + (entry.major or 0):,.0f}"


def to_json(
    snapshot: MachineSnapshot, rates: dict[Key, ProcessRates], pressure: MemoryPressure
) -> dict[str, Any]:
    """Give one snapshot with its rates, for JSON; null: not known, or one look only."""
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
