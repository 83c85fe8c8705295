"""Passing a socket to a stopped thread's process, which may be in another network namespace."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING

from mematlas.linux.system_calls import system_call_number

if TYPE_CHECKING:
    from mematlas._core import StoppedThread

_SOCK_CLOEXEC, _MSG_CMSG_CLOEXEC = 0x80000, 0x40000000
_PAIR = struct.Struct("ii")
_IOVEC = struct.Struct("QQ")
_HEADER = struct.Struct("QIxxxxQQQQixxxx")  # struct msghdr
_CONTROL = struct.Struct("Qiiixxxx")  # struct cmsghdr and one descriptor
_CONTROL_BYTES = 20  # CMSG_LEN(sizeof(int))


def pass_socket(thread: StoppedThread, name: str) -> int:
    """Connect to a name in the abstract namespace here; return the number of the socket in the process.

    Raises:
        OSError: a system call in the process failed, or nobody listens.
    """
    pair = thread.put(bytes(_PAIR.size))
    thread.system_call(
        system_call_number("socketpair"),
        socket.AF_UNIX,
        socket.SOCK_SEQPACKET | _SOCK_CLOEXEC,
        0,
        pair,
    )
    near, far = _PAIR.unpack(thread.get(pair, _PAIR.size))
    try:
        with (
            socket.socket(fileno=thread.take_descriptor(near)) as end,
            socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection,
        ):
            connection.connect("\0" + name)
            socket.send_fds(end, [b"s"], [connection.fileno()])
            return _receive(thread, far)
    finally:
        close_there(thread, near)
        close_there(thread, far)


def close_there(thread: StoppedThread, descriptor: int) -> None:
    """Close a descriptor of the process."""
    thread.system_call(system_call_number("close"), descriptor)


def _receive(thread: StoppedThread, descriptor: int) -> int:
    data, control = thread.put(bytes(16)), thread.put(bytes(_CONTROL.size))
    vector = thread.put(_IOVEC.pack(data, 1))
    header = thread.put(_HEADER.pack(0, 0, vector, 1, control, _CONTROL.size, 0))
    thread.system_call(system_call_number("recvmsg"), descriptor, header, _MSG_CMSG_CLOEXEC)
    *kind, number = _CONTROL.unpack(thread.get(control, _CONTROL.size))
    # The kernel leaves the room as it was, MSG_CTRUNC, if the process may open no more files.
    if kind != [_CONTROL_BYTES, socket.SOL_SOCKET, socket.SCM_RIGHTS] or number < 0:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return int(number)
