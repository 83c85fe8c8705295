"""Which process `mematlas detach` interrupts."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mematlas.tracing.attachment import end_attachment, parse_sockets
from waiting import wait_until

NO_PID = (1 << 22) + 1  # above pid_max


def line(name: str, inode: int = 5) -> str:
    """Return a line of /proc/net/unix."""
    return f"0000000000000000: 00000002 00000000 00010000 0005 01 {inode} {name}\n"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("@mematlas-attach.7.0123456789abcdef", True),
        ("@mematlas-attach.7.0123456789abcdef x", False),
        ("@other @mematlas-attach.7.0123456789abcdef", False),
        ("@mematlas-attach.7.0123456789abcde", False),
        ("@mematlas-attach.7.0123456789ABCDEF", False),
        ("@mematlas-attach.71.0123456789abcdef", False),
        ("", False),
    ],
)
def test_names_of_sockets(name: str, found: bool) -> None:
    """A name with other text around it is no announcement."""
    sockets = parse_sockets(line(name) + line("@z", 6), "@mematlas-attach.7.")
    assert sockets == ({name: {"5"}} if found else {})


@pytest.mark.parametrize("fate", ["os._exit(0)", "s.close(); signal.pause()"])
def test_a_socket_that_a_child_keeps_is_not_followed(fate: str) -> None:
    """The kernel tells the PID that called listen(), which has ended or closed the socket."""
    name = f"mematlas-attach.{NO_PID}.{secrets.token_hex(8)}"
    code = f"""
import os, signal, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind("\\0{name}")
s.listen()
child = os.fork()
if not child: signal.pause()
print(child, flush=True)
{fate}
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            if "exit" in fate:
                parent.wait(60)
            else:
                wait_until(lambda: not has_socket(parent.pid), "the end of the announcement")
            assert not end_attachment(NO_PID)
            assert parent.poll() == (0 if "exit" in fate else None)
        finally:
            os.kill(child, signal.SIGKILL)
            parent.kill()


def has_socket(pid: int) -> bool:
    """Return whether a process has a socket open."""
    return any("socket:" in os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir())  # noqa: PTH115


def test_the_announcing_process_is_interrupted() -> None:
    """It gets SIGINT, and its end is awaited."""
    code = f"""
import signal
from mematlas.tracing.attachment import Attachment
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
with Attachment({NO_PID}):
    print("ready", flush=True)
    signal.sigwait([signal.SIGINT])
print("interrupted", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        wait_until(lambda: end_attachment(NO_PID), "the announcement")
        assert owner.stdout.readline() == "interrupted\n"
