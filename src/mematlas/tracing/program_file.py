"""The file of a running program, read through /proc: the same in any root directory, also after it was replaced."""

from __future__ import annotations

from pathlib import Path

from mematlas.recording import elf


def read_build_id(pid: int, executable: str) -> str:
    """Read the build ID of the program that a process runs, in hexadecimal.

    "" if it has none, cannot be read, or is no longer `executable`, because the process called exec.
    """
    path = Path(f"/proc/{pid}/exe")
    try:
        found = elf.read_build_id(path)
        now = str(path.readlink())
    except OSError:
        return ""
    return found if _name(now) == _name(executable) else ""


def _name(path: str) -> str:
    return path.removesuffix(" (deleted)")
