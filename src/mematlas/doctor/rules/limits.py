"""Rules about the limits of a process: locked memory, mappings, address space, stack, OOM score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, ProcessState, Rule, Severity, Unknown
from mematlas.doctor.rules.fixes import inspect, percent, restart, tune
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.doctor.model import Answer
    from mematlas.linux.status import Limit

_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO
CAP_IPC_LOCK = 14
_MIB = 1 << 20


def find_limit(state: ProcessState, name: str) -> Limit | None:
    """Return a limit; None where the limits cannot be read."""
    return next((each for each in state.info.limits if each.name == name), None)


def _raised(limit: Limit, need: int) -> int | None:
    """Return twice the needed size in whole MiB, or the hard limit if that is lower; None: it cannot be raised."""
    size = max(1, -(-2 * need // _MIB)) * _MIB
    size = size if limit.hard is None else min(size, limit.hard)
    return size if limit.soft is not None and size > limit.soft else None


def _raise(
    state: ProcessState, limit: Limit, need: int, now: tuple[str, str], again: tuple[str, str]
) -> tuple[Fix, ...]:
    """Return the fixes that raise a soft limit: by prlimit(1), and by a restart; each as (name, option), "" for none.

    Beyond the hard limit both are refused without CAP_SYS_RESOURCE: there is a command to look at instead.
    """
    size = _raised(limit, need)
    if size is None:
        shell = _SHELL_LIMITS.get(again[1] or now[1], "a")
        return (
            inspect(
                f"ulimit -H{shell}",
                "the hard limit of this shell; raised in limits.conf(5), by LimitAS= and others of "
                "systemd, or by --ulimit of a container",
            ),
        )
    pid, name = state.info.pid, f"{size >> 20}M" if size % _MIB == 0 else f"{size >> 10}K"
    fixes = []
    if now[0]:
        command = f"prlimit --pid {pid} --{now[1]}={size}:"
        fixes.append(Fix(now[0], FixKind.SHELL, command, "now"))
    if again[0]:
        fixes.append(restart(again[0], state, f"--{again[1]} {name}"))
    return tuple(fixes)


_SHELL_LIMITS = {"memlock": "l", "as": "v", "data": "d", "stack": "s"}


def _hard(limit: Limit) -> str:
    """Format the hard limit, up to which a process may raise its own."""
    return f"hard limit {'unlimited' if limit.hard is None else format_bytes(limit.hard)}"


def _memlock(state: ProcessState) -> Answer:
    limit = find_limit(state, "Max locked memory")
    if limit is None:
        return Unknown("its limits cannot be read")
    locked = state.info.status.sizes.get("VmLck", 0)
    if limit.soft is None or state.capabilities >> CAP_IPC_LOCK & 1:
        return None
    if not locked or locked < limit.soft * 8 // 10:
        return None
    return Found(
        _CRITICAL,
        f"the process has locked {percent(locked, limit.soft)} of the memory that it may lock",
        (
            f"VmLck {format_bytes(locked)} of {format_bytes(limit.soft)} (RLIMIT_MEMLOCK, soft)",
            f"{_hard(limit)}; no CAP_IPC_LOCK",
        ),
        _raise(state, limit, locked, ("memlock.now", "memlock"), ("memlock.restart", "memlock")),
        locked,
    )


def _map_count(state: ProcessState) -> Answer:
    most = state.host.number("max_map_count")
    if most is None:
        return Unknown("vm.max_map_count cannot be read")
    count = len(state.info.mappings)
    if count < most * 8 // 10:
        return None
    guards = sum(not each.permissions & 7 for each in state.mappings)
    return Found(
        _CRITICAL,
        f"the process has {count:,} of at most {most:,} mappings; mmap will soon fail with ENOMEM",
        (
            f"vm.max_map_count={most}",
            f"{guards:,} of them are PROT_NONE: guard pages or reserved address space",
        ),
        (
            tune("mappings.raise", f"vm.max_map_count={max(most * 4, 262144)}"),
            inspect(f"mematlas show {state.info.pid} --mappings"),
        ),
    )


def _address_space(state: ProcessState) -> Answer:
    sizes = state.info.status.sizes
    for name, size, option in (
        ("Max address space", sizes.get("VmSize", 0), "as"),
        ("Max data size", sizes.get("VmData", 0), "data"),
    ):
        limit = find_limit(state, name)
        if limit is None:
            return Unknown("its limits cannot be read")
        if limit.soft is None or size < limit.soft * 9 // 10:
            continue
        what = name.removeprefix("Max ").removesuffix(" size")
        again = ("address-space.restart", "as") if option == "as" else ("", "")
        return Found(
            _CRITICAL,
            f"{percent(size, limit.soft)} of the limit on its {what} is used; malloc will soon fail",
            (
                f"{format_bytes(size)} of {format_bytes(limit.soft)} (RLIMIT_{option.upper()})",
                _hard(limit),
            ),
            _raise(state, limit, size, ("address-space.now", option), again),
            size,
        )
    return None


def _stack(state: ProcessState) -> Answer:
    limit = find_limit(state, "Max stack size")
    if limit is None:
        return Unknown("its limits cannot be read")
    size = state.info.status.sizes.get("VmStk", 0)
    if limit.soft is None or size < limit.soft * 8 // 10:
        return None
    return Found(
        _CRITICAL,
        f"the stack has grown to {percent(size, limit.soft)} of its limit; beyond it is SIGSEGV",
        (f"VmStk {format_bytes(size)} of {format_bytes(limit.soft)} (RLIMIT_STACK)", _hard(limit)),
        _raise(state, limit, size, ("", ""), ("stack.restart", "stack")),
        size,
    )


def _immune(state: ProcessState) -> Answer:
    adjust = state.info.oom_score_adjust
    total = state.host.now.meminfo.get("MemTotal", 0)
    resident = state.info.status.sizes.get("VmRSS", 0)
    if adjust is None:
        return Unknown("its OOM score cannot be read")
    if adjust > -900 or resident < max(total // 4, 1):
        return None
    return Found(
        _WARNING,
        f"the process takes {percent(resident, total)} of memory, and the OOM killer spares it",
        (f"oom_score_adj {adjust}, VmRSS {format_bytes(resident)} of {format_bytes(total)}",),
        (
            tune(
                "oom.spare-less",
                f"oom_score_adj.{state.info.pid}=-500",
                "spared for long, but not forever",
            ),
            inspect(
                f"cat /proc/{state.info.pid}/oom_score_adj", "what started it may have set this"
            ),
        ),
        resident,
    )


def _first(state: ProcessState) -> Answer:
    adjust, score = state.info.oom_score_adjust, state.info.oom_score
    if adjust is None or score is None:
        return Unknown("its OOM score cannot be read")
    if adjust < 500:
        return None
    return Found(
        _INFO,
        "the process is among the first that the OOM killer kills",
        (
            f"oom_score_adj {adjust}, oom_score {score}: set on purpose, or inherited from its parent",
        ),
        (
            tune("oom.default", f"oom_score_adj.{state.info.pid}=0"),
            restart("oom.restart", state, "--oom-score 0"),
        ),
    )


RULES: tuple[Rule[ProcessState], ...] = (
    Rule("limit.memlock", "the limit of locked memory suffices",
         "The next mlock, RDMA registration or io_uring buffer fails with ENOMEM or EAGAIN.", _memlock),
    Rule("limit.mappings", "the limit of mappings suffices",
         "At the limit malloc, thread creation and library loading fail, although memory is free.", _map_count),
    Rule("limit.address-space", "the limit of the address space suffices",
         "The program fails far away from the limit that causes the failure.", _address_space),
    Rule("limit.stack", "the limit of the stack suffices",
         "A stack overflow is a crash without a message.", _stack),
    Rule("oom.immune", "the OOM killer may kill the process",
         "If this process is the one that grows, all others are killed before it.", _immune),
    Rule("oom.first", "the process is no preferred victim of the OOM killer",
         "The process may be killed for the memory that another program takes.", _first),
)  # fmt: skip
