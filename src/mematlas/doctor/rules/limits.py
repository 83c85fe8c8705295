"""Rules about what a process may have: locked memory, mappings, address space, stack, the OOM killer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, ProcessState, Rule, Severity, Unknown
from mematlas.doctor.rules.fixes import look, percent, restart, tune
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.doctor.model import Answer
    from mematlas.linux.status import Limit

_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO
_CAP_IPC_LOCK = 14
_MIB = 1 << 20


def _limit(state: ProcessState, name: str) -> Limit | None:
    return next((each for each in state.facts.limits if each.name == name), None)


def _raised(need: int) -> int:
    """Twice the need, as a round number of MiB."""
    return max(1, -(-2 * need // _MIB)) * _MIB


def _memlock(state: ProcessState) -> Answer:
    limit = _limit(state, "Max locked memory")
    if limit is None:
        return Unknown("its limits could not be read")
    locked = state.facts.status.sizes.get("VmLck", 0)
    if limit.soft is None or state.capabilities >> _CAP_IPC_LOCK & 1:
        return None
    if not locked or locked < limit.soft * 8 // 10:
        return None
    size = _raised(locked)
    return Found(
        _CRITICAL,
        f"it has locked {percent(locked, limit.soft)} of the memory it may lock",
        (
            f"VmLck {format_bytes(locked)} of {format_bytes(limit.soft)} (RLIMIT_MEMLOCK, soft)",
            (
                f"hard limit {'unlimited' if limit.hard is None else format_bytes(limit.hard)}; "
                "no CAP_IPC_LOCK"
            ),
        ),
        (
            Fix(FixKind.SHELL, f"prlimit --pid {state.facts.pid} --memlock={size}:{size}", "now"),
            restart(state, f"--memlock {size >> 20}M"),
        ),
        locked,
    )


def _map_count(state: ProcessState) -> Answer:
    most = state.host.number("max_map_count")
    if most is None:
        return Unknown("vm.max_map_count cannot be read")
    count = len(state.facts.mappings)
    if count < most * 8 // 10:
        return None
    guards = sum(not each.permissions & 7 for each in state.facts.mappings)
    return Found(
        _CRITICAL,
        f"it has {count:,} of at most {most:,} mappings: mmap is about to fail with ENOMEM",
        (
            f"vm.max_map_count={most}",
            f"{guards:,} of them allow nothing: guard pages, or address space kept for later",
        ),
        (
            tune(f"vm.max_map_count={max(most * 4, 262144)}"),
            Fix(
                FixKind.CODE,
                "madvise(page, length, MADV_GUARD_INSTALL)",
                "guards without mappings of their own (kernel 6.13)",
            ),
            look(f"mematlas show {state.facts.pid} --mappings"),
        ),
    )


def _address_space(state: ProcessState) -> Answer:
    sizes = state.facts.status.sizes
    for name, size, option in (
        ("Max address space", sizes.get("VmSize", 0), "as"),
        ("Max data size", sizes.get("VmData", 0), "data"),
    ):
        limit = _limit(state, name)
        if limit is None:
            return Unknown("its limits could not be read")
        if limit.soft is None or size < limit.soft * 9 // 10:
            continue
        new = _raised(size)
        return Found(
            _CRITICAL,
            f"{percent(size, limit.soft)} of its {name.removeprefix('Max ')} is used: malloc fails next",
            (f"{format_bytes(size)} of {format_bytes(limit.soft)} (RLIMIT_{option.upper()})",),
            (
                Fix(
                    FixKind.SHELL, f"prlimit --pid {state.facts.pid} --{option}={new}:{new}", "now"
                ),
                *((restart(state, f"--as {new >> 20}M"),) if option == "as" else ()),
            ),
            size,
        )
    return None


def _stack(state: ProcessState) -> Answer:
    limit = _limit(state, "Max stack size")
    if limit is None:
        return Unknown("its limits could not be read")
    size = state.facts.status.sizes.get("VmStk", 0)
    if limit.soft is None or size < limit.soft * 8 // 10:
        return None
    return Found(
        _CRITICAL,
        f"its stack has grown to {percent(size, limit.soft)} of its limit: the next step is SIGSEGV",
        (f"VmStk {format_bytes(size)} of {format_bytes(limit.soft)} (RLIMIT_STACK)",),
        (
            restart(state, f"--stack {_raised(size) >> 20}M"),
            Fix(FixKind.CODE, "sys.setrecursionlimit()", "or less recursion, smaller local arrays"),
        ),
        size,
    )


def _immune(state: ProcessState) -> Answer:
    adjust = state.facts.oom_score_adjust
    total = state.host.now.meminfo.get("MemTotal", 0)
    resident = state.facts.status.sizes.get("VmRSS", 0)
    if adjust is None:
        return Unknown("its OOM score could not be read")
    if adjust > -900 or resident < max(total // 4, 1):
        return None
    return Found(
        _WARNING,
        f"it takes {percent(resident, total)} of memory, and the OOM killer may not touch it",
        (f"oom_score_adj {adjust}, VmRSS {format_bytes(resident)} of {format_bytes(total)}",),
        (tune(f"oom_score_adj.{state.facts.pid}=-500", "spared for long, not for ever"),),
        resident,
    )


def _first(state: ProcessState) -> Answer:
    adjust, score = state.facts.oom_score_adjust, state.facts.oom_score
    if adjust is None or score is None:
        return Unknown("its OOM score could not be read")
    if adjust < 500:
        return None
    return Found(
        _INFO,
        "it is among the first the OOM killer takes",
        (
            f"oom_score_adj {adjust}, oom_score {score}: set on purpose, or inherited from what started it",
        ),
        (tune(f"oom_score_adj.{state.facts.pid}=0"), restart(state, "--oom-score 0")),
    )


RULES: tuple[Rule[ProcessState], ...] = (
    Rule("limit.memlock", "it may lock what it needs",
         "The next mlock, RDMA registration or io_uring buffer fails with ENOMEM or EAGAIN.", _memlock),
    Rule("limit.mappings", "it may make more mappings",
         "malloc, thread creation and library loading all fail, with memory to spare.", _map_count),
    Rule("limit.address-space", "it may have more address space",
         "The failure comes far from the limit that causes it.", _address_space),
    Rule("limit.stack", "its stack has room",
         "A stack overflow is a crash without a message.", _stack),
    Rule("oom.immune", "the OOM killer can end it if it must",
         "If it is the one that grew, everything else is killed before the machine stops.", _immune),
    Rule("oom.first", "it is no preferred victim of the OOM killer",
         "It may be ended for what another program takes.", _first),
)  # fmt: skip
