"""The files in which a JIT compiler of a traced process names its code.

The process chose their content, and perhaps their place: each is opened in the process's root, below no
symbolic link, only if it is a regular file of the process's own user.

"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Self

from mematlas.recording.jit_code import MOST_BYTES, read_jitdump, read_perf_map

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_DUMP = re.compile(rb" (/[^\n]*/jit-\d+\.dump)$", re.MULTILINE)
_MOST_MAPS = 16 << 20
_CLOCK_ERROR_S = 2.0  # the start is in ticks, times of files are those of the last tick


class JitFiles:
    """Files of one process, opened while it lived."""

    def __init__(self, pid: int) -> None:
        """Open what there is; a process that is gone has none."""
        self._maps: list[IO[bytes]] = []
        self._dumps: list[IO[bytes]] = []
        with suppress(OSError, ValueError, IndexError):
            self._open(pid)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._maps) + len(self._dumps)

    def entries(self) -> Iterator[tuple[int, int, str]]:
        """Yield start, size and name of all code."""
        with suppress(OSError, ValueError):
            for file in self._dumps:
                yield from read_jitdump(file)
            for file in self._maps:
                yield from read_perf_map(file)

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        for file in (*self._maps, *self._dumps):
            file.close()

    def _open(self, pid: int) -> None:
        process = os.open(f"/proc/{pid}", _FOLDER)
        try:
            status = _read(process, "status", 1 << 16)
            user = int(_field(status, b"Uid").split()[1])
            inner = int((_field(status, b"NSpid") or _field(status, b"Pid")).split()[-1])
            born = _start_s(process)
            root = os.open("root", _FOLDER, dir_fd=process)
            try:
                self._maps += _opened(root, ["tmp", f"perf-{inner}.map"], user, born)
                for path in sorted(set(_DUMP.findall(_read(process, "maps", _MOST_MAPS)))):
                    parts = os.fsdecode(path).split("/")[1:]
                    self._dumps += _opened(root, parts, user, born)
            finally:
                os.close(root)
        finally:
            os.close(process)


def _start_s(process: int) -> float:
    """Return the start of a process, as the times of files."""
    fields = _read(process, "stat", 1 << 12).rpartition(b")")[2].split()
    since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


def _opened(root: int, parts: list[str], user: int, born: float) -> list[IO[bytes]]:
    """Open a file below a folder, without following a link; [] if it is not what it should be.

    A file older than the process is that of an earlier process with its PID.
    """
    folder, opened = os.dup(root), -1
    try:
        for part in parts[:-1]:
            if part == "..":
                return []
            below = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        opened = os.open(parts[-1], _FLAGS, dir_fd=folder)
        found = os.fstat(opened)
        if (
            stat.S_ISREG(found.st_mode)
            and found.st_uid == user
            and found.st_size <= MOST_BYTES
            and found.st_mtime >= born - _CLOCK_ERROR_S
        ):
            return [os.fdopen(opened, "rb")]
        os.close(opened)
    except OSError:
        pass
    finally:
        os.close(folder)
    return []


def _read(process: int, name: str, most: int) -> bytes:
    opened = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    with os.fdopen(opened, "rb") as file:
        return file.read(most)


def _field(status: bytes, name: bytes) -> bytes:
    for line in status.splitlines():
        key, _, value = line.partition(b":")
        if key == name:
            return value
    return b""
