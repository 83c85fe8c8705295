"""Nested memory cgroups, version 1 or 2, with programs in them; removed at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_V1, _V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
_HOLD = """
import sys
blocks = []
print(flush=True)
for line in sys.stdin:
    blocks.append(bytearray(b"x") * int(line))
    print(flush=True)
"""


@dataclass(frozen=True)
class Cgroup:
    """One memory cgroup."""

    path: Path
    version: int

    def limit(self, size: int) -> None:
        """Set the memory limit."""
        name = "memory.limit_in_bytes" if self.version == 1 else "memory.max"
        (self.path / name).write_text(str(size))
        if self.version == 2:
            with suppress(OSError):
                (self.path / "memory.swap.max").write_text("0")

    def enter(self) -> None:
        """Move this process into it: a program's, before it begins."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def kills(self) -> int:
        """Return the number of OOM kills caused by this cgroup's own limit."""
        if self.version == 1:
            return int((self.path / "memory.failcnt").read_text())
        events = (self.path / "memory.events.local").read_text().split()
        return int(dict(zip(events[::2], events[1::2], strict=True))["oom"])


class CgroupProgram:
    """A program in a cgroup that allocates memory on command."""

    def __init__(self, cgroup: Cgroup) -> None:
        """Start the program in its cgroup, from the first page on."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=cgroup.enter,  # noqa: PLW1509
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self.pid = self._process.pid

    def allocate(self, size: int) -> bool:
        """Make the program allocate memory; return False if it is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{size}\n")
        self._process.stdin.flush()
        return bool(self._process.stdout.readline())

    def end(self) -> int:
        """End the program and return its exit status."""
        self._process.kill()
        status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return status


@contextmanager
def nested() -> Iterator[tuple[Cgroup, Cgroup, Cgroup]]:
    """Create a cgroup with two child cgroups."""
    with _made("", "b", "c") as (top, first, second):
        yield top, first, second


@contextmanager
def memory_cgroup() -> Iterator[Cgroup]:
    """Create one cgroup. In version 2 a cgroup whose children have controllers takes no process."""
    with _made("") as (group,):
        yield group


@contextmanager
def _made(*names: str) -> Iterator[list[Cgroup]]:
    """Create cgroups below a new one, which "" stands for."""
    version = 1 if _V1.is_dir() else 2
    top = (_V1 if version == 1 else _V2) / f"mematlas-test-{os.getpid()}"
    made: list[Path] = []
    try:
        try:
            for path in (top / name for name in names):
                if version == 2:
                    (path.parent / "cgroup.subtree_control").write_text("+memory")
                path.mkdir()
                made.append(path)
        except OSError as error:
            pytest.skip(f"no memory cgroup can be made here: {error}")
        yield [Cgroup(path, version) for path in made]
    finally:
        for path in reversed(made):
            _remove(path)


def _remove(path: Path) -> None:
    end = time.monotonic() + 60
    for pid in (path / "cgroup.procs").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    while True:
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return
