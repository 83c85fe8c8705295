"""Rules about file systems in memory: a full one ends programs that map its files."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, HostState, ProcessState, Rule, Severity
from mematlas.doctor.rules.fixes import inspect, percent
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.doctor.model import Answer
    from mematlas.linux.memory_mounts import MemoryMount

_MIB = 1 << 20
SHARED = "/dev/shm"  # noqa: S108 - where shm_open(3) makes its files


def full(mounts: Iterable[MemoryMount]) -> list[MemoryMount]:
    """Return the mounts of which 95 % are used, /dev/shm first."""
    rows = [each for each in mounts if each.used >= _MIB and each.free < each.size // 20]
    return sorted(rows, key=lambda each: (each.path != SHARED, -each.used))


def _host(state: HostState) -> Answer:
    return _found(full(state.mounts), "")


def _process(state: ProcessState) -> Answer:
    """Answer for mounts that only the process sees: those of a container."""
    around = {(each.path, each.size) for each in state.host.mounts}
    own = [each for each in state.mounts if (each.path, each.size) not in around]
    return _found(full(own), f"nsenter -t {state.info.pid} -m ")


def _found(rows: list[MemoryMount], enter: str) -> Answer:
    if not rows:
        return None
    first = rows[0]
    path = shlex.quote(first.path)  # any user who may mount has chosen it
    return Found(
        Severity.CRITICAL if first.path == SHARED else Severity.WARNING,
        f"{first.path} is full: {format_bytes(first.used)} of {format_bytes(first.size)}",
        tuple(
            f"{each.path}: {percent(each.used, each.size)} used, {format_bytes(each.free)} free"
            for each in rows[:3]
        ),
        (
            Fix(
                "tmpfs.grow",
                FixKind.SHELL,
                f"{enter}mount -o remount,size={first.size * 2 >> 10}k {path}",
                "twice the size, now; whether that suffices is not known, as files may grow further; "
                "a container is given its size at its start: --shm-size",
            ),
            inspect(f"{enter}ls -lS {path}", "its files: delete those that nothing uses"),
        ),
        first.used,
    )


_WHY = (
    "The next write fails with ENOSPC. A program that made a larger file and maps it dies by SIGBUS at the "
    "first page that does not fit."
)
RULES: tuple[Rule[HostState], ...] = (
    Rule("tmpfs.full", "file systems in memory have space", _WHY, _host),
)
PROCESS_RULES: tuple[Rule[ProcessState], ...] = (
    Rule(
        "tmpfs.full-inside", "the process's own file systems in memory have space", _WHY, _process
    ),
)
