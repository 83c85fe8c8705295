"""Getting the tracer into a program that runs, and its hooks out again.

A thread of the program is borrowed to load the library and to call one function of it. That thread must
not be inside the C library's allocator: it would wait for itself. Threads that wait in a system call which
no allocator makes are safe, and so are those at work outside the C library.
"""

from __future__ import annotations

import errno
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas._core import BorrowedThread
from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError, UsageError
from mematlas.linux import smaps
from mematlas.linux.mappings import Permission
from mematlas.linux.status import read_status_of
from mematlas.recording import elf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mematlas._core.syscalls.remote_call import Place

_PATIENCE_S = 10.0
_STOP_S = 1.0
_GAP_S = 0.02
_RTLD_NOW, _RTLD_NODELETE = 2, 0x1000
_SYSCALL = b"\x0f\x05"
_RESTORER = b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"  # mov $15, %rax; syscall: a handler's return
_STACK_LOOK = 256 << 10
# Waiting calls that no allocator makes, by their numbers on x86-64. restart_syscall is any of them that was
# stopped before, with what is left of its time.
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
_FUTEX = 202


@dataclass(frozen=True, slots=True)
class Code:
    """An executable mapping of a file, with the address its file's address 0 has."""

    start: int
    end: int
    bias: int
    path: str  # as the program sees it

    @property
    def name(self) -> str:
        """File name."""
        return self.path.rpartition("/")[2]


