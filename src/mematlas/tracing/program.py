"""Checks of a program before it is started: whether it exists, may be run, and can be traced."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import struct
from typing import TYPE_CHECKING

from mematlas.errors import AccessError, TargetError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MACHINES = {"x86_64": 62, "aarch64": 183}  # EM_* of <elf.h>
_PT_INTERP = 3
_MAX_SCRIPT_DEPTH = 4
_HEAD_BYTES = 4096


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


def check_program(path: str) -> None:
    """Check that a program, or the interpreter of a script, can load the tracer.

    Raises:
        AccessError: it gains privileges at exec, and the loader then ignores LD_PRELOAD.
        UsageError: it is static, or no program.
        TargetError: the interpreter of the script does not exist.
        UnsupportedError: it is a 32-bit or musl program, or for another processor.
    """
    for _ in range(_MAX_SCRIPT_DEPTH):
        _check_privileges(path)
        head = _read_head(path)
        if head is None:
            return
        if not head.startswith(b"#!"):
            _check_elf(path, head)
            return
        interpreter = head[2:].split(b"\n", 1)[0].split()
        if not interpreter:
            raise UsageError(f"{path}: its #! line names no interpreter")
        path = os.fsdecode(interpreter[0])
        if not os.path.exists(path):  # noqa: PTH110
            raise TargetError(f"{path}: no such interpreter; the script's #! line names it")


def _read_head(path: str) -> bytes | None:
    """Read the start of a file; None if it may be executed but not read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(_HEAD_BYTES)
    except PermissionError:
        return None


def _check_privileges(path: str) -> None:
    """Check for setuid, setgid and file capabilities: ld.so(8) ignores LD_PRELOAD with them."""
    info = os.stat(path)  # noqa: PTH116
    advice = "it gains privileges at exec and ignores LD_PRELOAD; run it as its owner"
    if info.st_mode & stat.S_ISUID and info.st_uid != os.geteuid():
        raise AccessError(f"{path}: a setuid program cannot be traced: {advice}")
    if info.st_mode & stat.S_ISGID and info.st_gid != os.getegid():
        raise AccessError(f"{path}: a setgid program cannot be traced: {advice}")
    if os.geteuid() != 0:
        try:
            os.getxattr(path, "security.capability")
        except OSError:
            return
        raise AccessError(f"{path}: a program with file capabilities cannot be traced: {advice}")


def _check_elf(path: str, head: bytes) -> None:
    if head[:4] != b"\x7fELF":
        raise UsageError(f"{path}: neither an ELF program nor a script with a #! line")
    machine = platform.machine()
    if head[4:6] != b"\x02\x01" or struct.unpack_from("<H", head, 18)[0] != _MACHINES.get(machine):
        bits = "32-bit program" if head[4:5] == b"\x01" else "program for another processor"
        raise UnsupportedError(f"{path}: a {bits}; this mematlas traces {machine} programs")
    interpreter = _read_interpreter(path)
    if interpreter is None:
        raise UsageError(
            f"{path}: a static program cannot be traced: it loads no libraries; "
            "link it dynamically (without -static)"
        )
    if "ld-musl" in interpreter:
        raise UnsupportedError(f"{path}: built for musl; this mematlas traces glibc programs")


def _read_interpreter(path: str) -> str | None:
    """Read the dynamic loader's path from a program's PT_INTERP segment; None if it is static. elf(5)."""
    with open(path, "rb") as file:  # noqa: PTH123
        start = file.read(64)
        table_offset, entry_size, count = struct.unpack_from("<Q14xHH", start, 32)
        file.seek(table_offset)
        table = file.read(entry_size * count)
        for at in range(0, len(table) - 55, entry_size or 56):
            kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", table, at)
            if kind == _PT_INTERP:
                file.seek(offset)
                return os.fsdecode(file.read(length).rstrip(b"\0"))
    return None
