"""The choice of a thread in which a function may be called.

The call may allocate, so the thread must not be inside the C library's allocator: it would deadlock on its
own lock. Two kinds of threads are safe, if no signal handler is active in them: those waiting in a system
call that no allocator makes, and those running code outside the C library.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas._core import StoppedThread
from mematlas.errors import MematlasError, TargetError
from mematlas.tracing.target import has_ended, ptrace_refusal, thread_state

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas._core.syscalls.remote_call import Registers
    from mematlas.tracing.target import Target

_SEARCH_S = 10.0
_STOP_TIMEOUT_S = 1.0
_RETRY_S = 0.02
_SIGRETURN_INSNS = b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"  # mov $15, %rax; syscall
_STACK_BYTES = 256 << 10
# System calls that wait and that no allocator makes, by their numbers on x86-64. A call that was stopped
# before goes on as restart_syscall, with the rest of its timeout.
_WAITING = {
    "read": 0,
    "poll": 7,
    "select": 23,
    "pause": 34,
    "nanosleep": 35,
    "connect": 42,
    "accept": 43,
    "recvfrom": 45,
    "recvmsg": 47,
    "wait4": 61,
    "rt_sigtimedwait": 128,
    "rt_sigsuspend": 130,
    "restart_syscall": 219,
    "clock_nanosleep": 230,
    "epoll_wait": 232,
    "waitid": 247,
    "pselect6": 270,
    "ppoll": 271,
    "epoll_pwait": 281,
    "accept4": 288,
    "recvmmsg": 299,
    "epoll_pwait2": 441,
}
_WAITING_NUMBERS = frozenset(_WAITING.values())
_FUTEX = 202
_RUNTIME = (
    "libc.",
    "libc-",
    "ld-",
    "libpthread",
    "libjemalloc",
    "libmimalloc",
    "libtcmalloc",
    "libmematlas",
)


def stop_safe_thread(target: Target) -> StoppedThread:
    """Stop a thread of a process where a function may be called in it.

    Raises:
        TargetError: the process has ended.
        AccessError: ptrace is refused.
        MematlasError: no thread was safe within ten seconds.
    """
    end = time.monotonic() + _SEARCH_S
    seen: dict[int, Registers] = {}
    while time.monotonic() < end:
        if has_ended(target.pid):
            raise TargetError(f"process {target.pid} has ended")
        for tid in _threads(target.pid):
            if thread := _stop_if_safe(target, tid, seen):
                return thread
        time.sleep(_RETRY_S)
    raise MematlasError(
        f"process {target.pid}: no thread could be interrupted safely within {_SEARCH_S:.0f} s; try again"
    )


def _stop_if_safe(target: Target, tid: int, seen: dict[int, Registers]) -> StoppedThread | None:
    thread = _stop(target.pid, tid)
    if thread is None:
        return None
    try:
        registers = thread.registers
        if _is_safe(target, registers, seen.get(tid)):
            return thread
        seen[tid] = registers
    except BaseException:
        thread.__exit__()
        raise
    thread.__exit__()
    return None


def _stop(pid: int, tid: int) -> StoppedThread | None:
    try:
        return StoppedThread(pid, tid, _STOP_TIMEOUT_S)
    except PermissionError:
        raise ptrace_refusal(pid) from None
    except OSError as error:
        if error.errno in {errno.ESRCH, errno.ETIME}:  # the thread ended, or is in state D
            return None
        raise


def _is_safe(target: Target, registers: Registers, before: Registers | None) -> bool:
    """Return whether a thread is outside the allocator; `before`: its registers at the last try."""
    call = registers.system_call
    if call == _FUTEX:
        # An allocator's lock is held for microseconds: a thread at the same place after 20 ms waits for
        # something else.
        if registers != before:
            return False
    elif call >= 0:
        if call not in _WAITING_NUMBERS:
            return False
    elif _runs_runtime(target, registers.pc):
        return False
    return not _in_signal_handler(target, registers.sp)


def _runs_runtime(target: Target, pc: int) -> bool:
    """Return whether an address is in a library that allocates; true for code without a file, as of a JIT."""
    for each in target.code:
        if each.start <= pc < each.end:
            return each.name.startswith(_RUNTIME)
    return True


def _in_signal_handler(target: Target, sp: int) -> bool:
    """Return whether the stack holds a signal frame: the handler may have interrupted the allocator.

    A signal frame's return address is that of libc's sigreturn trampoline.
    """
    trampoline = target.find_in_libc(_SIGRETURN_INSNS)
    if not trampoline:
        return False
    with Path(f"/proc/{target.pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(sp)
        try:
            words = memory.read(_STACK_BYTES) or b""
        except OSError:  # the stack ends before that
            words = _read_pages(memory.fileno(), sp)
    return trampoline.to_bytes(8, "little") in words


def _threads(pid: int) -> Iterator[int]:
    """List thread IDs: those waiting in the kernel first, the main thread first among equals."""
    found = []
    try:
        for entry in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            try:
                state = thread_state(pid, int(entry))
            except OSError:
                continue
            found.append((state != "S", int(entry) != pid, int(entry)))
    except OSError:
        raise TargetError(f"process {pid} has ended") from None
    yield from (tid for *_, tid in sorted(found))


def _read_pages(memory: int, start: int) -> bytes:
    """Read page by page from an address to the first page that is not mapped."""
    found, address = b"", start
    while len(found) < _STACK_BYTES:
        size = 4096 - address % 4096
        try:
            found += os.pread(memory, size, address)
        except OSError:
            break
        address += size
    return found
