"""Which process traces another by `mematlas attach`: a socket whose owner the kernel tells.

A listening socket in the abstract namespace ends with its process, and no file of another user has to be
believed: `mematlas detach` takes the PID and user of the listener from the kernel.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import AccessError, MematlasError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

_PREFIX = "mematlas-attach"
_CREDENTIALS = struct.Struct("iII")  # struct ucred
_DETACH_S = 60.0  # a recording of many stacks takes a while to complete


class Attachment:
    """The announcement that this process traces another one; it ends at the end of the block."""

    def __init__(self, pid: int) -> None:
        """Announce it. Names of sockets are free for all, so this one is random."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.bind(f"\0{_PREFIX}.{pid}.{secrets.token_hex(8)}")
        self._socket.listen()

    def __enter__(self) -> Self:
        """Enter the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the announcement."""
        self._socket.close()


@dataclass(frozen=True, slots=True)
class _Owner:
    """The process behind an announcement, by the kernel; the connection breaks when it ends it."""

    pid: int
    uid: int
    connection: socket.socket


def end_attachment(pid: int) -> bool:
    """Interrupt the `mematlas attach` of a process and wait for its end; False if there is none.

    Raises:
        AccessError: another user traces the process.
        MematlasError: the other mematlas does not end.
    """
    for owner in _owners(pid):
        with owner.connection:
            # Others may claim what they like of processes that are not theirs.
            if owner.uid not in {0, os.geteuid(), _user_of(pid)}:
                continue
            _interrupt(owner, pid)
            return True
    return False


def _owners(pid: int) -> Iterator[_Owner]:
    for name in _names(f"@{_PREFIX}.{pid}."):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            connection.connect("\0" + name[1:])
            found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:  # it has just ended, or its queue is full
            connection.close()
            continue
        owner, uid, _ = _CREDENTIALS.unpack(found)
        yield _Owner(owner, uid, connection)


def _names(prefix: str) -> list[str]:
    """List the names of abstract sockets in this network namespace that begin so. proc_net(5)."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()
    except OSError:
        return []
    return sorted({line.split()[-1] for line in lines if f" {prefix}" in line})


def _user_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116
    except OSError:
        return None


def _interrupt(owner: _Owner, pid: int) -> None:
    waiting = select.poll()
    waiting.register(owner.connection, 0)  # POLLHUP and POLLERR
    try:
        process = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        return
    try:
        # The connection holds, so the PID was not reused before pidfd_open().
        if waiting.poll(0):
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGINT)
    except PermissionError:
        raise AccessError(
            f"process {pid} is traced by another user's mematlas, PID {owner.pid}; run as root"
        ) from None
    finally:
        os.close(process)
    if not waiting.poll(_DETACH_S * 1000):
        raise MematlasError(
            f"process {pid} is still traced: mematlas, PID {owner.pid}, does not end; try again"
        )
