"""Can this command be traced? Found out before it is started, and said in one line."""

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

_MACHINES = {"x86_64": 62, "aarch64": 183}
_PT_INTERP = 3
_SCRIPT_DEPTH = 4
_HEAD_BYTES = 4096


def find_program(command: Sequence[str]) -> str:
    """Path of the program the command names, as execvp() would find it."""
    if not command or not command[0]:
        raise UsageError("no command given; write it after `--`, as in: mematlas run -- ls -l")
    name = command[0]
    found = name if "/" in name else shutil.which(name)
    if found is None:
        raise TargetError(f"{name}: command not found; check its spelling and your PATH")
    try:
        mode = os.stat(found).st_mode  # noqa: PTH116  a path as the user wrote it
    except (FileNotFoundError, NotADirectoryError):
        raise TargetError(f"{name}: there is no such file") from None
    except PermissionError:
        raise AccessError(f"{name}: you may not reach this file; check its directories") from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{name}: this is a directory, not a program")
    if not os.access(found, os.X_OK):
        raise AccessError(f"{name}: not executable; `chmod +x` it, or run its interpreter")
    return found


def check_program(path: str) -> None:
    """Raise what keeps the tracer out of this program, if anything does."""
    for _ in range(_SCRIPT_DEPTH):
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
            raise TargetError(f"{path}: the script's interpreter is not there")


def _read_head(path: str) -> bytes | None:
    """Start of the file; None if it may be run but not read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(_HEAD_BYTES)
    except PermissionError:
        return None


def _check_privileges(path: str) -> None:
    """Programs that gain rights at exec ignore LD_PRELOAD."""
    facts = os.stat(path)  # noqa: PTH116
    advice = "it gains rights when started and ignores the tracer; run it as its owner"
    if facts.st_mode & stat.S_ISUID and facts.st_uid != os.geteuid():
        raise AccessError(f"{path}: a setuid program cannot be traced: {advice}")
    if facts.st_mode & stat.S_ISGID and facts.st_gid != os.getegid():
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
    interpreter = _interpreter(path)
    if interpreter is None:
        raise UsageError(
            f"{path}: a static program cannot be traced: it loads no libraries; "
            "link it dynamically (without -static)"
        )
    if "ld-musl" in interpreter:
        raise UnsupportedError(f"{path}: built for musl; this mematlas traces glibc programs")


def _interpreter(path: str) -> str | None:
    with open(path, "rb") as file:  # noqa: PTH123
        start = file.read(64)
        offset, size, count = struct.unpack_from("<Q14xHH", start, 32)
        file.seek(offset)
        table = file.read(size * count)
        for at in range(0, len(table) - 55, size or 56):
            kind, _, where, _, _, length = struct.unpack_from("<IIQQQQ", table, at)
            if kind == _PT_INTERP:
                file.seek(where)
                return os.fsdecode(file.read(length).rstrip(b"\0"))
    return None
