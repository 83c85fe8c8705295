"""Passing a socket to a process that may not take it."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from mematlas.tracing.passing import pass_socket

SOCKETPAIR, RECVMSG = 53, 47


class Thread:
    """A stopped thread of this process, whose recvmsg() leaves `control` in the room for it."""

    def __init__(self, control: bytes) -> None:
        """Reserve no memory yet."""
        self.control = control
        self.memory: list[bytes] = []
        self.closed: list[int] = []
        self.pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def put(self, data: bytes) -> int:
        """Return the index of the data as its address."""
        self.memory.append(data)
        return len(self.memory) - 1

    def get(self, address: int, size: int) -> bytes:
        """Return the data of an address."""
        return self.memory[address][:size]

    def system_call(self, number: int, *arguments: int) -> int:
        """Make the calls of pass_socket()."""
        if number == SOCKETPAIR:
            numbers = [each.fileno() for each in self.pair]
            self.memory[arguments[3]] = struct.pack("ii", *numbers)
        elif number == RECVMSG:
            control = struct.unpack_from("QIxxxxQQQ", self.memory[arguments[1]])[4]
            self.memory[control] = self.control
        else:
            self.closed.append(arguments[0])
        return 0

    def take_descriptor(self, number: int) -> int:
        """Duplicate a descriptor."""
        return os.dup(number)


def passed(control: bytes) -> int:
    """Return the result of pass_socket() with this control data."""
    thread, name = Thread(control), f"mematlas-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind("\0" + name)
        listener.listen()
        try:
            return pass_socket(thread, name)  # type: ignore[arg-type]
        finally:
            assert thread.closed == [each.fileno() for each in thread.pair]
            for each in thread.pair:
                each.close()


def test_a_descriptor_that_came() -> None:
    """The number is that of the control message."""
    assert passed(struct.pack("Qiiixxxx", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, 7)) == 7


@pytest.mark.parametrize(
    "control",
    [
        bytes(24),
        struct.pack("Qiiixxxx", 16, socket.SOL_SOCKET, socket.SCM_RIGHTS, 0),
        struct.pack("Qiiixxxx", 20, socket.SOL_SOCKET, 2, 0),
        struct.pack("Qiiixxxx", 20, socket.SOL_SOCKET, socket.SCM_RIGHTS, -1),
    ],
    ids=["truncated", "short", "other type", "no number"],
)
def test_a_descriptor_that_did_not_come(control: bytes) -> None:
    """Standard input is not taken for the socket."""
    with pytest.raises(OSError, match="Too many open files") as caught:
        passed(control)
    assert caught.value.errno == errno.EMFILE