class Target:
    """A running program, looked at before it is entered."""

    def __init__(self, pid: int) -> None:
        """Find out if it can be traced. TargetError, AccessError, UsageError, UnsupportedError say why not."""
        self.pid = pid
        self._root = Path(f"/proc/{pid}/root")
        if platform.machine() != "x86_64":
            raise UnsupportedError(f"attach works on x86-64, not yet on {platform.machine()}")
        try:
            self.status = read_status_of(pid).lines
            self._code = self._read_code()
        except FileNotFoundError:
            raise TargetError(f"there is no process {pid}") from None
        except ProcessLookupError:
            raise TargetError(f"process {pid} has ended") from None
        except PermissionError:
            raise _refused(pid) from None
        self._check()
        self.libc = self._find_libc()

    def library(self, path: str) -> Code | None:
        """Find a library that is loaded, by its file."""
        self._code = self._read_code()
        wanted = os.stat(path)  # noqa: PTH116
        for each in self._code:
            try:
                found = os.stat(f"{self._root}{each.path}")  # noqa: PTH116
            except OSError:
                continue
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return each
        return None

    def sees(self, path: str) -> bool:
        """Tell whether a path leads to the same file there as here."""
        try:
            there, here = os.stat(f"{self._root}{path}"), os.stat(path)  # noqa: PTH116
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def function(self, mapping: Code, name: str) -> int:
        """Address of a function in the program; 0 if the library has none."""
        value = elf.address_of(f"{self._root}{mapping.path}", name)
        return value + mapping.bias if value else 0

    def dlopen(self) -> int:
        """Find the function that loads libraries."""
        places = [each for each in self._code if each.name.startswith(("libc.", "libc-", "libdl"))]
        for name in ("dlopen", "__libc_dlopen_mode"):
            for each in places:
                if address := self.function(each, name):
                    return address
        raise UnsupportedError(f"process {self.pid}: its C library has no dlopen()")

    def gadget(self) -> int:
        """Address of a system call instruction."""
        return self._find(_SYSCALL)

    def borrow(self) -> BorrowedThread:
        """Stop a thread where it is safe to; MematlasError if none is found in time."""
        end = time.monotonic() + _PATIENCE_S
        seen: dict[int, Place] = {}
        while time.monotonic() < end:
            if _has_ended(self.pid):
                raise TargetError(f"process {self.pid} has ended")
            for tid in self._threads():
                thread = self._stop(tid)
                if thread is None:
                    continue
                try:
                    if self._is_safe(thread.place, seen.get(tid)):
                        return thread
                    seen[tid] = thread.place
                except BaseException:
                    thread.__exit__()
                    raise
                thread.__exit__()
            time.sleep(_GAP_S)
        raise MematlasError(
            f"process {self.pid}: no thread was found where it can be entered safely; try again"
        )

    def _stop(self, tid: int) -> BorrowedThread | None:
        try:
            return BorrowedThread(self.pid, tid, _STOP_S)
        except PermissionError:
            raise _refused(self.pid) from None
        except OSError as error:
            if error.errno in {
                errno.ESRCH,
                errno.ETIME,
            }:  # the thread ended, or is deep in the kernel
                return None
            raise

    def _is_safe(self, place: Place, before: Place | None) -> bool:
        call = place.system_call
        if (
            call == _FUTEX
        ):  # a lock of the allocator is held for no time: who waits still, waits for more
            if place != before:
                return False
        elif call >= 0:
            if call not in _WAITING.values():
                return False
        elif self._in_runtime(place.pc):
            return False
        return not self._in_handler(place.stack)

    def _in_runtime(self, pc: int) -> bool:
        for each in self._code:
            if each.start <= pc < each.end:
                return each.name.startswith(_RUNTIME)
        return True  # code that no file has: who knows

    def _in_handler(self, stack: int) -> bool:
        """Tell whether a signal handler is at work: what it interrupted may be the allocator."""
        restorer = self._find(_RESTORER)
        if not restorer:
            return False
        with Path(f"/proc/{self.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(stack)
            words = b""
            try:
                words = memory.read(_STACK_LOOK) or b""
            except OSError:  # less of a stack than that
                words = _read_pages(memory.fileno(), stack)
        return restorer.to_bytes(8, "little") in words

    def _find(self, code: bytes) -> int:
        with Path(f"{self._root}{self.libc.path}").open("rb") as file:
            data = file.read()
        at = -1
        while (at := data.find(code, at + 1)) >= 0:
            address = elf.file_address(data, at)
            if address is not None and self.libc.start <= address + self.libc.bias < self.libc.end:
                return address + self.libc.bias
        return 0

    def _threads(self) -> Iterator[int]:
        """Give the threads, those that wait in a system call first."""
        found = []
        try:
            for entry in os.listdir(f"/proc/{self.pid}/task"):  # noqa: PTH208
                try:
                    state = _state(self.pid, int(entry))
                except OSError:
                    continue
                found.append((state != "S", int(entry) != self.pid, int(entry)))
        except OSError:
            raise TargetError(f"process {self.pid} has ended") from None
        yield from (tid for *_, tid in sorted(found))

    def _read_code(self) -> list[Code]:
        found: dict[str, int] = {}
        code = []
        descriptor = os.open(f"/proc/{self.pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
        try:
            mappings = smaps.parse(descriptor)
        finally:
            os.close(descriptor)
        for each in mappings:
            if not each.name.startswith(b"/"):
                continue
            path = os.fsdecode(each.name)
            if each.offset == 0:
                found.setdefault(path, each.start)
            if each.permissions & Permission.EXECUTE and path in found:
                code.append(Code(each.start, each.end, found[path], path))
        return code

    def _check(self) -> None:
        tracer = int(self.status.get("TracerPid", "0"))
        if tracer:
            raise UsageError(
                f"process {self.pid} is under a debugger, PID {tracer}; detach that first"
            )
        if self.status.get("Seccomp", "0").strip() != "0":
            raise UnsupportedError(
                f"process {self.pid} is in a seccomp sandbox, where the tracer's system calls could end it"
            )
        if len(self.status.get("NSpid", "1").split()) > 1:
            raise UnsupportedError(
                f"process {self.pid} is in a PID namespace of its own; run mematlas in its container"
            )
        if not self._code:
            raise UsageError(
                f"process {self.pid} has no code of its own: a kernel thread, or a zombie"
            )
        with Path(f"/proc/{self.pid}/exe").open("rb") as file:
            if file.read(6) != b"\x7fELF\x02\x01":
                raise UnsupportedError(f"process {self.pid}: not a 64-bit program")

    def _find_libc(self) -> Code:
        if any(each.name.startswith("ld-musl") for each in self._code):
            raise UnsupportedError(
                f"process {self.pid}: built for musl; this mematlas traces glibc programs"
            )
        for each in self._code:
            if each.name.startswith(("libc.so.6", "libc-2.")):
                return each
        raise UsageError(f"process {self.pid}: a static program, which loads no libraries")


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


def enter(target: Target, library: str, session: str) -> None:
    """Load the tracer and have it join a session. MematlasError says why it cannot."""
    if not target.sees(library) or not target.sees(session):
        raise UnsupportedError(
            f"process {target.pid} has another root directory; run mematlas in its container"
        )
    with target.borrow() as thread:
        gadget = target.gadget()
        _call(
            target,
            thread,
            gadget,
            target.dlopen(),
            os.fsencode(library),
            _RTLD_NOW | _RTLD_NODELETE,
        )
        mapping = target.library(library)
        attach = mapping and target.function(mapping, "mematlas_attach")
        detach = mapping and target.function(mapping, "mematlas_detach")
        if not attach or not detach:
            raise MematlasError(f"process {target.pid}: it could not load {library}")
        try:
            result = _call(target, thread, gadget, attach, os.fsencode(session), 0) & 0xFFFFFFFF
        except TargetError:
            raise
        except MematlasError as error:
            raise _take_out(target, thread, gadget, detach, error) from None
    result = result - (1 << 32) if result & 1 << 31 else result
    if result == -errno.EBUSY:
        raise UsageError(f"process {target.pid} is traced already; see mematlas detach")
    if result:
        raise MematlasError(f"process {target.pid} cannot be traced: {os.strerror(-result)}")


def _take_out(
    target: Target, thread: BorrowedThread, gadget: int, detach: int, error: MematlasError
) -> MematlasError:
    """Undo what a call that failed half-way may have done; give the error, with how that went."""
    try:
        _call(target, thread, gadget, detach, b"", 0)
    except MematlasError:
        return MematlasError(f"{error}; its hooks could not be taken out: it may not run on")
    return MematlasError(f"{error}; its hooks were taken out again")


def leave(pid: int, library: str) -> bool:
    """Take the hooks out of a program; False if it is gone, or they were not in."""
    try:
        target = Target(pid)
        mapping = target.library(library)
        detach = mapping and target.function(mapping, "mematlas_detach")
        if not detach:
            return False
        with target.borrow() as thread:
            return _call(target, thread, target.gadget(), detach, b"", 0) & 0xFFFFFFFF == 0
    except MematlasError:
        if not _has_ended(pid):
            raise
        return False


def _has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or a zombie; its first thread alone may have ended before the others."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
        return all(_state(pid, int(each)) in {"Z", "X"} for each in threads)
    except OSError:
        return not Path(f"/proc/{pid}/task").exists()


def _call(
    target: Target, thread: BorrowedThread, gadget: int, function: int, text: bytes, second: int
) -> int:
    try:
        return thread.call(gadget, function, text, second) & 0xFFFFFFFFFFFFFFFF
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise TargetError(f"process {target.pid} has ended") from None
        if error.errno == errno.ETIME:
            raise MematlasError(f"process {target.pid} took too long; try again") from None
        raise MematlasError(
            f"process {target.pid} could not be entered: {error.strerror}"
        ) from None


def _refused(pid: int) -> AccessError:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    try:
        value = scope.read_text().strip()
    except OSError:
        value = "0"
    hint = ", or sysctl kernel.yama.ptrace_scope=0" if value != "0" else ""
    return AccessError(
        f"process {pid} may not be traced by you; it takes CAP_SYS_PTRACE or its user{hint}"
    )


def _state(pid: int, tid: int) -> str:
    stat = Path(f"/proc/{pid}/task/{tid}/stat").read_bytes()
    return chr(stat[stat.rindex(b")") + 2])


def _read_pages(memory: int, start: int) -> bytes:
    """Read what there is from an address up, page by page."""
    found, at = b"", start
    while len(found) < _STACK_LOOK:
        size = 4096 - at % 4096
        try:
            found += os.pread(memory, size, at)
        except OSError:
            break
        at += size
    return found
