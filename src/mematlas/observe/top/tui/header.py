"""The header of `mematlas top`: memory as a bar, memory pressure, and the cost of mematlas."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.text import Text

from mematlas.observe.top.rates import memory_parts
from mematlas.observe.top.tui.columns import format_rate
from mematlas.present.drawing import columns_of
from mematlas.present.theme import PARTS, ink
from mematlas.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.observe.top.model import MachineSnapshot, MemoryPressure

_HIGH_PRESSURE = 1.0  # percent of the time


def render_memory(snapshot: MachineSnapshot, width: int, *, dark: bool) -> Text:
    """Render all memory as one bar, with a legend below."""
    parts = memory_parts(snapshot.meminfo)
    text = Text(no_wrap=True)
    sizes = columns_of([size for _, size in parts], max(10, width))
    for (name, _), columns in zip(parts, sizes, strict=True):
        text.append(PARTS[name][0] * columns, ink(name, dark=dark))
    text.append("\n")
    soft = ink("soft", dark=dark)
    total, available = (snapshot.meminfo.get(name) for name in ("MemTotal", "MemAvailable"))
    shown = sorted(parts, key=lambda part: -part[1])
    left = width
    for name, size in shown:
        words = f"{name} {format_bytes(size)}  "
        if not size or left < len(words) + 2:
            continue
        text.append(f"{PARTS[name][0]} ", ink(name, dark=dark))
        text.append(f"{name} ", soft).append(f"{format_bytes(size)}  ")
        left -= len(words) + 2
    text.append("\n")
    if total and available is not None:
        text.append("available ", soft)
        text.append(f"{format_bytes(available)} ", "bold")
        text.append(f"of {format_bytes(total)}", soft)
    _swap(text, snapshot, dark=dark)
    return text


def _swap(text: Text, snapshot: MachineSnapshot, *, dark: bool) -> None:
    soft = ink("soft", dark=dark)
    total = snapshot.meminfo.get("SwapTotal", 0)
    text.append("   swap ", soft)
    if not total:
        text.append("none", soft)
        return
    used = total - snapshot.meminfo.get("SwapFree", 0)
    text.append(format_bytes(used), ink("warn", dark=dark) if used else "")
    text.append(f" of {format_bytes(total)}", soft)


def render_pressure(pressure: MemoryPressure, width: int, *, dark: bool) -> Text:
    """Render stalls and reclaim on one line, as many as fit."""
    words = [*_stalls(pressure), *_reclaim(pressure)]
    text, left = Text(no_wrap=True), width
    for label, value, colour in words:
        if left < len(label) + len(value):
            break
        text.append(label, ink("soft", dark=dark))
        text.append(value, ink(colour, dark=dark) if colour else "").append("   ")
        left -= len(label) + len(value) + 3
    return text


def _stalls(pressure: MemoryPressure) -> Iterator[tuple[str, str, str]]:
    """Yield label, value and colour name of the stall shares and of OOM kills."""
    if pressure.some is None:
        yield "pressure ", "unknown: no PSI", "soft"
    else:
        colour = "warn" if pressure.some >= _HIGH_PRESSURE else ""
        colour = "bad" if (pressure.full or 0) >= _HIGH_PRESSURE else colour
        yield "waiting for memory: some ", f"{pressure.some:.1f} %", colour
        if pressure.full is not None:
            yield "all ", f"{pressure.full:.1f} %", colour
    if pressure.killed:
        yield "OOM killed ", str(pressure.killed), "bad"


def _reclaim(pressure: MemoryPressure) -> Iterator[tuple[str, str, str]]:
    """Yield label, value and colour name of rates; the colour is for rates above 0."""
    if pressure.faults is None:
        return
    for label, rate, show, colour in (
        ("faults ", pressure.faults, _per_s, ""),
        ("major ", pressure.major, _per_s, "warn"),
        ("reclaim ", pressure.reclaimed, _bytes_per_s, "warn"),
        ("direct ", pressure.direct, _bytes_per_s, "bad"),
        ("swap in ", pressure.swap_in, _bytes_per_s, "warn"),
        ("out ", pressure.swap_out, _bytes_per_s, "warn"),
        ("refaults ", pressure.refaults, _per_s, "warn"),
        ("scanned ", pressure.scanned, _bytes_per_s, ""),
    ):
        yield label, show(rate), colour if rate else ""


def _per_s(value: float | None) -> str:
    shown = format_rate(value)
    return "-" if shown in {"", "-"} else f"{shown}/s"


def _bytes_per_s(value: float | None) -> str:
    return f"{format_bytes(value)}/s" if value else "-"


def render_title(
    snapshot: MachineSnapshot, width: int, state: str, share: float | None, *, dark: bool
) -> Text:
    """Render the time, the number of processes, and the cost of the snapshots."""
    soft = ink("soft", dark=dark)
    shown_time = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot.time_s))
    count = f"{len(snapshot.processes)} processes, {snapshot.kernel_threads} kernel threads"
    left = Text(no_wrap=True).append("mematlas top", f"bold {ink('accent', dark=dark)}")
    left.append(f"  {shown_time}  ", "").append(state, soft)
    cost = f"uses {share:.1f} % of a CPU" if share is not None else ""
    cpu = f"reading {format_duration(snapshot.cost.cpu_s)}"
    walks = f"{snapshot.cost.page_walks} page walks"
    for parts in ((count, cost, cpu, walks), (cost, cpu, walks), (cost, cpu), (cost,), ()):
        right = " · ".join(part for part in parts if part)
        if left.cell_len + len(right) + 2 <= width:
            break
    left.append(" " * max(1, width - left.cell_len - len(right))).append(right, soft)
    return left
