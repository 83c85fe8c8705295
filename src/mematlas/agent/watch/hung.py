"""Which process was being read as an agent hung, on disk.

A process can keep its memory map locked, for instance by a page fault in a file system that never answers: who reads its
smaps or command line waits, too, and only a kill ends that. The next agent reads neither of that process.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 64
_WIDTH = 42


class Readings:
    """The process that is being read, and those that were read as earlier agents were killed."""

    def __init__(self, state: str) -> None:
        """Take over what the agent before has left. OSError as of open()."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(Path(state, "reading"), flags, 0o600)
        path = Path(state, "hung")
        text = path.read_text() if path.exists() else ""
        found = [*text.splitlines(), os.pread(self._file, _WIDTH, 0).decode("ascii", "replace")]
        keys = [tuple(each.split()) for each in found]
        known = [each for each in keys if len(each) == 2 and all(x.isdecimal() for x in each)]
        known = known[-_MOST:]
        self.hung = {(int(pid), int(started)) for pid, started in known}
        if known:
            lines = "".join(f"{pid} {started}\n" for pid, started in known)
            with suppress(OSError):
                path.write_text(lines)
        self._write("")

    @contextmanager
    def of(self, pid: int, started: int) -> Iterator[None]:
        """Note that a process is being read."""
        self._write(f"{pid} {started}")
        try:
            yield
        finally:
            self._write("")

    def _write(self, text: str) -> None:
        with suppress(OSError):
            os.pwrite(self._file, text.ljust(_WIDTH).encode(), 0)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
