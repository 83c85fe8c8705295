"""A running process that the tracer is to be loaded into: its checks, mappings and symbols."""

from __future__ import annotations

import errno
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from mematlas._core import ProcessCode
from mematlas.errors import AccessError, MematlasError, TargetError, UnsupportedError, UsageError
from mematlas.linux import smaps
from mematlas.linux.mappings import Permission
from mematlas.linux.status import read_status_of

_SYSCALL_INSNS = {  # by processor, with the alignment of instructions
    "x86_64": (b"\x0f\x05", 1),
    "aarch64": (b"\x01\x00\x00\xd4", 4),
}
_SECCOMP_STRICT = 1
_SYSCALL_BYTES = 64  # of the function that holds one
_ELF_64_LITTLE = b"\x7fELF\x02\x01"


@dataclass(frozen=True, slots=True)
class CodeMapping:
    """An executable mapping of a file."""

    start: int
    end: int
    image: int  # address of the file's first byte
    path: str  # as the process sees it

    @property
    def name(self) -> str:
        """File name without its directories."""
        return self.path.rpartition("/")[2]


class Target:
    """A running process, checked and not yet stopped."""

    def __init__(self, pid: int) -> None:
        """Read the process's status and mappings, and check that it can be attached to.

        Raises:
            TargetError: the process does not exist, or ended.
            AccessError: the kernel refuses; CAP_SYS_PTRACE, another user or a Yama setting would allow it.
            UsageError: it is under a debugger, static, a kernel thread or a zombie.
            UnsupportedError: strict seccomp, musl, 32 bits or another processor than x86-64 and aarch64.
        """
        self.pid = pid
        self._root = Path(f"/proc/{pid}/root")
        if platform.machine() not in _SYSCALL_INSNS:
            raise UnsupportedError(
                f"attach works on x86-64 and aarch64, not on {platform.machine()}"
            )
        try:
            self.status = read_status_of(pid)
        except FileNotFoundError:
            raise TargetError(f"there is no process {pid}") from None
        except ProcessLookupError:
            raise TargetError(f"process {pid} has ended") from None
        try:
            self._read()
        except OSError as error:
            raise refusal(pid, error) from None
        except (UsageError, UnsupportedError):
            if self.code and has_ended(pid):  # what is missing was unmapped meanwhile
                raise TargetError(f"process {pid} has ended") from None
            raise

    def check_same_program(self) -> None:
        """Raise TargetError if the process runs another program than was read, which has other addresses.

        To be called while a thread is stopped: no exec comes then.
        """
        if self._read_start() != self._start:
            raise TargetError(
                f"process {self.pid} started another program meanwhile; attach to it again"
            )

    def _read_start(self) -> bytes:
        """Return where the kernel loaded the program and its loader, and put its stack."""
        return Path(f"/proc/{self.pid}/auxv").read_bytes()

    def _read(self) -> None:
        self._start = self._read_start()
        self.code = self.read_code()
        self._check_status()
        self._check_program()
        self.libc = self._find_libc()
        self.process_code = ProcessCode(self.pid)
        self._check_instrumentation()
        self.syscall_insn = self._find_syscall_insn()
        self.dlopen = self._find_dlopen()

    def sees(self, path: str) -> bool:
        """Return whether a path leads to the same file in the process's root directory as here."""
        try:
            there, here = os.stat(f"{self._root}{path}"), os.stat(path)  # noqa: PTH116
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def find_function(self, mapping: CodeMapping, name: str) -> int:
        """Return the address of a library's function in the process; 0 if the library has none."""
        return self.process_code.find_function(mapping.image, name)

    def find_in_libraries(self, name: str) -> int:
        """Return the address of a function of the C library; before glibc 2.34 libdl may have it. 0: none."""
        for each in self.code:
            if each.name.startswith(("libc.", "libc-", "libdl")) and (
                address := self.find_function(each, name)
            ):
                return address
        return 0

    def _find_dlopen(self) -> int:
        found = self.find_in_libraries("dlopen") or self.find_in_libraries("__libc_dlopen_mode")
        if not found:
            raise UnsupportedError(f"process {self.pid}: its C library has no dlopen()")
        return found

    def _find_syscall_insn(self) -> int:
        """Return the address of a system call instruction in the C library: in its function syscall()."""
        start = self.find_function(self.libc, "syscall")
        with Path(f"/proc/{self.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(start)
            code = memory.read(_SYSCALL_BYTES) if start else b""
        insn, step = _SYSCALL_INSNS[platform.machine()]
        offset = next((at for at in range(0, len(code), step) if code.startswith(insn, at)), -1)
        if offset < 0:
            raise UnsupportedError(f"process {self.pid}: its C library has no syscall()")
        return start + offset

    def read_code(self) -> list[CodeMapping]:
        """Read the executable mappings of files as they are now."""
        file_start: dict[tuple[str, int], int] = {}
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
            file = (path, each.inode)  # memfds share a name
            if each.offset == 0:
                file_start.setdefault(file, each.start)
            if each.permissions & Permission.EXECUTE and file in file_start:
                code.append(CodeMapping(each.start, each.end, file_start[file], path))
        return code

    def _check_status(self) -> None:
        lines = self.status.lines
        tracer = int(lines.get("TracerPid", "0"))
        if tracer:
            raise UsageError(
                f"process {self.pid} is traced by process {tracer}, such as a debugger; detach that first"
            )
        self.seccomp = int(lines.get("Seccomp", "0"))
        if self.seccomp == _SECCOMP_STRICT:
            raise UnsupportedError(
                f"process {self.pid} is in seccomp's strict mode: it would be killed for mapping memory"
            )

    def _check_program(self) -> None:
        if not self.code:
            raise UsageError(f"process {self.pid} is a kernel thread or a zombie")
        with Path(f"/proc/{self.pid}/exe").open("rb") as file:
            if file.read(6) != _ELF_64_LITTLE:
                raise UnsupportedError(f"process {self.pid}: not a 64-bit program")

    def _check_instrumentation(self) -> None:
        """Raise UnsupportedError for MemorySanitizer, which ends a program over memory of the tracer."""
        program = os.readlink(f"/proc/{self.pid}/exe")  # noqa: PTH115
        for each in self.code:
            if each.path == program and self.find_function(each, "__msan_init"):
                raise UnsupportedError(
                    f"process {self.pid}: built with MemorySanitizer, which would end it"
                )

    def _find_libc(self) -> CodeMapping:
        if any(each.name.startswith("ld-musl") for each in self.code):
            raise UnsupportedError(
                f"process {self.pid}: built for musl; this mematlas traces glibc programs"
            )
        for each in self.code:
            if each.name.startswith(("libc.so.6", "libc-2.")):
                return each
        raise UsageError(
            f"process {self.pid}: statically linked; the tracer needs a dynamic glibc program"
        )


def has_ended(pid: int) -> bool:
    """Return whether a process is gone or a zombie.

    The main thread alone may be a zombie while other threads run.
    """
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208
        return all(thread_state(pid, int(each)) in {"Z", "X"} for each in threads)
    except OSError:
        return not Path(f"/proc/{pid}/task").exists()


def thread_state(pid: int, tid: int) -> str:
    """Read the state letter of a thread: R, S, D, Z, ... OSError if the thread is gone."""
    stat = Path(f"/proc/{pid}/task/{tid}/stat").read_bytes()
    return chr(stat[stat.rindex(b")") + 2])  # the name before may hold parentheses


def refusal(pid: int, error: OSError) -> MematlasError:
    """Build the error for a process that could not be read or stopped."""
    if error.errno in {errno.ENOENT, errno.ESRCH} or has_ended(pid):
        return TargetError(f"process {pid} has ended")
    if isinstance(error, PermissionError):
        return ptrace_refusal(pid)
    return MematlasError(f"process {pid} cannot be traced: {error.strerror or error}")


def ptrace_refusal(pid: int) -> AccessError:
    """Build the error for a process that ptrace is refused for."""
    try:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    except OSError:
        scope = "0"
    hint = ", or sysctl kernel.yama.ptrace_scope=0" if scope != "0" else ""
    return AccessError(
        f"process {pid} may not be traced; run as its user or with CAP_SYS_PTRACE{hint}"
    )
