"""A process held fast: its /proc directory, open, so that a reused PID is never read instead."""

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
    """One process, or a captured one. All reads go through the directory, never through the PID."""

    pid: int
    descriptor: int
    path: str

    def open(self, name: str) -> int:
        """Open one of its files, for reading; close it with os.close."""
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.descriptor)

    def read(self, name: str) -> bytes:
        """One of its files, whole."""
        with os.fdopen(self.open(name), "rb", buffering=0) as file:
            return file.read()

    def alive(self) -> bool:
        """Tell whether it still has an address space to tell about: neither reaped nor a zombie."""
        try:
            stat = self.read("stat")
        except OSError:
            return False
        return stat[stat.rfind(b")") + 2 :][:1] not in {b"Z", b"X"}


def parse_pid(text: str) -> int:
    """Process ID from what a user wrote: a number, or `self`."""
    if text == "self":
        return os.getpid()
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        message = f"{text!r} is not a process ID; give a number, or self"
        raise UsageError(message)
    return int(text)


@contextmanager
def open_process(pid: int, root: str = "/") -> Iterator[ProcessDirectory]:
    """Hold a process for the time of a reading; refusals and exits become errors that say so."""
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
    """Turn a refusal or a disappearance into the error that says what to do."""
    if error.errno in ENDED_ERRORS:
        return TargetError(f"process {pid} ended while it was read")
    if error.errno in DENIED_ERRORS:
        what = f"{error.filename} of " if isinstance(error.filename, str) else ""
        return AccessError(
            f"the kernel refuses {what}process {pid}: be its user, or have CAP_SYS_PTRACE"
            " (run as root); a few processes are closed even to root"
        )
    return error
