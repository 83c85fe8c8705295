"""Which process traces another by `mematlas attach`: a socket whose owner the kernel tells.

A listening socket in the abstract namespace ends with its process, and no file of another user has to be
believed: `mematlas detach` takes the PID and user of the listener from the kernel.
"""

from __future__ import annotations

import os
import re
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
from mematlas.linux.status import read_status_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

_PREFIX = "mematlas-attach"
_CREDENTIALS = struct.Struct("iII")  # struct ucred
_INODE, _NAME = 6, 7  # words of a line of /proc/net/unix
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
    inodes: frozenset[str]  # of the sockets with that name
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
            if _interrupt(owner, pid):
                return True
    return False


def _owners(pid: int) -> Iterator[_Owner]:
    for name, inodes in _sockets(f"@{_PREFIX}.{pid}.").items():
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            connection.connect("\0" + name[1:])
            found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:  # it has just ended, or its queue is full
            connection.close()
            continue
        owner, uid, _ = _CREDENTIALS.unpack(found)
        yield _Owner(owner, uid, frozenset(inodes), connection)


def _sockets(prefix: str) -> dict[str, set[str]]:
    """Return the inodes of the abstract sockets that are named so in this network namespace, by name."""
    try:
        table = Path("/proc/net/unix").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return {}
    return parse_sockets(table, prefix)


def parse_sockets(table: str, prefix: str) -> dict[str, set[str]]:
    """Parse /proc/net/unix, proc_net(5): inodes by name, of the prefix and 16 hexadecimal digits.

    The kernel writes names as they are. A name with a line break can claim any inode for any name.
    """
    whole = re.compile(re.escape(prefix) + "[0-9a-f]{16}")
    found: dict[str, set[str]] = {}
    for line in table.split("\n"):
        words = line.split(maxsplit=_NAME)
        if len(words) > _NAME and whole.fullmatch(words[_NAME]):
            found.setdefault(words[_NAME], set()).add(words[_INODE])
    return found


def _user_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116
    except OSError:
        return None


def _interrupt(owner: _Owner, pid: int) -> bool:
    """Interrupt the owner and wait for its end; False if the announcement is no longer that of its process.

    Raises as end_attachment().
    """
    ended = select.poll()
    ended.register(owner.connection, 0)  # POLLHUP and POLLERR
    try:
        process = os.pidfd_open(owner.pid)
    except OSError:  # it has ended, or is of another PID namespace and shown as 0
        return False
    try:
        if ended.poll(0) or not _still_owns(owner, process):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGINT)
    except PermissionError:
        raise AccessError(
            f"process {pid} is traced by another user's mematlas, PID {owner.pid}; run as root"
        ) from None
    finally:
        os.close(process)
    if not ended.poll(_DETACH_S * 1000):
        raise MematlasError(
            f"process {pid} is still traced: mematlas, PID {owner.pid}, does not end; try again"
        )
    return True


def _still_owns(owner: _Owner, process: int) -> bool:
    """Return whether the process of a pidfd is the one that announced, and runs.

    The kernel keeps the PID of the process that called listen(), though that may have ended, its socket may
    live on in a child, and its PID may be that of any other process now.

    Raises:
        PermissionError: it is of another user.
    """
    try:
        users = set(read_status_of(owner.pid).lines["Uid"].split())
        links = _links(owner.pid)
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return False
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    if waiting.poll(
        0
    ):  # it had ended before: what was read may be of a process that reuses its PID
        return False
    return users == {str(owner.uid)} and any(f"socket:[{each}]" in links for each in owner.inodes)


def _links(pid: int) -> set[str]:
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(each))  # noqa: PTH115  a link to no path
    return found
