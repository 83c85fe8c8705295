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
    words: list[tuple[str, str, str]] = []
    soft, warn, bad = (ink(name, dark=dark) for name in ("soft", "warn", "bad"))
    if pressure.some is None:
        words.append(("pressure ", "unknown: no PSI", soft))
    else:
        style = (
            bad
            if (pressure.full or 0) >= _HIGH_PRESSURE
            else warn
            if pressure.some >= _HIGH_PRESSURE
            else ""
        )
        words.append(("waiting for memory: some ", f"{pressure.some:.1f} %", style))
        if pressure.full is not None:
            words.append(("all ", f"{pressure.full:.1f} %", style))
    if pressure.killed:
        words.append(("OOM killed ", str(pressure.killed), bad))
    if pressure.faults is not None:
        words += [
            ("faults ", _per_s(pressure.faults), ""),
            ("major ", _per_s(pressure.major), warn if pressure.major else ""),
            ("reclaim ", _bytes_per_s(pressure.reclaimed), warn if pressure.reclaimed else ""),
            ("direct ", _bytes_per_s(pressure.direct), bad if pressure.direct else ""),
            ("swap in ", _bytes_per_s(pressure.swap_in), warn if pressure.swap_in else ""),
            ("out ", _bytes_per_s(pressure.swap_out), warn if pressure.swap_out else ""),
            ("refaults ", _per_s(pressure.refaults), warn if pressure.refaults else ""),
            ("scanned ", _bytes_per_s(pressure.scanned), ""),
        ]
    text, left = Text(no_wrap=True), width
    for label, value, style in words:
        if left < len(label) + len(value):
            break
        text.append(label, soft).append(value, style).append("   ")
        left -= len(label) + len(value) + 3
    return text


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
