"""The agent as a service: its folder, signals, the socket that an upgrade keeps, and what it tells systemd."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mematlas.errors import AccessError, UsageError
from mematlas.present.printable import clean

if TYPE_CHECKING:
    from types import FrameType

SOCKET = "MEMATLAS_AGENT_SOCKET"  # in the environment of an agent that is begun anew


def take_folder(state: str) -> int:
    """Make the folder of the state, of this user alone, and lock it."""
    folder = Path(state)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            raise AccessError(
                f"{folder} belongs to another user; give a folder of your own: state = ..."
            )
        folder.chmod(0o700)  # recordings and reports tell of other users' programs
        file = os.open(
            folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
    except PermissionError:
        raise AccessError(
            f"cannot write {folder}; run as root, or set state in the settings"
        ) from None
    end = time.monotonic() + 2.0
    while True:  # a recorder asks for a moment whether the lock is free
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > end:
                os.close(file)
                raise UsageError(f"another agent runs with the folder {folder}") from None
            time.sleep(0.05)
        else:
            return file


def socket_words(file: int, listen: str) -> str:
    """Format the listening socket for the agent that replaces this one, with the address it listens on."""
    return f"{file} {listen}"


def inherited_socket(listen: str) -> int | None:
    """Return the listening socket of the agent that this one replaces; None without one.

    A socket of another address is closed: what protects `listen` may not protect that address.
    """
    text, _, address = os.environ.pop(SOCKET, "").partition(" ")
    if not text.isdecimal():
        return None
    file = int(text)
    with suppress(OSError), socket.socket(fileno=os.dup(file)) as found:
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            if address == listen:
                os.set_inheritable(file, False)
                return file
            os.close(file)
    return None


def catch_signals(flags: set[int], numbers: tuple[int, ...]) -> int:
    """Collect signals in a set; return a descriptor that becomes readable with each."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def note(number: int, _frame: FrameType | None) -> None:
        flags.add(number)

    for number in numbers:
        signal.signal(number, note)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def say(text: str) -> None:
    """Write a line to standard error, which a journal or a container's log keeps."""
    print(f"mematlas agent: {clean(text)}", file=sys.stderr, flush=True)  # noqa: T201


def notify(text: str) -> None:
    """Send a state to systemd; do nothing where it did not start us."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as file,
    ):
        file.sendto(text.encode(), address)
