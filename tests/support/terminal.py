"""Commands in a terminal: what they print in one, and how they end when it is gone."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LINES = 24
_PATIENCE_S = 60.0


def print_in_terminal(command: Sequence[str | os.PathLike[str]], columns: int = 80) -> str:
    """Return what a command prints in a terminal of some columns, without colours. It must succeed."""
    ours, its = _open(columns)
    known = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=its,
        stderr=subprocess.DEVNULL,
        env={**known, "TERM": "dumb", "NO_COLOR": "1"},
    ) as process:
        os.close(its)
        text = b""
        try:
            while piece := os.read(ours, 1 << 16):
                text += piece
        except OSError:  # EIO: the other side is closed
            pass
        os.close(ours)
    assert process.returncode == 0
    return text.decode().replace("\r\n", "\n")


def end_with_terminal(
    command: Sequence[str | os.PathLike[str]],
    drawn: bytes,
    *,
    more: Callable[[], bool] = lambda: True,
) -> int:
    """Return the status of a command whose terminal is gone once it has drawn some text and `more` is true.

    The command gets no SIGHUP, since it does not lead the session of the terminal.
    """
    ours, its = _open(80)
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        try:
            text, end = b"", time.monotonic() + _PATIENCE_S
            while not (drawn in text and more()) and time.monotonic() < end:
                if select.select([ours], [], [], 0.1)[0]:
                    text += os.read(ours, 1 << 16)
            assert drawn in text
        finally:
            os.close(ours)
        try:
            return process.wait(_PATIENCE_S)
        finally:
            process.kill()


def _open(columns: int) -> tuple[int, int]:
    """Open a terminal of some columns: our side and that of the program."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, columns, 0, 0))
    return ours, its
