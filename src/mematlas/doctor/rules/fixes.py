"""Fixes and formats that rules share: commands are complete and quoted for a shell."""

from __future__ import annotations

import heapq
import shlex
from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Unknown
from mematlas.units import format_bytes, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.doctor.model import HostState, ProcessState

NO_MEMINFO = Unknown("/proc/meminfo lacks the values needed")


def tune(name: str, words: str, note: str = "", gain: int | None = None) -> Fix:
    """Return a fix that changes knobs of the machine."""
    return Fix(name, FixKind.TUNE, f"mematlas tune apply {words} --yes", note, gain)


def inspect(command: str, note: str = "") -> Fix:
    """Return a command that shows details."""
    return Fix("", FixKind.INSPECT, command, note)


def percent(part: float, whole: float) -> str:
    """Format a share in whole percent."""
    return format_percent(part, whole, digits=0)


def largest(state: HostState, by: str) -> tuple[str, ...]:
    """Format the three processes with the largest value of a metric of `ps`."""
    ranked = heapq.nlargest(3, state.processes(), key=lambda row: row.metric(by))
    return tuple(
        f"{format_bytes(row.metric(by))} {by}: process {row.pid} {row.command or row.name}"
        for row in ranked
        if row.metric(by) > 0
    )


def command_line(words: Iterable[str]) -> str:
    """Quote a command for a shell on one line, control characters as in bash's $'...'."""
    return " ".join(map(_quote, words)) or "COMMAND"


def restart(name: str, state: ProcessState, options: str, note: str = "") -> Fix:
    """Return a fix that starts the program again with options of `mematlas exec`."""
    command = command_line(state.info.command)
    return Fix(name, FixKind.EXEC, f"mematlas exec {options} -- {command}", note)


def _quote(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{escaped.translate(_CONTROLS)}'"


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {10: "\\n", 9: "\\t"}
