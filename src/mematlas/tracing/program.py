"""Checks of a program before it is started: whether it exists, may be run, and loads the tracer."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

from mematlas._core import LeftKind, left_kind
from mematlas.errors import AccessError, TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_SCRIPT_DEPTH = 4
_HEAD_BYTES = 256  # as the kernel reads of a script


def find_program(command: Sequence[str]) -> str:
    """Return the path of the program that a command names, found as execvp(3) finds it.

    Raises:
        UsageError: the command is empty, or names a directory.
        TargetError: there is no such program.
        AccessError: the program may not be reached or executed.
    """
    if not command or not command[0]:
        raise UsageError("no command given; write it after `--`, as in: mematlas run -- ls -l")
    name = command[0]
    found = name if "/" in name else shutil.which(name)
    if found is None:
        raise TargetError(f"{name}: command not found; check its spelling and your PATH")
    try:
        mode = os.stat(found).st_mode  # noqa: PTH116  a path as the user wrote it
    except (FileNotFoundError, NotADirectoryError):
        raise TargetError(f"{name}: no such file") from None
    except PermissionError:
        raise AccessError(
            f"{name}: permission denied; check the permissions of its directories"
        ) from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{name}: is a directory, not a program")
    if not os.access(found, os.X_OK):
        raise AccessError(f"{name}: not executable; `chmod +x` it, or run its interpreter")
    return found


WHY_UNTRACED = {
    LeftKind.UNREACHABLE: "another user or another root directory: it cannot open the session",
    LeftKind.STATIC: "static: it loads no libraries",
    LeftKind.OTHER_LIBC: "built for another C library than glibc",
    LeftKind.FOREIGN: "for 32 bits or another processor",
    LeftKind.PRIVILEGED: "gains privileges: its loader ignores LD_PRELOAD",
    LeftKind.SANITIZED: "built with a sanitizer, whose runtime must come first",
    LeftKind.UNREAD: "no file descriptor was left to read it",
}


def check_program(path: str) -> LeftKind:
    """Check that a program, or the interpreter of a script, can be started.

    Returns:
        why the program will run untraced; NOT if it loads the tracer.

    Raises:
        UsageError: it is neither an ELF program nor a script.
        TargetError: the interpreter of the script does not exist.
    """
    program = path
    for _ in range(_MAX_SCRIPT_DEPTH):
        head = _read_head(path)
        if head is None or head.startswith(b"\x7fELF"):
            break
        if not head.startswith(b"#!"):
            raise UsageError(f"{path}: neither an ELF program nor a script with a #! line")
        interpreter = head[2:].split(b"\n", 1)[0].split()
        if not interpreter:
            raise UsageError(f"{path}: its #! line names no interpreter")
        path = os.fsdecode(interpreter[0])
        if not os.path.exists(path):  # noqa: PTH110
            raise TargetError(f"{path}: no such interpreter; the script's #! line names it")
    return left_kind(program)


def _read_head(path: str) -> bytes | None:
    """Read the start of a file; None if it may be executed but not read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(_HEAD_BYTES)
    except PermissionError:
        return None
