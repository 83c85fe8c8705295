"""The choice of a thread in which a function may be called.

The call may allocate and load a library, so the thread must not be inside the C library's allocator or the
loader: it would wait for its own lock. Each thread is stopped for the time of unwinding its stack, from
outside. A thread that is safe is stopped again and used, unless any thread is in the loader: loading would wait for that
thread, which may wait for the stopped one. If all are inside the library, one is let run until it leaves it.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas._core import Place, StoppedThread, Verdict
from mematlas.errors import MematlasError, TargetError
from mematlas.tracing.target import has_ended, ptrace_refusal, thread_state

if TYPE_CHECKING:
    from mematlas._core.attach.thread import Registers
    from mematlas.tracing.target import Target

_SEARCH_S = 5.0
_STOP_TIMEOUT_S = 1.0
_RETRY_S = 0.02
_RUN_OUT_S = 0.5
_LONG_S = 0.2  # an allocator holds its lock for microseconds, on a busy machine for milliseconds


@dataclass(frozen=True, slots=True)
class _Look:
    """What one look at a thread found."""

    tid: int
    registers: Registers
    place: Place
    group_stopped: bool
    since: float  # time of the first look that found it there


def stop_safe_thread(target: Target) -> StoppedThread:
    """Stop a thread of a process where a function may be called in it.

    Raises:
        TargetError: the process has ended.
        AccessError: ptrace is refused.
        MematlasError: no thread was safe within five seconds; the message says where they are.
    """
    end = time.monotonic() + _SEARCH_S
    looks: list[_Look] = []
    while True:
        looks = _look_at_all(target, {each.tid: each for each in looks})
        loading = any(each.place.verdict is Verdict.LOADER for each in looks)
        thread = None if loading else _stop_safe(target, looks) or _run_one_out(target, looks)
        if thread:
            return thread
        if time.monotonic() >= end:
            raise MematlasError(f"process {target.pid}: {_explain(looks)}")
        time.sleep(_RETRY_S)


def _look_at_all(target: Target, before: dict[int, _Look]) -> list[_Look]:
    """Unwind every thread, one by one, so that each is stopped for its own unwinding only."""
    found = []
    for tid in _threads(target.pid):
        if thread := _stop(target, tid):
            with thread:
                found.append(_look(target, thread, before.get(tid)))
    if not found and has_ended(target.pid):
        raise TargetError(f"process {target.pid} has ended")
    return found


def _look(target: Target, thread: StoppedThread, before: _Look | None) -> _Look:
    registers, now = thread.registers, time.monotonic()
    stayed = before is not None and before.registers == registers
    since = before.since if before and stayed else now
    place = thread.find_place(target.process_code)
    return _Look(thread.tid, registers, place, thread.group_stopped, since)


def _stop_safe(target: Target, looks: list[_Look]) -> StoppedThread | None:
    """Stop a thread that was safe and still is."""
    for each in looks:
        if not _is_safe(each):
            continue
        thread = _stop(target, each.tid)
        if thread and _is_safe(_look(target, thread, each)):
            return thread
        if thread:
            thread.__exit__()
    return None


def _is_safe(look: _Look) -> bool:
    """Return whether a thread may be entered."""
    if look.place.verdict is Verdict.BRIEF:
        return time.monotonic() - look.since >= _LONG_S
    return look.place.verdict is Verdict.SAFE


def _run_one_out(target: Target, looks: list[_Look]) -> StoppedThread | None:
    """Run a thread until it leaves the library, and stop it there; None: no thread left it in time."""
    for each in looks:
        if each.place.verdict is not Verdict.LIBRARY or not each.place.out_pc:
            continue
        thread = _stop(target, each.tid)
        if thread is None:
            continue
        if _leave_library(target, thread):
            return thread
        thread.__exit__()
    return None


def _leave_library(target: Target, thread: StoppedThread) -> bool:
    place = thread.find_place(target.process_code)
    if place.verdict is Verdict.SAFE:
        return True
    if not place.out_pc:
        return False
    try:
        thread.run_out(place.out_pc, place.out_sp, _RUN_OUT_S)
    except OSError as error:
        if error.errno == errno.ESRCH:
            return False
        # ETIME, EBUSY; no breakpoints in this virtual machine: ENOSPC, EINVAL, EIO
    return thread.find_place(target.process_code).verdict is Verdict.SAFE


def _explain(looks: list[_Look]) -> str:
    """Return why no thread can be entered, and what would help."""
    if not looks:
        return (
            "none of its threads could be stopped within a second; they wait for a device, or for a child"
            " made by vfork()"
        )
    look = max(looks, key=lambda each: each.place.verdict is Verdict.LOADER)
    place = look.place
    where = f"{place.function}() of {place.file}" if place.function else place.file
    where = where or "the C library"
    whose = "its only thread" if len(looks) == 1 else f"thread {look.tid}"
    if place.verdict is Verdict.LOADER:
        return f"{whose} is loading a library, in {where}; attach when that is done"
    if place.verdict is Verdict.UNKNOWN:
        return (
            f"{whose} runs code of {where} that has no unwind information, so that nothing tells whether"
            " a lock of the allocator is held; attach while the program waits for something"
        )
    if look.group_stopped:
        return f"stopped by a signal inside {where}; let it go on with: kill -CONT {look.tid}"
    if place.handlers:
        return (
            f"a signal handler runs in {whose} over {where}, whose lock it may hold;"
            " attach when the handler has returned"
        )
    return f"{whose} stays inside {where}, whose lock it may hold"


def _stop(target: Target, tid: int) -> StoppedThread | None:
    try:
        thread = StoppedThread(target.pid, tid, _STOP_TIMEOUT_S)
    except PermissionError:
        raise ptrace_refusal(target.pid) from None
    except OSError as error:
        if error.errno in {errno.ESRCH, errno.ETIME}:  # the thread ended, or is in state D
            return None
        raise
    thread.syscall_insn = target.syscall_insn
    return thread


def _threads(pid: int) -> list[int]:
    """List thread IDs: those waiting in the kernel first, the main thread first among equals.

    Threads that cannot be stopped now, dead or in state D, are left out.
    """
    found = []
    try:
        for entry in Path(f"/proc/{pid}/task").iterdir():
            try:
                state = thread_state(pid, int(entry.name))
            except OSError:
                continue
            if state not in {"D", "X", "Z"}:
                found.append((state != "S", int(entry.name) != pid, int(entry.name)))
    except OSError:
        raise TargetError(f"process {pid} has ended") from None
    return [tid for *_, tid in sorted(found)]
