"""Rules about a recording: leaks, bad frees, slack, temporary large blocks, page sizes and swap."""

from __future__ import annotations

import shlex
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from mematlas.doctor.model import Fix, FixKind, Found, RecordingState, Rule, Severity, Unknown
from mematlas.doctor.rules.fixes import command_line, inspect
from mematlas.report import leaks as leak_words
from mematlas.report.analyse.lines import owning_frame
from mematlas.report.analyse.table import StackTable
from mematlas.report.frame_names import directory_of, function_name, location
from mematlas.report.model.leaks import LeakVerdict
from mematlas.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mematlas.doctor.model import Answer
    from mematlas.recording.model import Frame
    from mematlas.report.model.report import StackStats

_MIB = 1 << 20
_LARGE = 64 * _MIB
_CRITICAL, _WARNING, _INFO = Severity.CRITICAL, Severity.WARNING, Severity.INFO
_MMAP_THRESHOLD = 128 << 10
_NO_RESIDENCY = Unknown("the recording has no residency snapshot")


def _at(state: RecordingState, frames: tuple[Frame, ...]) -> str:
    """Format function and line that a stack is attributed to, as the report does."""
    frame = owning_frame(frames)
    if frame is None:
        return "unknown stack"
    return f"{function_name(frame)} {location(frame, directory_of(state.report, []))}"


def _command(state: RecordingState) -> str:
    return command_line(state.recording.command)


