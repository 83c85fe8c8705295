"""Rules about the memory cgroups of a process: limits, throttling, kills, memory of the kernel."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, HostState, Rule, Severity
from mematlas.doctor.rules.fixes import inspect, percent
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.doctor.model import Answer
    from mematlas.linux.cgroup import CgroupLevel

_MIB = 1 << 20
_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO
_KERNEL_SHARE = 4  # kernel memory of more than a quarter is worth a finding
_STALLED = 10.0  # percent of time


def parts(level: CgroupLevel) -> str:
    """Format what a group's memory consists of, and how much of it reclaim can free."""
    words = [f"{format_bytes(level.current or 0)} in use"]
    named = (
        ("anonymous", level.figure("anon" if level.version == 2 else "rss")),
        ("page cache", _cache(level)),
        ("tmpfs and shared memory", level.figure("shmem")),
        ("kernel memory", level.kernel),
    )
    known = [f"{format_bytes(size)} {name}" for name, size in named if size]
    return ": ".join((*words, ", ".join(known))) if known else words[0]


def _cache(level: CgroupLevel) -> int | None:
    lists = [level.figure("inactive_file"), level.figure("active_file")]
    return None if None in lists else sum(filter(None, lists))


def reclaim(level: CgroupLevel) -> str:
    """Format how much of a group's memory reclaim can free, and what keeps the rest."""
    if level.reclaimable is None:
        return "how much of it can be reclaimed is unknown: no memory.stat"
    text = f"reclaim can free {format_bytes(level.reclaimable)}: clean page cache"
    text += " and slab" if level.stat.get("slab_reclaimable") else ""
    kept = [
        (level.figure("dirty") or level.figure("file_dirty"), "is dirty and must be written first"),
        (level.figure("unevictable"), "is locked"),
        (_shared(level), "is tmpfs or shared memory, which only deleting or swap frees"),
    ]
    rest = [f"{format_bytes(size)} {words}" for size, words in kept if size and size >= _MIB]
    return "; ".join((text, *rest))


def _shared(level: CgroupLevel) -> int | None:
    return level.figure("shmem")


def _whose(state: HostState, *options: str) -> str:
    """Return the command that shows the cgroup of the process asked for."""
    pid = state.now.cgroup_of
    return " ".join(("mematlas system cgroup", *([f"--pid {pid}"] if pid else ()), *options))


def _write(level: CgroupLevel, name: str, value: int) -> str:
    return f"echo {value} > {shlex.quote(f'{level.directory}/{name}')}"


def _before(state: HostState, level: CgroupLevel) -> CgroupLevel | None:
    return next((each for each in state.before.cgroup if each.path == level.path), None)


def _raise_limit(state: HostState, level: CgroupLevel) -> Fix:
    limit = (level.limit or 0) * 3 // 2
    commands = [
        _write(level, "memory.limit_in_bytes" if level.version == 1 else "memory.max", limit)
    ]
    if level.version == 1 and level.swap_limit is not None and level.swap_limit < limit:
        # Memory with swap may not be limited below memory: EINVAL.
        commands.insert(0, _write(level, "memory.memsw.limit_in_bytes", limit))
    note = "1.5 times the limit; what manages the group may write its own again"
    above = [each for each in _above(state, level) if each.limit and each.limit < limit]
    if above:
        tightest = min(above, key=lambda each: each.limit or 0)
        note += (
            f"; the limit of {tightest.path} above it stays {format_bytes(tightest.limit or 0)}, "
            "and must be raised as well"
        )
    return Fix("cgroup.raise-limit", FixKind.SHELL, " && ".join(commands), note)


def _above(state: HostState, level: CgroupLevel) -> tuple[CgroupLevel, ...]:
    """Return the levels above one: they are read from the innermost on."""
    levels = state.now.cgroup
    return levels[levels.index(level) + 1 :]


def _limit(state: HostState) -> Answer:
    for level in state.now.cgroup:
        if not level.limit or level.current is None or level.current < level.limit * 9 // 10:
            continue
        if level.current - (level.reclaimable or 0) < level.limit * 8 // 10:
            continue  # reclaim makes room first
        return Found(
            _CRITICAL,
            f"the cgroup {level.path} is at {percent(level.current, level.limit)} of its limit of "
            f"{format_bytes(level.limit)}",
            (parts(level), reclaim(level), _hits(level)),
            (inspect(_whose(state)), _raise_limit(state, level)),
            level.current,
        )
    return None


def _hits(level: CgroupLevel) -> str:
    killed = level.events.get("oom_kill")
    text = f"reached its limit {level.failures or 0:,} times"
    return text if killed is None else f"{text}; OOM kills: {killed}"


