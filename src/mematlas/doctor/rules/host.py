"""Rules about the machine: shortage, swap, overcommit, cgroup limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mematlas.doctor.model import Fix, FixKind, Found, HostState, Rule, Severity, Unknown
from mematlas.doctor.rules.fixes import NO_MEMINFO, inspect, largest, percent, tune
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from mematlas.doctor.model import Answer
    from mematlas.linux.machine import Stall

_MIB, _GIB = 1 << 20, 1 << 30
_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO
_SWAP_BUSY = 100  # pages per second, in and out
_STALLED = 5.0  # percent of time
_TOO_SHORT = Unknown("rates need a longer check: --duration 2s")


def _nearly_out(state: HostState) -> Answer:
    info = state.now.meminfo
    total, available = info.get("MemTotal"), info.get("MemAvailable")
    if not total or available is None:
        return NO_MEMINFO
    if available >= total // 20:
        return None
    swap = info.get("SwapFree", 0)
    return Found(
        _CRITICAL,
        f"memory is nearly exhausted: {format_bytes(available)} of {format_bytes(total)} are available",
        (
            f"MemAvailable {percent(available, total)} of MemTotal",
            f"free swap: {format_bytes(swap)}"
            if info.get("SwapTotal")
            else "no swap is configured",
            f"{state.now.vmstat.get('oom_kill', 0)} OOM kills since boot",
            *largest(state, "pss"),
        ),
        (
            inspect("mematlas ps --sort pss", "which processes use it"),
            inspect("mematlas system", "how much of it is cache, shared memory and slab"),
        ),
        total - available,
    )


def _stall(state: HostState, kind: str) -> Stall | None:
    return next((each for each in state.now.stalls if each.kind == kind), None)


def _stalling(state: HostState) -> Answer:
    some, full = _stall(state, "some"), _stall(state, "full")
    if some is None:
        return Unknown(
            "/proc/pressure/memory does not exist: the kernel needs CONFIG_PSI, or psi=1"
        )
    if some.average10 < _STALLED:
        return None
    whole = full.average10 if full else 0.0
    return Found(
        _CRITICAL if whole >= _STALLED / 2 else _WARNING,
        f"programs wait for memory {some.average10:.0f} % of the time",
        (
            f"pressure over 10 s: some {some.average10:.1f} %, full {whole:.1f} %",
            f"over 60 s: some {some.average60:.1f} %",
            *largest(state, "pss"),
        ),
        (
            inspect("mematlas system pressure --duration 5s", "which kind of reclaim"),
            inspect("mematlas ps --sort pss", "which processes use the memory"),
        ),
    )


def _swap_thrash(state: HostState) -> Answer:
    into, out = state.rate("pswpout"), state.rate("pswpin")
    if into is None or out is None:
        return _TOO_SHORT if "pswpin" in state.now.vmstat else None
    refault = state.rate("workingset_refault_anon") or 0.0
    if min(into, out) < _SWAP_BUSY:
        return None
    page = state.now.page_size
    return Found(
        _CRITICAL,
        "pages are swapped out and read back at once (thrashing)",
        (
            (
                f"{format_bytes(into * page)}/s written to swap, {format_bytes(out * page)}/s read back, "
                f"over {state.seconds:.0f} s"
            ),
            f"{refault:,.0f} pages/s were needed again soon after they were swapped out",
            f"vm.swappiness is {state.sysctl.get('swappiness', 'unknown')}",
            *largest(state, "swap"),
        ),
        (
            inspect("mematlas ps --sort swap", "whose memory it is"),
            inspect(
                "mematlas ps --sort pss",
                "which program to stop or move: no setting makes up for memory",
            ),
        ),
        int(into * page),
    )


def _overcommit(state: HostState) -> Answer:
    info, mode = state.now.meminfo, state.number("overcommit_memory")
    limit, committed = info.get("CommitLimit"), info.get("Committed_AS")
    total = info.get("MemTotal")
    if limit is None or committed is None or mode is None or not total:
        return Unknown("/proc/meminfo or vm.overcommit_memory cannot be read")
    if mode == 2:
        return _strict_overcommit(state, committed, limit)
    return _loose_overcommit(state, committed, total + info.get("SwapTotal", 0), mode)


def _strict_overcommit(state: HostState, committed: int, limit: int) -> Answer:
    if committed < limit * 9 // 10:
        return None
    return Found(
        _CRITICAL,
        "allocations and forks are about to fail: the commit limit is nearly reached",
        (
            f"{format_bytes(committed)} committed (Committed_AS)",
            f"limit {format_bytes(limit)} (CommitLimit), vm.overcommit_memory=2",
        ),
        (
            tune(
                "overcommit.ratio",
                f"overcommit_ratio={_ratio(state, committed)}",
                "25 % above what is committed now",
            ),
            tune(
                "overcommit.heuristic", "overcommit_memory=0", "heuristic overcommit, the default"
            ),
            inspect("mematlas ps --sort rss", "which processes may have committed most"),
        ),
        committed,
    )


def _loose_overcommit(state: HostState, committed: int, backing: int, mode: int) -> Answer:
    if committed <= backing:
        return None
    return Found(
        _WARNING if mode == 0 else _CRITICAL,
        "more memory is committed than exists: if it is used, the OOM killer kills programs",
        (
            f"{format_bytes(committed)} committed (Committed_AS)",
            f"{format_bytes(backing)} of memory and swap; vm.overcommit_memory={mode}",
            f"{format_bytes(state.now.meminfo.get('MemAvailable', 0))} are available now",
            *largest(state, "rss"),
        ),
        (
            inspect("mematlas ps --sort rss", "which processes may grow"),
            Fix(
                "overcommit.victim",
                FixKind.EXEC,
                "mematlas exec --oom-score 500 -- COMMAND",
                "choose which program is killed first",
            ),
        ),
        committed - backing,
    )


def _ratio(state: HostState, committed: int) -> int:
    info = state.now.meminfo
    total = info["MemTotal"] - info.get("Hugetlb", 0)
    return max(1, -(-(committed * 5 // 4 - info.get("SwapTotal", 0)) * 100 // total))


def _kills(state: HostState) -> tuple[int, int] | Unknown:
    """Return the OOM kills since boot, and those of them during the check."""
    count = state.now.vmstat.get("oom_kill")
    if count is None:
        return Unknown("this kernel's vmstat has no oom_kill")
    return count, count - state.before.vmstat.get("oom_kill", 0)


def _processes(count: int) -> str:
    return f"{count} process{'' if count == 1 else 'es'}"


_WHICH = inspect("dmesg | grep -i 'killed process'", "which processes, how large, which cgroup")


def _killing(state: HostState) -> Answer:
    kills = _kills(state)
    if isinstance(kills, Unknown) or not kills[1]:
        return kills if isinstance(kills, Unknown) else None
    return Found(
        _CRITICAL,
        f"the OOM killer killed {_processes(kills[1])} during the check",
        (f"oom_kill in /proc/vmstat: {kills[0]}, {kills[1]} of them in {state.seconds:.1f} s",),
        (_WHICH,),
    )


def _killed(state: HostState) -> Answer:
    kills = _kills(state)
    if isinstance(kills, Unknown) or kills[0] == kills[1]:
        return kills if isinstance(kills, Unknown) else None
    earlier = kills[0] - kills[1]
    return Found(
        _INFO,
        f"the OOM killer killed {_processes(earlier)} since boot, before this check",
        (f"oom_kill in /proc/vmstat: {kills[0]}; the kernel log has the time of each",),
        (_WHICH,),
    )


def _uncompressed_swap(state: HostState) -> Answer:
    areas = [each for each in state.now.swaps if "zram" not in each.name]
    used = sum(each.used for each in areas)
    zswap = state.now.zswap.get("enabled")
    if zswap is None or zswap == "Y" or used < 256 * _MIB:
        return None
    return Found(
        _WARNING,
        f"{format_bytes(used)} are swapped to a device without compression in memory first",
        (
            *(f"{each.name}: {format_bytes(each.used)} used" for each in areas),
            "zswap is off",
            *largest(state, "swap"),
        ),
        (
            inspect(
                "mematlas tune plan zswap.enabled=1",
                "what compressing in memory first would change",
            ),
        ),
        used,
    )


def _reclaim_waits(state: HostState) -> Answer:
    scanned = state.rate("pgscan_direct")
    if scanned is None:
        return _TOO_SHORT
    if scanned < 1000:
        return None
    reclaimed = state.rate("pgsteal_direct") or 0.0
    return Found(
        _WARNING,
        "programs reclaim memory during allocation, because kswapd starts too late",
        (
            (
                f"{scanned:,.0f} pages/s scanned and {reclaimed:,.0f} freed by direct reclaim, over "
                f"{state.seconds:.0f} s"
            ),
            f"vm.watermark_scale_factor={state.sysctl.get('watermark_scale_factor', 'unknown')}",
        ),
        (inspect("mematlas system pressure --duration 5s", "how long programs wait"),),
    )


RULES: tuple[Rule[HostState], ...] = (
    Rule("memory.nearly-out", "memory is available",
         "The next large allocation slows down every program, or makes the OOM killer kill one.",
         _nearly_out),
    Rule("memory.stalling", "programs do not wait for memory",
         "Time spent waiting for reclaim is lost to every program that allocates.", _stalling),
    Rule("memory.direct-reclaim", "kswapd keeps up",
         "Each such allocation takes milliseconds instead of nanoseconds.", _reclaim_waits),
    Rule("swap.thrash", "swap does not thrash",
         "Each page read back stalls a program for a device access; throughput falls by orders of "
         "magnitude.", _swap_thrash),
    Rule("swap.uncompressed", "swapped memory is compressed in memory first",
         "Most pages compress to a third, and are read back from memory in microseconds.",
         _uncompressed_swap),
    Rule("overcommit", "committed memory exists",
         "malloc succeeds now, and fails later as an OOM kill, which may hit another program.",
         _overcommit),
    Rule("oom.killing", "the OOM killer kills nothing now",
         "The machine is out of memory, and any program may be the next.", _killing),
)  # fmt: skip
PAST_RULES: tuple[Rule[HostState], ...] = (
    Rule("oom.killed", "the OOM killer killed nothing since boot",
         "An OOM kill is easily mistaken for a crash.", _killed),
)  # fmt: skip
"""Rules about the past of the machine, which say nothing about a process that runs now."""