def _leaks(state: RecordingState) -> Answer:
    for verdict, severity, did in (
        (LeakVerdict.GROWING, _WARNING, "grew to the end (a leak, or data being built)"),
        (
            LeakVerdict.UNFREED,
            _INFO,
            "were never freed; whether they grow cannot be told from this run",
        ),
    ):
        whole = state.leaks.sum_of(verdict)
        main = leak_words.largest(state.leaks, verdict)
        least = max(_MIB, state.report.peak_live_bytes // 50)
        if main and leak_words.is_told(main) and whole.live_bytes - 2 * whole.error_bytes >= least:
            return _leaked(state, verdict, severity, f"{format_bytes(whole.live_bytes)} {did}")
    return None


def _leaked(state: RecordingState, verdict: LeakVerdict, severity: Severity, title: str) -> Found:
    leaks = islice(state.leaks.leaks, leak_words.SEARCHED)
    found = list(islice((each for each in leaks if each.verdict is verdict), 3))
    return Found(
        severity,
        title,
        tuple(
            f"{format_bytes(each.live_bytes)} by {_at(state, each.frames)}: {each.evidence}"
            for each in found
        ),
        (inspect(f"mematlas leaks {shlex.quote(state.path)}", "all stacks, with their callers"),),
        state.leaks.sum_of(verdict).live_bytes,
    )


def _bad_frees(state: RecordingState) -> Answer:
    bad = state.report.bad_frees
    if not bad:
        return None
    return Found(
        _CRITICAL,
        f"{sum(each.count for each in bad):,} frees of pointers to no live allocation",
        tuple(f"{each.count:,} from {_at(state, each.frames)}" for each in bad[:3]),
        (
            inspect(f"mematlas report {shlex.quote(state.path)}"),
            Fix("frees.check", FixKind.EXEC, f"MALLOC_CHECK_=3 LD_PRELOAD=libc_malloc_debug.so.0 {_command(state)}",
                "glibc then aborts at the first one"),
        ),
    )  # fmt: skip


def _ranked(state: RecordingState, cost: dict[StackStats, int]) -> Iterable[str]:
    for stack, size in sorted(cost.items(), key=lambda each: -each[1])[:3]:
        yield f"{format_bytes(size)} by {_at(state, stack.frames)}"


def _small_pages(state: RecordingState) -> Answer:
    if not state.report.account.parts:
        return _NO_RESIDENCY
    stacks = StackTable.of(state.report.stacks)
    live, count, resident, huge = (
        stacks.columns[name]
        for name in ("live_bytes", "live_count", "resident_bytes", "huge_bytes")
    )
    large = (count != 0) & (live / np.where(count, count, 1) >= 4 * _MIB)
    cost = {
        each: each.resident_bytes - each.huge_bytes
        for each in stacks.where(large & (huge < resident // 2))
    }
    size = sum(cost.values())
    if size < _LARGE:
        return None
    return Found(
        _WARNING,
        f"{format_bytes(size)} of large blocks were not in huge pages at the peak",
        tuple(_ranked(state, cost)),
        (
            Fix("thp.malloc", FixKind.EXEC, f"mematlas exec --huge thp -- {_command(state)}",
                "malloc requests huge pages"),
            Fix("thp.arrays", FixKind.CODE, 'with mematlas.memory.numpy(huge="thp"): ...', "for arrays"),
            inspect(f"mematlas report --by huge {shlex.quote(state.path)}"),
        ),
        size,
    )  # fmt: skip


def _untouched(state: RecordingState) -> Answer:
    if not state.report.account.parts:
        return _NO_RESIDENCY
    stacks = StackTable.of(state.report.stacks)
    live, resident = stacks.metric("live"), stacks.metric("resident")
    cost = {
        each: each.live_bytes - each.resident_bytes - each.swapped_bytes
        for each in stacks.where((live >= _LARGE) & (resident < live // 10))
    }
    size = sum(cost.values())
    if size < 4 * _LARGE:
        return None
    return Found(
        _INFO,
        f"{format_bytes(size)} were allocated and never touched",
        tuple(_ranked(state, cost)),
        (
            inspect(f"mematlas report --by live {shlex.quote(state.path)}",
                    "reserved memory costs nothing unless vm.overcommit_memory=2 or RLIMIT_AS counts it"),
        ),
        size,
    )  # fmt: skip


def _churn(state: RecordingState) -> Answer:
    peak = max(state.report.peak_live_bytes, 1)
    stacks = StackTable.of(state.report.stacks)
    allocated, times = stacks.metric("allocated"), stacks.columns["allocations"]
    large = (times >= 100) & (allocated / np.maximum(times, 1) >= _MMAP_THRESHOLD)
    cost = {each: each.allocated_bytes for each in stacks.where(large & (allocated >= 20 * peak))}
    size = sum(cost.values())
    minor = _sum(state, "minor_faults")
    if size < 1 << 30 or minor < size // 4096 // 2:  # kept in a heap or a cache, blocks cost little
        return None
    return Found(
        _WARNING,
        f"{format_bytes(size)} were allocated in large blocks that were freed soon after",
        (
            *_ranked(state, cost),
            f"{size // peak:,} times the peak of live memory; {minor:,.0f} page faults in the run",
        ),
        (
            Fix(
                "churn.tunables",
                FixKind.EXEC,
                "GLIBC_TUNABLES=glibc.malloc.mmap_threshold=1073741824:"
                f"glibc.malloc.trim_threshold=1073741824 {_command(state)}",
                "keeps such blocks in the heap instead of mapping each one",
            ),
            Fix(
                "churn.out",
                FixKind.CODE,
                "numpy.multiply(a, b, out=buffer)",
                "writes into a buffer that is kept",
            ),
            Fix(
                "churn.cache",
                FixKind.CODE,
                'with mematlas.memory.numpy(cache="256M"): ...',
                "or caches freed blocks",
            ),
        ),
        size,
    )


def _sum(state: RecordingState, column: str) -> float:
    """Sum the last values of a counter over all processes."""
    last = [rows[column][~np.isnan(rows[column])] for rows in state.recording.timeline.values()]
    return float(sum(values[-1] for values in last if len(values)))


def _swapped(state: RecordingState) -> Answer:
    stacks = StackTable.of(state.report.stacks)
    cost = {each: each.swapped_bytes for each in stacks.where(stacks.metric("swapped") != 0)}
    size = sum(cost.values())
    if size < 16 * _MIB:
        return None
    return Found(
        _CRITICAL,
        f"{format_bytes(size)} of live blocks were in swap at the peak",
        (*_ranked(state, cost), f"{_sum(state, 'major_faults'):,.0f} major faults in the run"),
        (
            inspect(f"mematlas report --by swapped {shlex.quote(state.path)}"),
            Fix(
                "swap.lock",
                FixKind.EXEC,
                f"mematlas exec --lock-all -- {_command(state)}",
                "takes CAP_IPC_LOCK, or a limit of locked memory above all that it uses: ulimit -l",
            ),
        ),
        size,
    )


def _unrecorded(state: RecordingState) -> Answer:
    untraced = [each for each in state.report.processes if each.note]
    reasons = [f"process {each.pid} {each.command}: {each.note}" for each in untraced]
    if not (state.recording.complete or state.recording.lossy):
        reasons.insert(0, "the recording was cut short; its figures are right up to its last chunk")
    if not reasons:
        return None
    return Found(
        _INFO,
        "parts of the run were not recorded",
        tuple(reasons[:5]),
        (inspect(f"mematlas report {shlex.quote(state.path)}", "see its notes"),),
    )


RULES: tuple[Rule[RecordingState], ...] = (
    Rule("leaks", "no memory grew to the end",
         "Memory that only grows ends in an OOM kill.", _leaks),
    Rule("bad-frees", "every freed pointer was a live allocation",
         "A double or invalid free corrupts the heap; the crash comes later and elsewhere.", _bad_frees),
    Rule("thp.small-blocks", "large blocks are in huge pages",
         "First touch is 5 times, random access 1.5 to 2.4 times slower in 4 KiB pages.", _small_pages),
    Rule("untouched", "allocated memory was used",
         "Memory that is allocated and not used makes limits and dashboards misleading.", _untouched),
    Rule("churn", "large blocks are reused",
         "Each is mapped, faulted in page by page, zeroed, and unmapped again.", _churn),
    Rule("swap.blocks", "live blocks were not in swap",
         "The program waits for a device access when it uses swapped blocks.", _swapped),
    Rule("recording.partial", "all of the run was recorded",
         "Other checks cannot find problems in what was not recorded.", _unrecorded),
)  # fmt: skip
