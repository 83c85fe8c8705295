"""Rules about a recording: programs that ended at a limit, and what their huge pages held."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, RecordingState, Rule, Severity
from mematlas.doctor.rules.fixes import command_line, inspect, percent
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas.doctor.model import Answer
    from mematlas.linux.room import Room, UsedMount
    from mematlas.recording.model import Process

_MIB = 1 << 20
_OPTIONS = {"Max address space": "as", "Max stack size": "stack"}
_WELL = ("exited 0", "running", "exec", "detached", "still running when recording ended")


def _seen(state: RecordingState) -> Iterator[tuple[Process, Room]]:
    for process in state.recording.processes:
        if room := state.recording.rooms.get(process.index):
            yield process, room


def _killed(state: RecordingState) -> Answer:
    killed = [each for each in state.recording.processes if each.cause]
    if not killed:
        return None
    first = killed[0]
    return Found(
        Severity.CRITICAL,
        f"process {first.pid} was {first.ending}: {first.cause}",
        tuple(f"process {each.pid} {' '.join(each.command)}: {each.cause}" for each in killed[:3]),
        (inspect("dmesg | grep -i 'killed process'", "how large it was then"),),
    )


def _full(state: RecordingState) -> Answer:
    for process, room in _seen(state):
        full = [each for each in room.mounts if _is_full(each)]
        mount = max(full, key=lambda each: each.mapped, default=None)
        if "SIGBUS" not in process.ending or mount is None:
            continue
        severity, link = (Severity.CRITICAL, ":") if mount.mapped else (Severity.WARNING, " while")
        return Found(
            severity,
            f"process {process.pid} was killed by SIGBUS{link} {mount.path} was full",
            (
                *(() if mount.mapped else (_OTHER_CAUSE,)),
                (f"{mount.path} holds {format_bytes(mount.size)}, of which {format_bytes(mount.free)} were "
                f"free when last seen{_mapped(mount)}"),
            ),
            (
                Fix("tmpfs.grow", FixKind.SHELL,
                    f"mount -o remount,size={2 * max(mount.size, mount.mapped) >> 10}k {shlex.quote(mount.path)}",
                    ("twice what its mappings need, now" if mount.mapped
                     else "twice the size, now; how much the program needs was not seen")
                    + "; a container is given its size at its start: --shm-size"),
            ),
            mount.mapped,
        )  # fmt: skip
    return None


_OTHER_CAUSE = "not seen to map a file there; a mapped file that is truncated raises SIGBUS, too"


def _mapped(mount: UsedMount) -> str:
    return f"; the process maps {format_bytes(mount.mapped)} of its files" if mount.mapped else ""


def _is_full(mount: UsedMount) -> bool:
    return mount.mapped > mount.size or mount.free < mount.size // 20


def _limited(state: RecordingState) -> Answer:
    for process, room in _seen(state):
        near = [each for each in room.limits if each[2] >= each[1] * 9 // 10 and each[1]]
        if process.ending in _WELL or not near:
            continue
        name, limit, used = near[0]
        what = name.removeprefix("Max ")
        option = _OPTIONS.get(name)
        hard = dict(room.hard_limits).get(name)
        size = min(max(1, -(-2 * used // _MIB)), hard >> 20 if hard else 1 << 40)
        return Found(
            Severity.CRITICAL,
            f"process {process.pid} {process.ending} with its limit of {what} nearly used up",
            (
                f"{format_bytes(used)} of {format_bytes(limit)} ({percent(used, limit)}) when last seen",
                *((f"hard limit {format_bytes(hard)}",) if hard else ()),
            ),
            (
                *(
                    (
                        Fix("ended.limit", FixKind.EXEC,
                            f"mematlas exec --{option} {size}M -- {command_line(state.recording.command)}",
                            "twice as much as it used" if size << 20 >= 2 * used else "the hard limit"),
                    )
                    if option and size << 20 > limit
                    else ()
                ),
                inspect("ulimit -Ha", "the hard limits of this shell, which programs inherit"),
            ),
            used,
        )  # fmt: skip
    return None


def _bloat(state: RecordingState) -> Answer:
    rooms = [(room, process) for process, room in _seen(state)]
    if not rooms:
        return None
    room, process = max(rooms, key=lambda each: each[0].zero_bytes)
    if (
        room.zero_bytes - 2 * room.zero_error_bytes < 32 * _MIB
        or 4 * room.zero_bytes < room.huge_bytes
    ):
        return None
    return Found(
        Severity.WARNING,
        f"{format_bytes(room.zero_bytes)} of the huge pages of process {process.pid} held only zeros",
        (
            (f"{percent(room.zero_bytes, room.huge_bytes)} of {format_bytes(room.huge_bytes)} in huge pages, "
            f"by a sample of their 4 KiB pages at the end (± {format_bytes(room.zero_error_bytes)})"),
        ),
        (
            Fix("thp.never", FixKind.EXEC,
                f"mematlas exec --huge never -- {command_line(state.recording.command)}",
                f"up to {format_bytes(room.zero_bytes)}: pages that were never written are not made then"),
        ),
        room.zero_bytes,
    )  # fmt: skip


RULES: tuple[Rule[RecordingState], ...] = (
    Rule("ended.oom", "the OOM killer killed no program of the run",
         "An OOM kill is easily mistaken for a crash.", _killed),
    Rule("ended.tmpfs", "no program died because a file system in memory was full",
         "A page of a mapped file that does not fit raises SIGBUS, far from the call that made the file.", _full),
    Rule("ended.limit", "no program failed at a resource limit",
         "malloc, mmap and thread creation fail at the limit, although memory is free.", _limited),
    Rule("thp.bloat", "huge pages hold data",
         "One byte written makes 2 MiB resident where the memory is touched sparsely.", _bloat),
)  # fmt: skip
