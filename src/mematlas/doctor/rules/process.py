"""Rules about one process: placement, waste, growth, swapping and security of its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.doctor.model import (
    GROWTH_SECONDS,
    Fix,
    FixKind,
    Found,
    ProcessState,
    Rule,
    Severity,
    Unknown,
)
from mematlas.doctor.rules import allocators
from mematlas.doctor.rules.allocators import FreeMemory
from mematlas.doctor.rules.fixes import command_line, inspect, percent, restart
from mematlas.doctor.rules.limits import CAP_IPC_LOCK, find_limit
from mematlas.linux.mappings import Permission
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mematlas.doctor.model import Answer
    from mematlas.linux.glibc_heap import HeapUse
    from mematlas.linux.mappings import Mapping

_MIB = 1 << 20
_LARGE = 64 * _MIB
_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO
_WX = Permission.WRITE | Permission.EXECUTE
_GROWTH = 256 << 10  # bytes a second that count as growth


def _remote(state: ProcessState) -> Answer:
    if isinstance(state.numa, str):
        return Unknown(state.numa)
    near = state.cpus_nodes
    if len(state.host.now.nodes) < 2:
        return None
    if near is None:
        return Unknown("the kernel does not report the nodes of its CPUs")
    by_node: dict[int, int] = {}
    for line in state.numa:
        for node, size in line.nodes.items():
            by_node[node] = by_node.get(node, 0) + size
    far = {node: size for node, size in by_node.items() if node not in near}
    remote, total = sum(far.values()), sum(by_node.values())
    if remote < _LARGE // 2 or remote < total // 10:
        return None
    home = ",".join(map(str, sorted(near)))
    return Found(
        _CRITICAL,
        f"{format_bytes(remote)} of its memory are on other nodes than its CPUs",
        (
            f"it runs on node {home}; {percent(remote, total)} of its pages are on other nodes (numa_maps)",
            *(f"node {node}: {format_bytes(size)}" for node, size in sorted(by_node.items())),
        ),
        (
            _migrate(state, near, far),
            restart("numa.bind", state, f"--membind {home} --cpunodebind {home}"),
            inspect(f"mematlas system numa --pid {state.info.pid}"),
        ),
        remote,
    )


def _migrate(state: ProcessState, near: frozenset[int], far: dict[int, int]) -> Fix:
    """Return the command that moves the pages of other nodes; those that others map need --shared."""
    own = sum(
        size
        for line in state.numa
        if not isinstance(line, str) and line.mappers == 1
        for node, size in line.nodes.items()
        if node in far
    )
    command = f"mematlas migrate {state.info.pid} --only {','.join(map(str, sorted(far)))} --to {min(near)}"
    note = f"moves what only this process maps, {format_bytes(own)} or more"
    if 2 * own < sum(far.values()):
        command += " --shared"
        note = "other processes map most of it, and their pages move, too: as root"
    note += ", now; the program goes on meanwhile"
    return Fix("numa.migrate", FixKind.SHELL, command, note)


def _write_execute(state: ProcessState) -> Answer:
    rows = [each for each in state.mappings if each.permissions & _WX == _WX]
    if not rows:
        return None
    stack = any(each.name == b"[stack]" for each in rows)
    compiler = next((name for name in _COMPILERS if state.allocators.has(name)), "")
    return Found(
        _CRITICAL if stack else _INFO if compiler else _WARNING,
        f"{len(rows)} mapping{'s are' if len(rows) > 1 else ' is'} writable and executable"
        + (", the stack among them" if stack else ""),
        (
            *((_COMPILERS[compiler],) if compiler and not stack else ()),
            *(_line(each) for each in rows[:5]),
        ),
        _not_executable(state, stack=stack, compiler=compiler),
        sum(each.size for each in rows),
    )


_COMPILERS = {
    "Java heap": "the Java VM compiles code into such memory; nothing needs to be done",
    "V8 heap": "V8 compiles code into such memory; nothing needs to be done",
}


def _not_executable(state: ProcessState, *, stack: bool, compiler: str) -> tuple[Fix, ...]:
    look = inspect(f"mematlas show {state.info.pid} --mappings")
    if stack:
        return (
            Fix(
                "stack.not-executable",
                FixKind.CODE,
                "-Wl,-z,noexecstack",
                f"when {_program(state)} is linked: an object file without .note.GNU-stack requests it",
            ),
            look,
        )
    if compiler:
        return (look,)
    return (
        Fix(
            "code.protect",
            FixKind.CODE,
            "mprotect(address, length, PROT_READ | PROT_EXEC)",
            "once the code is written; or map it twice, once writable and once executable",
        ),
        look,
    )


def _program(state: ProcessState) -> str:
    return state.info.program.path if state.info.program else "PROGRAM"


def _line(mapping: Mapping) -> str:
    name = mapping.name.decode("utf-8", "backslashreplace") or "anonymous"
    return f"{mapping.start:x}-{mapping.end:x} {mapping.permissions.text()} {name}"


def _bloat(state: ProcessState) -> Answer:
    malloc = state.allocators.malloc
    if malloc and malloc.name != "glibc":
        return Unknown(
            f"free memory inside {malloc} cannot be read from outside: `mematlas run`, then "
            "`mematlas doctor` on the recording"
        )
    if isinstance(state.heaps, str):
        return Unknown(state.heaps)
    heaps = state.heaps.heaps
    back = sum(each.trimmable for each in heaps)
    used = sum(each.in_use for each in heaps)
    if back < 32 * _MIB or back < used // 4:
        return None
    free = FreeMemory(
        bytes=back,
        live_blocks=None,
        command=_command(state),
        is_python=state.allocators.has("pymalloc"),
        heaps=heaps,
    )
    return Found(
        _CRITICAL if back > used else _WARNING,
        f"malloc keeps {format_bytes(back)} of freed memory that malloc_trim() would return",
        (
            (
                f"{_heaps(heaps)}: {format_bytes(used)} in use, "
                f"{format_bytes(sum(each.free for each in heaps))} free in holes (chunk headers)"
            ),
            *_in_arenas(heaps, back),
            *(f"not read: {reason}" for reason in state.heaps.unread[:2]),
        ),
        allocators.bloat(state.info.pid, free, heaps),
        back,
    )


def _heaps(heaps: Sequence[HeapUse]) -> str:
    return "1 heap" if len(heaps) == 1 else f"{len(heaps)} heaps"


def _in_arenas(heaps: Sequence[HeapUse], back: int) -> tuple[str, ...]:
    """Return the share of thread arenas, where it is most of the freed memory."""
    arenas = [each for each in heaps if not each.main]
    size = sum(each.trimmable for each in arenas)
    if size < back // 2:
        return ()
    return (
        f"{format_bytes(size)} of it in {_heaps(arenas)} of thread arenas, which other threads do not use",
    )


def _command(state: ProcessState) -> str:
    return command_line(state.info.command)


def _swapped(state: ProcessState) -> Answer:
    sizes = state.info.status.sizes
    swapped, resident = sizes.get("VmSwap"), sizes.get("VmRSS", 0)
    if swapped is None:
        return Unknown("this kernel does not report VmSwap")
    if swapped < _LARGE or swapped < (swapped + resident) // 5:
        return None
    rate = state.major_rate
    busy = rate is not None and rate >= 20
    return Found(
        _CRITICAL if busy else _WARNING,
        f"{format_bytes(swapped)} of it are in swap",
        (
            f"{percent(swapped, swapped + resident)} of its memory",
            "major faults: unknown"
            if rate is None
            else f"{rate:.0f} major faults/s during the check",
        ),
        (
            *_lock(state, swapped + resident),
            inspect("mematlas system pressure --duration 5s", "whether memory is still short"),
        ),
        swapped,
    )


def _lock(state: ProcessState, size: int) -> tuple[Fix, ...]:
    """Return the fix that locks the memory of a program, where its limits allow that."""
    limit = find_limit(state, "Max locked memory")
    if state.capabilities >> CAP_IPC_LOCK & 1:
        options = "--lock-all"
    elif limit is not None and limit.hard is None:
        options = "--memlock unlimited --lock-all"
    elif limit is not None and limit.hard is not None and limit.hard > size * 2:
        options = f"--memlock {limit.hard >> 10}K --lock-all"
    else:
        return ()
    return (restart("swap.lock", state, options, "keeps it out of swap"),)


def _major_faults(state: ProcessState) -> Answer:
    rate = state.major_rate
    if rate is None:
        return Unknown("rates need a longer check: --duration 2s")
    if rate < 50 or state.info.status.sizes.get("VmSwap", 0) >= _LARGE:
        return None
    return Found(
        _WARNING,
        f"the process waits for {rate:.0f} page reads per second",
        (f"{rate:.0f} major faults/s: file pages that were reclaimed, or are read for the first time",),
        (
            Fix("faults.willneed", FixKind.CODE, "madvise(address, length, MADV_WILLNEED)",
                "or MADV_POPULATE_READ: many pages per request"),
            inspect(f"mematlas faults {state.info.pid}"),
        ),
    )  # fmt: skip


_TOO_SHORT = Unknown("growth needs a longer check: --duration 30s")


def _growth(state: ProcessState) -> Answer:
    samples = state.anonymous
    if len(samples) < 2 or samples[-1][0] - samples[0][0] < GROWTH_SECONDS:
        return _TOO_SHORT
    import numpy as np

    from mematlas.report.analyse import trend

    if len(samples) < trend.ENOUGH:
        return _TOO_SHORT
    times = np.array([time for time, _ in samples])
    values = np.array([[float(size) for _, size in samples]])
    found = trend.find_trend(times, values - values.min() + 1, np.zeros_like(values))
    slope = float(found.slope[0])
    grown = samples[-1][1] - samples[0][1]
    if not bool(found.growing[0]) or slope < _GROWTH or grown < 4 * _MIB:
        return None
    hours = state.host.now.meminfo.get("MemAvailable", 0) / slope / 3600
    return Found(
        _CRITICAL,
        f"its memory grows by {format_bytes(slope)}/s, until the end of the check",
        (
            (
                f"{format_bytes(samples[0][1])} to {format_bytes(samples[-1][1])} of anonymous memory in "
                f"{samples[-1][0] - samples[0][0]:.0f} s ({len(samples)} samples)"
            ),
            f"at this rate the machine is full in {hours:.1f} hours",
        ),
        (
            inspect(
                f"mematlas run -o run.atlas -- {_command(state)} && mematlas leaks run.atlas",
                "which lines of code allocate it",
            ),
        ),
        grown,
    )


def _deleted(state: ProcessState) -> Answer:
    rows = [
        each
        for each in state.mappings
        if each.name.endswith(b" (deleted)")
        and each.inode
        and each.permissions & Permission.EXECUTE
        and not each.name.startswith((b"/memfd:", b"/dev/zero", b"/SYSV", b"/dev/shm/"))
    ]
    if not rows:
        return None
    names = sorted({each.name.decode("utf-8", "backslashreplace") for each in rows})
    return Found(
        _INFO,
        f"{len(names)} file{'s' if len(names) > 1 else ''} it runs code from "
        f"{'were' if len(names) > 1 else 'was'} replaced since it started",
        tuple(names[:5]),
        (Fix("files.restart", FixKind.EXEC, _command(state), "restart it to run the new code"),),
    )


def _lazily_freed(state: ProcessState) -> Answer:
    lazy = state.info.mappings.total("LazyFree")
    if lazy is None or lazy < _LARGE:
        return None
    return Found(
        _INFO,
        f"{format_bytes(lazy)} of its RSS are freed already, and are reclaimed when memory is needed",
        (f"LazyFree {format_bytes(lazy)} in smaps: MADV_FREE, as Go and jemalloc use it",),
        (inspect(f"mematlas wss {state.info.pid}", "how much memory it uses"),),
        lazy,
    )


def _held(state: ProcessState) -> Answer:
    held = state.info.held
    if held is None:
        return Unknown("its descriptors cannot be read")
    size = sum(each.bytes for each in held)
    if size < _LARGE:
        return None
    return Found(
        _WARNING,
        f"{format_bytes(size)} of memory are held by its descriptors and mapped nowhere in it",
        tuple(
            f"descriptor {', '.join(map(str, each.descriptors[:3]))}: {each.name}, {format_bytes(each.bytes)}"
            for each in held[:5]
        ),
        (
            Fix("held.close", FixKind.CODE, "close(descriptor)", "once no process needs it", size),
            Fix(
                "held.truncate",
                FixKind.CODE,
                "ftruncate(descriptor, 0)",
                "gives the memory back and keeps the file",
                size,
            ),
        ),
        size,
    )


RULES: tuple[Rule[ProcessState], ...] = (
    Rule("numa.remote", "its memory is on the nodes of its CPUs",
         "Each access to another node takes at least 1.5 times as long, and shares the interconnect.",
         _remote),
    Rule("security.write-execute", "no memory is both writable and executable",
         "An attacker who can write there, by any overflow, can run code.", _write_execute),
    Rule("malloc.bloat", "malloc keeps little freed memory",
         "Free memory between blocks stays resident until the top of the heap is free, which may be never.", _bloat),
    Rule("swap.process", "its memory is not in swap",
         "Swapped memory takes a device access when it is needed.", _swapped),
    Rule("faults.major", "the process does not wait for page reads",
         "Each major fault stops a thread for a device access.", _major_faults),
    Rule("growth", "its memory does not grow all the time",
         "Memory that only grows ends in an OOM kill; only the time is open.", _growth),
    Rule("files.replaced", "the process runs the code that is on disk",
         "After an upgrade the process runs the old libraries with their security holes, and they take "
         "memory and disk space beside the new ones.", _deleted),
    Rule("memory.held", "no memory is held by descriptors alone",
         "It is in no figure of the process, and is freed when the last descriptor is closed.", _held),
    Rule("rss.lazy", "its RSS is memory in use",
         "Dashboards and autoscalers count it as memory in use.", _lazily_freed),
)  # fmt: skip
