"""An open /proc/PID directory: reads through it never reach another process that reuses the PID."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mematlas.errors import AccessError, TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDED_ERRORS = frozenset({errno.ENOENT, errno.ESRCH})
DENIED_ERRORS = frozenset({errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class ProcessDirectory:
    """The open directory of a process, live or captured. All reads go through the descriptor, not the PID."""

    pid: int
    descriptor: int
    path: str

    def open(self, name: str) -> int:
        """Open one of its files for reading and return the descriptor. The caller closes it."""
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.descriptor)

    def read(self, name: str) -> bytes:
        """Read one of its files and return all bytes."""
        with os.fdopen(self.open(name), "rb", buffering=0) as file:
            return file.read()

    def alive(self) -> bool:
        """Return whether the process still has an address space: neither reaped nor a zombie."""
        try:
            stat = self.read("stat")
        except OSError:
            return False
        return stat[stat.rfind(b")") + 2 :][:1] not in {b"Z", b"X"}


def parse_pid(text: str) -> int:
    """Parse a process ID: a positive number, or `self`. Raises UsageError."""
    if text == "self":
        return os.getpid()
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        message = f"{text!r} is not a process ID; give a number or self"
        raise UsageError(message)
    return int(text)


@contextmanager
def open_process(pid: int, root: str = "/") -> Iterator[ProcessDirectory]:
    """Open the directory of a process and close it afterwards.

    Raises TargetError if there is no such process or it ends meanwhile, AccessError if access is denied.
    """
    path = f"{root}/proc/{pid}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        message = f"there is no process {pid}"
        raise TargetError(message) from None
    try:
        yield ProcessDirectory(pid, descriptor, path)
    except OSError as error:
        raise explain(error, pid) from error
    finally:
        os.close(descriptor)


def explain(error: OSError, pid: int) -> Exception:
    """Return the mematlas error for an OSError: TargetError if the process ended, AccessError if denied."""
    if error.errno in ENDED_ERRORS:
        return TargetError(f"process {pid} ended while it was read")
    if error.errno in DENIED_ERRORS:
        what = f"{error.filename} of " if isinstance(error.filename, str) else ""
        return AccessError(
            f"permission denied: {what}process {pid}; run as its user or as root (CAP_SYS_PTRACE)"
            " (a few processes deny access even to root)"
        )
    return error
