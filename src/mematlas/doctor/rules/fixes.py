"""Words that rules share: ways out, shares, and commands a shell takes as they stand."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Unknown
from mematlas.observe.processes.analyse import rank
from mematlas.units import format_bytes, format_percent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.doctor.model import HostState, ProcessState

NO_MEMINFO = Unknown("/proc/meminfo told nothing")


def tune(words: str, note: str = "") -> Fix:
    """Change a knob of the machine."""
    return Fix(FixKind.TUNE, f"mematlas tune apply {words} --yes", note)


def look(command: str, note: str = "") -> Fix:
    """See more."""
    return Fix(FixKind.LOOK, command, note)


def percent(part: float, whole: float) -> str:
    """Format a share of a whole in whole percent."""
    return format_percent(part, whole, digits=0)


def largest(state: HostState, by: str) -> tuple[str, ...]:
    """Name the three processes that have most of something."""
    ranked = [row for row in rank(state.processes, by) if row.metric(by) > 0][:3]
    return tuple(
        f"{format_bytes(row.metric(by))} {by}: process {row.pid} {row.command or row.name}"[:100]
        for row in ranked
    )


def command_line(words: Iterable[str]) -> str:
    """Quote a command for a shell, on one line; control characters as bash writes them."""
    return " ".join(map(_quote, words)) or "COMMAND"


def restart(state: ProcessState, options: str, note: str = "") -> Fix:
    """Start the program again with other settings."""
    command = command_line(state.facts.command)
    return Fix(FixKind.EXEC, f"mematlas exec {options} -- {command}", note)


def _quote(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{escaped.translate(_CONTROLS)}'"


_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {10: "\\n", 9: "\\t"}