def _killed(state: HostState) -> Answer:
    for level in state.now.cgroup:
        killed = level.events.get("oom_kill", 0)
        if not killed or not level.limit or level.ooms == 0:  # 0: at the limit of a group below
            continue
        before = _before(state, level)
        during = killed - before.events.get("oom_kill", 0) if before else 0
        number = "1 process was" if killed == 1 else f"{killed} processes were"
        return Found(
            _CRITICAL if during else _WARNING,
            f"{number} killed at the limit of the cgroup {level.path}, {format_bytes(level.limit)}",
            (_hits(level), parts(level), reclaim(level)),
            (
                inspect(_whose(state)),
                inspect("dmesg | grep -i 'killed process'", "which process, and how large it was"),
                _raise_limit(state, level),
            ),
            level.current or 0,
        )
    return None


def _throttled(state: HostState) -> Answer:
    for level in state.now.cgroup:
        if level.version == 1 or not level.high or level.current is None:
            continue  # memory.soft_limit_in_bytes of version 1 throttles nothing
        before = _before(state, level)
        count = level.events.get("high", 0)
        during = count - before.events.get("high", 0) if before else 0
        stalled = level.pressure.get("full", 0.0)
        if level.current < level.high * 95 // 100 or not (during or stalled >= 1):
            continue
        return Found(
            _CRITICAL if stalled >= _STALLED or not level.pressure else _WARNING,
            f"the cgroup {level.path} is throttled at memory.high, {format_bytes(level.high)}",
            (
                f"{count:,} times, {during:,} of them in the last {state.seconds:.0f} s"
                + (
                    f"; all its programs waited {stalled:.0f} % of the last 10 s"
                    if level.pressure
                    else ""
                ),
                parts(level),
                reclaim(level),
            ),
            (
                inspect(_whose(state)),
                Fix("cgroup.raise-high", FixKind.SHELL,
                    _write(level, "memory.high", level.high * 3 // 2),
                    "1.5 times memory.high; memory.max stays the limit"),
            ),
            level.current,
        )  # fmt: skip
    return None


def _kernel(state: HostState) -> Answer:
    for level in state.now.cgroup:
        kernel, current = level.kernel, level.current
        if not kernel or not current or not level.limit or kernel < 32 * _MIB:
            continue
        if kernel < current // _KERNEL_SHARE or kernel < level.limit // 10:
            continue
        return Found(
            _WARNING,
            f"{format_bytes(kernel)} of the cgroup {level.path} are memory of the kernel",
            (*_kernel_parts(level), parts(level)),
            (inspect(_whose(state)), *_free_kernel(level)),
            kernel,
        )
    return None


def _kernel_parts(level: CgroupLevel) -> tuple[str, ...]:
    names = (
        "slab_reclaimable",
        "slab_unreclaimable",
        "pagetables",
        "kernel_stack",
        "sock",
        "percpu",
    )
    known = [(name, level.stat[name]) for name in names if level.stat.get(name, 0) >= _MIB]
    if known:
        ranked = sorted(known, key=lambda each: -each[1])
        return (", ".join(f"{name} {format_bytes(size)}" for name, size in ranked),)
    return ("version 1 counts the sum only: slab (dentries, inodes), page tables, sockets",)


def _free_kernel(level: CgroupLevel) -> tuple[Fix, ...]:
    """Return the command that makes the kernel free what it can, where something can be freed."""
    slab = level.stat.get("slab_reclaimable")
    if level.version == 2 and (slab or 0) < (level.kernel or 0) // _KERNEL_SHARE:
        return ()
    if level.version == 1:
        command = _write(level, "memory.force_empty", 0)
    elif not Path(level.directory, "memory.reclaim").exists():  # since Linux 5.19
        return ()
    else:
        command = _write(level, "memory.reclaim", (slab or 0) + (_cache(level) or 0))
    return (
        Fix("cgroup.reclaim", FixKind.SHELL, command,
            ("frees dentries, inodes and page cache of the group, which are read again when needed; "
             "where there is swap, anonymous memory may be swapped out, too; how much is not sure")),
    )  # fmt: skip


RULES: tuple[Rule[HostState], ...] = (
    Rule("cgroup.limit", "no cgroup is at its limit",
         "At the limit each allocation reclaims first. If nothing can be reclaimed, a process of the "
         "cgroup is killed, although the machine has free memory.", _limit),
    Rule("cgroup.killed", "the OOM killer killed nothing in the cgroup",
         "A process that grows to the limit again is killed again.", _killed),
    Rule("cgroup.throttled", "no cgroup is throttled at memory.high",
         "Above memory.high each allocation is delayed until as much is reclaimed; nothing is killed, and "
         "the program only seems slow.", _throttled),
    Rule("cgroup.kernel", "little of the cgroup is memory of the kernel",
         "It counts against the limit and is in no figure of a process.", _kernel),
)  # fmt: skip
